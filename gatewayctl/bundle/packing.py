"""Packs the parts into one file. Nothing gets into it but through `Cover.text`."""

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Final

from gatewayctl.bundle.gather import Gather, Missing
from gatewayctl.bundle.parts import PARTS

FOLDER: Final = "gateway-support"
ABOUT: Final = """\
A support bundle of the gateway, made by `gatewayctl support-bundle`.

Not in it: credentials, values of headers, keys and their hashes, values of ${env:…} and ${file:…}, prompts, answers.
*** stands for what was or looked like a secret. ~3fa9c1d2 stands for what a caller chose (a request id, a system's name, an
address, an unknown model): the same text has the same pseudonym within this bundle, and another one in the next.
In it: names of tenants, projects, keys, channels and models, addresses of engines, who did what (audit.ndjson), the host's facts.
"""


def pack(gather: Gather, target: Path) -> dict[str, str]:
    """Writes the bundle, mode 0600. Returns what is missing, and why. Raises OSError."""
    missing: dict[str, str] = {}
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
            _add(gather, tar, "README.txt", ABOUT)
            for name, part in PARTS.items():
                try:
                    text = part(gather)
                except (Missing, OSError) as why:
                    missing[name] = gather.cover.text(str(why))
                else:
                    _add(gather, tar, name, text)
            _add(gather, tar, "missing.txt", "".join(f"{name}: {why}\n" for name, why in missing.items()))
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)  # a write that fails, as on a full disk, does not say of what
        raise
    return missing


def _add(gather: Gather, tar: tarfile.TarFile, name: str, text: str) -> None:
    data = gather.cover.text(text).encode("utf-8", "replace")
    facts = tarfile.TarInfo(f"{FOLDER}/{name}")
    facts.size, facts.mtime, facts.mode = len(data), int(time.time()), 0o600
    tar.addfile(facts, io.BytesIO(data))
