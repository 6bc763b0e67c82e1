"""The floors of the house (docs/architecture.md): who may import whom, who does no I/O, and what a process never loads."""

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    **dict.fromkeys(("exchange", "record", "errors", "words"), 0),
    "wire": 1,
    "config": 2,
    **dict.fromkeys(("failpoint", "moment", "steady"), 2),
    **dict.fromkeys(("auth", "guard", "route", "engine", "price"), 3),
    **dict.fromkeys(
        ("accept", "relay", "meter", "log", "mcp", "admin", "discover", "referee", "ledger", "alert", "bus", "simulate", "tokens"), 4
    ),
    **dict.fromkeys(("serve", "report", "upgrade"), 5),
    **dict.fromkeys(("pipeline", "govern", "tariff"), 6),
    **dict.fromkeys(("supervisor", "control", "worker"), 7),
    "accountant": 7,
    "__main__": 8,
}
"""Every file and folder of gateway/ and its floor. A module imports only from lower floors or its own folder."""

ONE_SUBJECT = {0}
"""Floors of plain files that together are one subject: they may import each other."""

PURE = {0, 1, 3}
"""Floors that do no I/O: time and randomness come in as arguments."""

DOES_IO = set(
    "aiohttp asyncio concurrent duckdb fcntl http httptools io logging mmap multiprocessing os pathlib random secrets select selectors "
    "shutil signal socket ssl subprocess tempfile threading time urllib uvloop watchfiles".split()
)
READS_THE_CLOCK = {"now", "utcnow", "today", "localtime"}
WORKERS_NEVER_LOAD = {"duckdb", "mcp", "pydantic", "pydantic_settings", "rich", "typer", "watchfiles", "yaml"}
HELP_NEVER_LOADS = {"aiohttp", "asyncio", "duckdb", "mcp", "msgspec", "pydantic", "rich", "uvloop", "watchfiles", "yaml"}


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Each imported name in full, with its line: `from gateway.wire import sse` is `gateway.wire.sse`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def impurities(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for line, name in imports(tree, "gateway"):
        if name.split(".")[0] in DOES_IO:
            yield line, f"imports {name.split('.')[0]}, but this floor does no I/O"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in {"open", "print", "input"}:
                yield node.lineno, f"calls {called.id}(), but this floor does no I/O"
            elif isinstance(called, ast.Attribute) and called.attr in READS_THE_CLOCK:
                yield node.lineno, f"calls .{called.attr}(), but on this floor the time is an argument"


def offences(path: str, source: str) -> list[str]:
    """What `path` (from the root: gateway/wire/sse.py) does that its floor forbids, one line each."""
    *folders, file = path.removesuffix(".py").split("/")
    tree = ast.parse(source, path)
    top = (*folders, file)[1]
    if top == "__init__":  # gateway/__init__.py is below every floor
        return [f"{path}:{line}: imports {name}" for line, name in imports(tree, "gateway") if name.startswith("gateway.")]
    if top not in FLOORS:
        return [f'{path}: nobody knows its floor. Add a line to FLOORS in tests/test_floors.py: "{top}": <floor>']
    found = []
    for line, name in imports(tree, ".".join(folders)):
        if name.split(".")[0] == "gatewayctl":
            found.append(f"{path}:{line}: imports gatewayctl; the gateway knows nothing of its command line")
        if not name.startswith("gateway."):
            continue
        other = name.split(".")[1]
        if other == top or other not in FLOORS:  # its own folder, or a name of gateway/__init__.py
            continue
        mine, theirs = FLOORS[top], FLOORS[other]
        if theirs > mine or (theirs == mine and mine not in ONE_SUBJECT):
            found.append(f"{path}:{line}: {top} (floor {mine}) imports {other} (floor {theirs})")
    if FLOORS[top] in PURE:
        found += [f"{path}:{line}: {what}" for line, what in impurities(tree)]
    return found


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("gateway/wire/sse.py", "from gateway.errors import Refusal", ""),
        ("gateway/wire/sse.py", "from gateway.wire import splice", ""),
        ("gateway/wire/sse.py", "from . import splice", ""),
        ("gateway/wire/sse.py", "from ..route import order", "wire (floor 1) imports route (floor 3)"),
        ("gateway/wire/sse.py", "from gateway import pipeline", "wire (floor 1) imports pipeline (floor 6)"),
        ("gateway/relay/client.py", "def f():\n import gateway.accept.server", "relay (floor 4) imports accept (floor 4)"),
        ("gateway/route/policy.py", "from time import monotonic", "imports time"),
        ("gateway/route/policy.py", "import random as r", "imports random"),
        ("gateway/engine/vllm.py", "import os.path", "imports os"),
        ("gateway/price/table.py", "from datetime import UTC, datetime\nx = datetime.now(UTC)", "calls .now()"),
        ("gateway/price/table.py", "x = open('prices')", "calls open()"),
        ("gateway/relay/client.py", "import asyncio, time, os", ""),
        ("gateway/exchange.py", "from gateway.words import End", ""),
        ("gateway/serve/snapshot.py", "from gateway.serve.shared import Shared", ""),
        ("gateway/worker.py", "from gateway import control", "worker (floor 7) imports control (floor 7)"),
        ("gateway/worker.py", "from gateway import __version__", ""),
        ("gateway/worker.py", "import gatewayctl.show", "knows nothing of its command line"),
        ("gateway/cache/lru.py", "", '"cache": <floor>'),
        ("gateway/__init__.py", "from gateway.words import End", "imports gateway.words"),
    ],
)
def test_the_rules_themselves(path, source, said):
    found = offences(path, source)
    assert (len(found) == 1 and said in found[0]) if said else not found


def test_each_module_keeps_to_its_floor():
    files = sorted((ROOT / "gateway").rglob("*.py"))
    found = dict.fromkeys(line for file in files for line in offences(str(file.relative_to(ROOT)), file.read_text()))
    assert not found, "\n" + "\n".join(found)


def test_gatewayctl_imports_of_the_gateway_only_its_configuration():
    files = sorted((ROOT / "gatewayctl").rglob("*.py"))
    found = [
        f"{path}:{line}: imports {name}"
        for file in files
        for path in [file.relative_to(ROOT)]
        for line, name in imports(ast.parse(file.read_text()), ".".join(path.parent.parts))
        if name.split(".")[0] == "gateway" and name.split(".")[1:2] != ["config"]
    ]
    assert files, "gatewayctl/ does not exist yet"
    assert not found, "\n" + "\n".join(found)


def loaded(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded when `code` has run."""
    report = "import atexit, json, sys\natexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
    done = subprocess.run([sys.executable, "-c", report + code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_a_worker_loads_nothing_that_belongs_to_control_or_the_command_line():
    assert importlib.util.find_spec("gateway.worker"), "gateway/worker.py does not exist yet"
    assert not loaded("import gateway.worker") & WORKERS_NEVER_LOAD


def test_help_is_quick_because_it_loads_next_to_nothing():
    assert (ROOT / "gatewayctl/app.py").exists(), "gatewayctl/app.py does not exist yet"
    assert not loaded("sys.argv = ['gatewayctl', '--help']\nfrom gatewayctl.app import main\nmain()") & HELP_NEVER_LOADS
