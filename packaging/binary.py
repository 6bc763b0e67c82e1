"""`make binary`: dist/gateway, the folder that packages ship, and dist/gatewayctl-<version>-linux-<arch>, the same in one file.
What packaging/compiled.py made goes in.

Runs in the virtual environment of requirements/packaging.txt. What goes in was checked by its hash when it was installed; nothing
is downloaded here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import sbom
import single
from compiled import TREE
from glibc import report

from gateway import __version__
from gateway.config.tokenizers import BUNDLED, FOLDER, read
from gatewayctl.manual import main as manual

ROOT = Path(__file__).parents[1]
DIST, WORK = ROOT / "dist", ROOT / "build" / "pyinstaller"
FOLDER_NAME = "gateway"


def freeze() -> Path:
    """The onedir, as PyInstaller makes it."""
    for name in BUNDLED:
        read(name, FOLDER)  # a binary without its vocabularies would only estimate
    shutil.rmtree(DIST / FOLDER_NAME, ignore_errors=True)
    shutil.rmtree(WORK, ignore_errors=True)
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "--noconfirm"]
    # The same sources give the same bytes, whatever the order of a set or the hour.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(epoch()), "PYTHONPATH": str(TREE)}
    where = ["--distpath", str(DIST), "--workpath", str(WORK)]
    subprocess.run([*command, *where, str(ROOT / "packaging/gateway.spec")], check=True, env=environment)
    return DIST / FOLDER_NAME


def epoch() -> int:
    """Seconds: the time of the last commit, so that a build can be repeated."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(said)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 1_767_225_600


def furnish(folder: Path) -> None:
    """share/: what an installation needs besides the program, and what the law and the auditors want."""
    share = folder / "share"
    (share / "configs").mkdir(parents=True)
    for file in ("gateway.yaml", "keys.yaml", "gateway.schema.json"):
        shutil.copy(ROOT / "configs" / file, share / "configs")
    shutil.copytree(ROOT / "systemd", share / "systemd")
    manual(share)  # man/ and completions/, from the commands themselves
    shutil.copytree(ROOT / "docs", share / "docs")
    shutil.copy(ROOT / "CHANGELOG.md", share / "docs")
    shutil.copy(ROOT / "LICENSE", share)
    sbom.write(WORK / "gateway" / "contents.json", share, version=__version__, epoch=epoch())


def size(path: Path) -> float:
    """MiB that its files have."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files) / 2**20


def main() -> int:
    folder = freeze()
    furnish(folder)
    file = single.write(folder, DIST, version=__version__, epoch=epoch())
    shutil.copy(folder / "share" / "sbom.cdx.json", DIST / f"{file.name}.cdx.json")
    print(f"{folder.relative_to(ROOT)}  {size(folder):.0f} MiB")
    print(f"{file.relative_to(ROOT)}  {size(file):.0f} MiB")
    print(report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
