"""One executable, several roles: `gateway serve` starts the others. Sysadmins use `gatewayctl`."""

import importlib
import os
import sys
from pathlib import Path

from gateway.config.streams import open_streams


def main() -> int:
    """`gateway ROLE …`. Roles: serve; control, worker, fit (started by serve), tokenizer (by control); simulate, probe, tariff, ledger,
    examine, records."""
    open_streams()
    role, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    match role:
        case "serve":
            return _serve(arguments)
        case "control":
            if missing := _missing_extensions():  # asked here, because the supervisor stays small without aiohttp
                print(f"gateway: {missing}", file=sys.stderr)
                return 1
            from gateway import control

            return control.main(arguments)
        case "worker":
            from gateway import worker

            return worker.main(arguments)
        case "fit":
            if missing := _missing_extensions():
                print(f"gateway: {missing}", file=sys.stderr)
                return 1
            from gateway.upgrade.fitness import main as fit

            return fit(arguments)
        case "simulate":
            from gateway.simulate import app

            return app.main(arguments)
        case "probe":
            from gateway.discover.role import main as probe

            return probe(arguments)
        case "tariff":
            from gateway.tariff import main as tariff

            return tariff(arguments)
        case "ledger":
            from gateway.accountant import main as ledger

            return ledger(arguments)
        case "examine":
            from gateway.discover.examine import main as examine

            return examine()
        case "tokenizer":
            from gateway.tokens.role import main as tokenizer

            return tokenizer(arguments)
        case "records":
            from gateway.meter.role import main as records

            return records(arguments)
    print("usage: gateway serve [--config FILE] [--resume]   (see gatewayctl --help)", file=sys.stderr)
    return 2


def _serve(arguments: list[str]) -> int:
    import argparse

    from gateway import supervisor

    parser = argparse.ArgumentParser(prog="gateway serve")
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("GATEWAY_CONFIG", "/etc/gateway/gateway.yaml")))
    parser.add_argument("--resume", action="store_true", help="when the file is bad, serve the last good revision")
    parser.add_argument("--estate", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    return supervisor.main(options.config.absolute(), options.resume, options.estate)


def _missing_extensions() -> str:
    """aiohttp's pure-Python parser is slower and has had request smuggling faults: without the C one we do not start."""
    if os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        return "AIOHTTP_NO_EXTENSIONS is set, which makes aiohttp do without its C extensions; unset it"
    for module in ("aiohttp._http_parser", "aiohttp._http_writer"):
        try:
            importlib.import_module(module)
        except ImportError:
            return f"aiohttp was installed without its C extension {module}; install the binary wheel of aiohttp for this platform"
    return ""


if __name__ == "__main__":
    sys.exit(main())
