"""`make bench`: what a request and a chunk cost, in CPU of the whole process tree, beside others in the same run.

With the side-by-side benchmark in ../shared/bench (nginx, vllm-router and others) that one is run, and with --write its
table goes into docs/performance.md. Without it: our own smaller comparison of the gateway with the engine alone, a
simulated vLLM under `wrk`.

Measured is what the binary is made of, the compiled hot path; where there is no C compiler, or with --plain, plain Python.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIDE_BY_SIDE = ROOT.parent / "shared" / "bench"
KEY = "sk-perf-0123456789abcdef0123456789abcdef"
GATEWAY, ENGINE = 8110, 9000
START, END = "<!-- bench:start -->", "<!-- bench:end -->"
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", default="nginx,vllm-router", help="peers of the side-by-side benchmark")
    parser.add_argument("--tests", default="rps1k,rps32k,sse200,burst10,ttft,mem")
    parser.add_argument("--workers", type=int, default=1, help="of the gateway, all on the one core it is given")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--floor", action="store_true", help="measure an empty relay in Python (bench/floor.py) in the gateway's place")
    parser.add_argument("--unlimited", action="store_true", help="without limits on the key, which may cost up to 15 µs a request")
    parser.add_argument("--plain", action="store_true", help="measure plain Python, without the compiled hot path")
    options = parser.parse_args()
    code = ROOT if options.plain or options.floor else compiled()
    for place in (ROOT, ROOT / "bench", code, code / "bench"):
        shutil.rmtree(place / ".bench", ignore_errors=True)
    if (SIDE_BY_SIDE / "bench.py").exists():
        table, command = side_by_side(options, code)
    else:
        table, command = alone(code), "make bench"
    print(table if code != ROOT else f"plain Python\n\n{table}")
    if options.write:
        write(table, command)
    return 0


def compiled() -> Path:
    """Where the compiled hot path is; the project's own folder where it cannot be compiled, which is then said."""
    done = subprocess.run([sys.executable, str(ROOT / "packaging" / "compiled.py")], check=False)
    return ROOT / "build" / "compiled" if done.returncode == 0 else ROOT


def side_by_side(options: argparse.Namespace, code: Path) -> tuple[str, str]:
    """The benchmark that everybody in the comparison runs under."""
    home = Path(os.environ.get("BENCH_HOME", Path.home() / ".cache" / "gateway-bench"))
    if not (home / "bin" / "mock").exists():
        subprocess.run([str(SIDE_BY_SIDE / "setup.sh")], check=True)
    config = ROOT / "bench" / "out" / "gateway.yaml"
    config.parent.mkdir(exist_ok=True)
    text = (ROOT / "bench" / "gateway.yaml").read_text().replace("workers: 1\n", f"workers: {options.workers}\n")
    config.write_text(text.partition("    limits:")[0] if options.unlimited else text)
    environment = {
        **os.environ,
        "PYTHONPATH": str(code),
        "GATEWAY_DIR": str(code),
        "GATEWAY_CMD": f"{sys.executable} -m gateway serve --config {config}",
    }
    if options.floor:
        environment["GATEWAY_CMD"] = f"{sys.executable} {ROOT / 'bench' / 'floor.py'}"
    command = ["bench.py", "-q", "-n", f"gateway,{options.against}", "-t", options.tests, "-r", str(options.rounds)]
    run = [sys.executable, str(SIDE_BY_SIDE / command[0]), *command[1:]]
    done = subprocess.run(run, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip(), f"make bench ARGS='--rounds {options.rounds} --against {options.against} --write'"


def alone(code: Path) -> str:
    """The gateway and the simulated engine by itself, under the same load."""
    if shutil.which("wrk") is None:
        return "`wrk` is missing (Debian: apt install wrk); nothing was measured."
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        body = {"model": "gpt-mock", "max_tokens": 40, "messages": [{"role": "user", "content": "Explain reverse proxies. " * 36}]}
        engine = [sys.executable, "-m", "gateway.simulate", "vllm", "--port", str(ENGINE), "--model", "mock-model", "--model", "gpt-mock"]
        serve = [sys.executable, "-m", "gateway", "serve", "--config", "bench/gateway.yaml"]
        script.write_text(
            f"wrk.method='POST'; wrk.body={json.dumps(json.dumps(body))}; wrk.headers['Content-Type']='application/json'; "
            f"wrk.headers['Authorization']='Bearer {KEY}'"
        )
        rows = ["| 1 KB requests, 64 connections | requests/s | CPU µs a request |", "|---|---|---|"]
        with (
            running(engine, f"http://127.0.0.1:{ENGINE}/health", code) as mock,
            running(serve, f"http://127.0.0.1:{GATEWAY}/readyz", code) as gateway,
        ):
            rows.append(row("engine alone", ENGINE, mock, script))
            rows.append(row("gateway", GATEWAY, gateway, script))
    return "\n".join(rows)


def row(name: str, port: int, process: subprocess.Popen[bytes], script: Path) -> str:
    before = cpu(process.pid)
    command = ["wrk", "-t1", "-c64", "-d5s", "-s", str(script), f"http://127.0.0.1:{port}/v1/chat/completions"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    assert found is not None, said
    requests = int(found[1])
    return f"| {name} | {requests / float(found[2]):.0f} | {(cpu(process.pid) - before) / requests * 1e6:.0f} |"


@contextlib.contextmanager
def running(command: list[str], ready: str, code: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers `ready`, stopped at the end."""
    process = subprocess.Popen(command, cwd=code, env={**os.environ, "PYTHONPATH": str(code)}, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(ready, timeout=1).read()
                break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def cpu(pid: int) -> float:
    """User and system seconds of a process tree, reaped children included."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError):
            total += sum(map(int, Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
            todo += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return total / TICKS


def write(table: str, command: str) -> None:
    page = ROOT / "docs" / "performance.md"
    text = page.read_text()
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    machine = f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    page.write_text(f"{before}{START}\n{date.today()}, {machine}: `{command}`\n\n{table}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
