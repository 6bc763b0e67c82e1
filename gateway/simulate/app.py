"""`gatewayctl simulate vllm|sglang|mindie`: arguments, one line when listening, and a stop on SIGINT or SIGTERM."""

import argparse
import asyncio
import math
import signal
import ssl
import sys
from collections.abc import Sequence

import uvloop

from gateway.config.expand import why
from gateway.simulate import script as scripts
from gateway.simulate.faults import Script
from gateway.simulate.listener import CannotListen
from gateway.simulate.settings import DEFAULT_PORT, KINDS, Settings
from gateway.simulate.simulator import Simulator

_EXAMPLES = """\
Examples:
  gatewayctl simulate vllm --port 8001 --model qwen3 --tps 50
  gatewayctl simulate mindie --ttft 200ms --script faults.yaml
"""
REMEMBERED = 100
"""Requests kept by a simulator that nobody asks for them."""


def main(argv: Sequence[str]) -> int:
    """Run until stopped. Returns the exit status: 0 stopped, 1 could not listen, 2 wrong arguments or script."""
    arguments = parser().parse_args(argv)
    try:
        script = scripts.load(arguments.script) if arguments.script else Script()
    except OSError as error:
        return _fail(2, f"the fault script {arguments.script} cannot be read: {why(error)}")
    except scripts.ScriptError as error:
        return _fail(2, *error.mistakes)
    try:
        uvloop.run(_run(settings_of(arguments), script))
    except ssl.SSLError as error:
        return _fail(1, f"cannot use the certificate: {error}")
    except CannotListen as error:
        return _fail(1, str(error))
    except OSError as error:
        return _fail(1, f"cannot use the certificate {arguments.tls_cert}: {why(error)}")
    return 0


class _Parser(argparse.ArgumentParser):
    """Its help begins with examples, as that of all commands."""

    def format_help(self) -> str:
        return f"{_EXAMPLES}\n{super().format_help()}"


def parser() -> argparse.ArgumentParser:
    """The command line; docs/simulators.md lists it."""
    found = _Parser(prog="gatewayctl simulate", description="An engine without accelerators, for drills and tests.")
    found.add_argument("kind", choices=KINDS)
    _add_load(found)
    _add_shape(found)
    _add_wire(found)
    _add_mindie(found)
    return found


def _add_load(found: argparse.ArgumentParser) -> None:
    group = found.add_argument_group("pace and load")
    group.add_argument("--tps", type=_pace, default=0.0, help="tokens per second of one request, 0: as fast as possible")
    group.add_argument("--ttft", type=_duration, default=0.0, help="time before the first token: 200ms, 1s or 0.5")
    group.add_argument("--burst", type=_count, default=1, help="events per write of a stream")
    group.add_argument("--max-running", type=_count, default=0, help="requests that generate at once; others wait (0: all)")
    group.add_argument("--max-queued", type=_count, default=0, help='from this many requests on: "queue full" (0: never)')
    group.add_argument("--script", default="", help="fault script, YAML")
    group.add_argument("--seed", type=int, default=0, help="for filler words and for `share` in the fault script")


def _add_shape(found: argparse.ArgumentParser) -> None:
    group = found.add_argument_group("model")
    group.add_argument("--model", action="append", dest="models", help="served model, may be repeated (qwen3)")
    group.add_argument("--version", default="", help="engine version, chooses the era of its shapes")
    group.add_argument("--max-model-len", type=_count, default=32768)
    group.add_argument("--reply-tokens", type=_count, default=16, help="length of a reply that ends by itself")
    group.add_argument(
        "--reasoning", nargs="?", const="field", default="", choices=("field", "inline"), help="reason first, in a field or as <think>"
    )


def _add_wire(found: argparse.ArgumentParser) -> None:
    group = found.add_argument_group("wire")
    group.add_argument("--host", default="127.0.0.1")
    group.add_argument("--port", type=_port, help="0: any free port (vllm 8000, sglang 30000, mindie 1025)")
    group.add_argument("--keepalive", type=_duration, default=5.0, help="idle connections are closed after this time")
    group.add_argument("--api-key", default="", help="vllm and sglang only")
    group.add_argument("--tls-cert", default="")
    group.add_argument("--tls-key", default="")
    group.add_argument("--tls-client-ca", default="", help="require client certificates of this CA")


def _add_mindie(found: argparse.ArgumentParser) -> None:
    group = found.add_argument_group("mindie only")
    group.add_argument("--management-port", type=_port, help="default: the business port; 0: any free port")
    group.add_argument("--metrics-port", type=_port, help="default: the business port; 0: any free port")
    group.add_argument("--max-iter-times", type=_count, default=512)
    group.add_argument("--max-input-len", type=_count, default=0)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Arguments → Settings: names are the same, defaults that depend on the engine are filled in."""
    values = {name: value for name, value in vars(arguments).items() if name not in ("script", "models", "port")}
    port = DEFAULT_PORT[arguments.kind] if arguments.port is None else arguments.port
    return Settings(models=tuple(arguments.models or ("qwen3",)), port=port, keep=REMEMBERED, **values)


def banner(simulator: Simulator) -> str:
    """The line that says where it listens."""
    settings = simulator.settings
    line = f"simulate {settings.kind} model={','.join(settings.models)} listening on {simulator.url}"
    if settings.kind == "mindie":
        line += f" management {simulator.management_url} metrics {simulator.metrics_url}"
    return line


async def _run(settings: Settings, script: Script) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    simulator = Simulator(settings, script)
    await simulator.open()
    try:
        print(banner(simulator), flush=True)
        await stop.wait()
    finally:
        await simulator.stop()


def _port(text: str) -> int:
    """Errors: ArgumentTypeError."""
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"`{text}` is no port, write a number from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    """Errors: ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"`{text}` is no count, write a whole number from 0")
    return int(text)


def _pace(text: str) -> float:
    """Errors: ArgumentTypeError."""
    try:
        pace = float(text)
    except ValueError:
        pace = -1.0
    if not 0 <= pace < math.inf:
        raise argparse.ArgumentTypeError(f"`{text}` is no pace, write tokens per second, 0 for as fast as possible")
    return pace


def _duration(text: str) -> float:
    try:
        return scripts.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fail(status: int, *lines: str) -> int:
    for line in lines:
        print(f"gatewayctl simulate: {line}", file=sys.stderr)
    return status
