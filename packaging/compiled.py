"""`make compiled`: build/compiled/, this tree once more with the hot path as machine code.

What each request and each chunk of a stream runs through is compiled by mypyc (a part of mypy) and lies beside its source, which
Python then leaves alone. The binary is made from that tree, `make bench` measures it and `make test-compiled` runs the tests on it.
Everything also runs as plain Python, so nothing else needs a C compiler. What compiled code must do without is told in
docs/architecture.md.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TREE: Final = ROOT / "build" / "compiled"
MADE: Final = TREE / ".made"
LOG: Final = ROOT / "build" / "compiled.log"
GROUP: Final = "gateway_hot"
"""Names the library that all compiled modules share: gateway_hot__mypyc."""

HOT: Final = {
    "": "exchange pipeline",
    "accept": "familiar request",
    "auth": "keyring permit proxies",
    "engine": "mindie openai prepare rewrite sglang vllm",
    "meter": "account journal metrics progress",
    "referee": "claims limits loans money recent rules talk terms",
    "relay": "clock connection continuing delivery pool stream waiting whole",
    "route": "ask breaker budget decide fit least_busy load plan prefix_affinity primary_backup proportional sticky",
    "serve": "dispatch live snapshot",
    "wire": "answers chunks event heads openai outlet sse stream tally template usage",
}
"""Modules by their folder in gateway/. Not among them: what inherits from aiohttp's classes, and every msgspec Struct."""

COPIED: Final = (
    *("gateway", "gatewayctl", "tests", "configs", "docs", "bench", "packaging", "systemd", "requirements"),
    *("Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".ci"),
)


def hot() -> list[str]:
    """Paths of the modules that are compiled, from the root."""
    return ["/".join(filter(None, ("gateway", folder, f"{name}.py"))) for folder, names in HOT.items() for name in names.split()]


def missing() -> str:
    """What a compiler needs and is not there; "" = nothing."""
    if shutil.which(os.environ.get("CC", "cc").split()[0]) is None:
        return "a C compiler (Debian: apt install gcc; openEuler: dnf install gcc)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "the headers of this Python (Debian: apt install python3-dev; openEuler: dnf install python3-devel)"
    return ""


def digest() -> str:
    """Of everything that decides what the compiler makes: all sources, since types of one decide about the code of another."""
    found = hashlib.sha256("\n".join([sys.version, version("mypy"), *hot()]).encode())
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    found.update(Path(__file__).read_bytes())
    return found.hexdigest()


def copy() -> None:
    """The tree as it is now; what is compiled already stays."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so", ".bench", "out")
    for name in COPIED:
        source, target = ROOT / name, TREE / name
        if not source.exists():
            continue
        if source.is_file():
            shutil.copy2(source, target)
            continue
        if name != "gateway":
            shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)


def build() -> None:
    """Compiles in the tree. Raises SystemExit, when mypyc does not understand a module; what it says is in the log."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    extensions = mypycify(hot(), opt_level="3", debug_level="0", group_name=GROUP)
    command = Distribution({"name": "gateway", "ext_modules": extensions}).get_command_obj("build_ext")
    command.inplace = True  # type: ignore[attr-defined]
    command.ensure_finalized()
    command.run()


def compiles() -> bool:
    """`build` in a process of its own, whose words go to the log. What it fails with is shown."""
    print(f"compiling {len(hot())} modules of the hot path (a minute)", file=sys.stderr)
    with LOG.open("w") as log:
        command = [sys.executable, str(TREE / "packaging" / Path(__file__).name), "--build"]
        done = subprocess.run(command, cwd=TREE, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        errors = [line for line in LOG.read_text().splitlines() if "error" in line.lower()]
        print("\n".join([f"compiled.py: it failed; {LOG.relative_to(ROOT)} has all of it", *errors[:20]]), file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    if "--build" in sys.argv:
        build()
        return 0
    if lacks := missing():
        print(f"compiled.py: compiling the hot path needs {lacks}", file=sys.stderr)
        return 1
    wanted = digest()
    made = MADE.exists() and MADE.read_text() == wanted
    if not made:
        shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True, exist_ok=True)
    copy()
    with contextlib.suppress(FileExistsError):
        (TREE / ".venv").symlink_to(ROOT / ".venv")  # some tests start what the Makefile names
    if not made:
        if not compiles():
            return 1
        MADE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
