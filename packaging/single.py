"""The single file: a shell script with the folder behind it. packaging/single.sh says how it starts; this glues it together."""

import gzip
import hashlib
import platform
import tarfile
from pathlib import Path

STUB = Path(__file__).with_name("single.sh")
LEVEL = 6
"""Of gzip: 9 takes four times as long for one percent."""


def write(folder: Path, dist: Path, *, version: str, epoch: int) -> Path:
    """Makes `dist`/gatewayctl-<version>-linux-<arch>, in place of those of other versions. epoch: the time that all files get."""
    arch = platform.machine()
    for old in dist.glob(f"gatewayctl-*-linux-{arch}*"):
        old.unlink()
    made = dist / f"gatewayctl-{version}-linux-{arch}"
    packed = made.with_name(made.name + ".tar.gz")
    pack(folder, packed, epoch)
    sum_ = hashlib.sha256(packed.read_bytes()).hexdigest()
    text = STUB.read_text()
    words = {"VERSION": version, "ARCH": arch, "SUM": sum_[:12], "LINES": str(text.count("\n") + 1)}
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    with made.open("wb") as out, packed.open("rb") as payload:
        out.write(text.encode())
        while piece := payload.read(1 << 20):
            out.write(piece)
    made.chmod(0o755)
    packed.unlink()
    return made


def pack(folder: Path, packed: Path, epoch: int) -> None:
    """The same folder gives the same bytes: order, owners and times are fixed."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = epoch
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with (
        packed.open("wb") as raw,
        gzip.GzipFile("", "wb", LEVEL, raw, mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder), recursive=False, filter=plain)
