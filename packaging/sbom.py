"""What is in the binary: a bill of materials (CycloneDX 1.6, sbom.cdx.json) and the licences of all of it (licences/).

Components are found from what PyInstaller really collected, not from what was installed: packages, Python itself, the host's shared
libraries, the vocabularies.
"""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path
from typing import Any

from compiled import TREE

from gateway.config.tokenizers import BUNDLED, FOLDER

PROGRAM = "onprem-gateway"
SPACE = uuid.UUID("6f1c1b0e-6d0e-4a53-9c2d-0b7e3f0f3c55")
"""Of serial numbers: the same content has the same one."""
OURS = Path(__file__).parents[1] / "LICENSE"
"""Apache-2.0, word for word."""
LICENCE_WORDS = ("licen", "copying", "notice", "authors")


def write(contents: Path, share: Path, *, version: str, epoch: int) -> None:
    """contents: packaging/gateway.spec's list of what was collected."""
    collected = json.loads(contents.read_text())
    licences = share / "licences"
    licences.mkdir()
    parts = [_python(licences)]
    parts += [_package(found, licences) for found in _packages(collected)]
    parts += _libraries([Path(source) for _, source in collected["binaries"]], licences)
    parts += [_vocabulary(name) for name in BUNDLED]
    shutil.copy(FOLDER / "NOTICE", licences / "vocabularies")
    parts.sort(key=lambda part: part["bom-ref"])
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(SPACE, json.dumps([version, parts]))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": f"pkg:generic/{PROGRAM}@{version}",
                "name": PROGRAM,
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
            "properties": [{"name": "arch", "value": platform.machine()}, {"name": "libc", "value": " ".join(platform.libc_ver())}],
        },
        "components": parts,
    }
    (share / "sbom.cdx.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _packages(collected: dict[str, Any]) -> list[Distribution]:
    """The Python packages whose modules were collected."""
    modules = {name.split(".")[0] for name in collected["pure"]}
    modules |= {Path(target).parts[0].split(".")[0] for target, _ in collected["binaries"]}
    owners = packages_distributions()
    names = {owner for module in modules for owner in owners.get(module, ())} - {PROGRAM, "setuptools", "pip"}
    names |= {"pyinstaller", "mypy"}  # one's bootloader begins the executable, the other's runtime is in what is compiled
    return [distribution(name) for name in sorted(names, key=str.lower)]


def _package(found: Distribution, licences: Path) -> dict[str, Any]:
    name, version = found.metadata["Name"], found.version
    folder = licences / name
    for file in found.files or ():
        if ".dist-info" in str(file) and any(word in file.name.lower() for word in LICENCE_WORDS):
            folder.mkdir(exist_ok=True)
            shutil.copy(str(file.locate()), folder / file.name)
    said = _licences(found)
    if not folder.exists():
        if "Apache" not in json.dumps(said):
            raise SystemExit(f"sbom.py: {name} {version} brings no text of its licence, and it is not the one that we have: {said}")
        folder.mkdir()
        shutil.copy(OURS, folder / OURS.name)
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **said}


def _licences(found: Distribution) -> dict[str, Any]:
    """What the package says of itself: an SPDX expression, or else words."""
    if expression := found.metadata.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    classes = [line.rsplit(" :: ", 1)[1] for line in found.metadata.get_all("Classifier") or () if line.startswith("License :: ")]
    said = (found.metadata.get("License") or "").strip().splitlines()
    names = classes or said[:1]
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def _python(licences: Path) -> dict[str, Any]:
    version = platform.python_version()
    text = Path(sys.base_prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "LICENSE.txt")
    if text.exists():
        shutil.copy(text, licences / "python")
    purl = f"pkg:generic/cpython@{version}"
    return {
        "type": "framework",
        "bom-ref": purl,
        "name": "CPython",
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"id": "Python-2.0"}}],
    }


def _libraries(sources: Iterable[Path], licences: Path) -> list[dict[str, Any]]:
    """Shared libraries of the machine that built this, with the package that each came from where that can be found out."""
    ours = Path(sys.prefix).resolve(), TREE, Path(sys.base_prefix).resolve() / "lib"
    parts = []
    for source in sorted({source.resolve() for source in sources}):
        if any(source.is_relative_to(place) for place in ours) or not source.is_file():
            continue
        package, version = _owner(source)
        part = {
            "type": "library",
            "bom-ref": f"file:{source.name}",
            "name": source.name,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(source.read_bytes()).hexdigest()}],
        }
        if package:
            part |= {"version": version, "purl": f"pkg:deb/debian/{package}@{version}"}
            copyright = Path("/usr/share/doc", package, "copyright")
            if copyright.is_file():
                shutil.copy(copyright, licences / package)
        parts.append(part)
    return parts


def _owner(library: Path) -> tuple[str, str]:
    """The Debian package, and its version, that this file belongs to; empty where there is none or no dpkg."""
    if shutil.which("dpkg-query") is None:
        return "", ""
    for path in (library, Path("/usr") / library.relative_to("/"), Path("/", *library.parts[2:])):  # /lib is a link to /usr/lib
        done = subprocess.run(["dpkg-query", "--search", str(path)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            package = done.stdout.split(":")[0]
            shown = subprocess.run(["dpkg-query", "-W", "-f=${Version}\n", package], capture_output=True, text=True, check=False)
            return package, shown.stdout.split("\n")[0]
    return "", ""


def _vocabulary(name: str) -> dict[str, Any]:
    bundled = BUNDLED[name]
    return {
        "type": "data",
        "bom-ref": f"file:{bundled.file}",
        "name": bundled.file,
        "hashes": [{"alg": "SHA-256", "content": bundled.sha256}],
    }
