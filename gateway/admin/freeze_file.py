"""The file of what is frozen: no restart thaws it. One that cannot be read means that everything is frozen."""

import contextlib
import errno
import logging
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from gateway.auth.freezes import ALL, KINDS, Freeze
from gateway.config import files

log = logging.getLogger("gateway.freezes")

FORMAT: Final = 1
NAME: Final = "freezes.json"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    freezes: list[Freeze]


class FreezeFile:
    """What stands in the file. trouble: why it cannot be read, "" = it can; then everything is frozen, until it is written anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.freezes: list[Freeze] = []
        self.trouble = ""

    @classmethod
    def of(cls, data_dir: Path) -> "FreezeFile":
        """The file as it is now. It is left where it is, whatever is in it."""
        file = cls(data_dir / NAME)
        try:
            file.freezes = _decode(file._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            file.trouble = f"{file._path} cannot be read: {error}"
            log.error("%s; EVERYTHING IS FROZEN until: gatewayctl unfreeze --all", file.trouble)
            file.freezes = [Freeze(kind=ALL, by="gateway", since=round(time.time(), 3), reason=file.trouble)]
        return file

    def save(self, freezes: list[Freeze]) -> None:
        """On the disk when it returns. Of one that could not be read a copy stays. Raises OSError: then the file is as it was."""
        if freezes == self.freezes and not self.trouble:
            return  # a freeze that found no room is taken back: the file never knew of it
        data = msgspec.json.encode(_File(format=FORMAT, freezes=freezes)) + b"\n"
        if self.trouble:
            bad = self._path.with_suffix(".bad")
            with contextlib.suppress(OSError):
                bad.unlink(missing_ok=True)
                os.link(self._path, bad)  # a second name; the first one must not be gone for a moment
        try:
            files.write(self._path, data)
        except OSError as error:
            if self.trouble or error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._written_over(data):
                raise
        if self.trouble:
            os.chmod(self._path, 0o600)  # which may have been what was wrong
        self.freezes, self.trouble = freezes, ""

    def _written_over(self, data: bytes) -> bool:
        """What is shorter than the file is written into the room that it has, with blanks behind it: a full disk must not keep anybody from
        being let go. Torn by a power cut, it cannot be read, and everything is frozen."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            was = os.pread(handle, os.fstat(handle).st_size, 0)
            if len(data) > len(was):
                return False
            try:
                os.pwrite(handle, data.rstrip(b"\n").ljust(len(was) - 1) + b"\n", 0)
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    os.pwrite(handle, was, 0)
                return False
            return True
        finally:
            os.close(handle)


def _decode(data: bytes) -> list[Freeze]:
    """Raises ValueError when it is not understood whole: half a list of freezes is none."""
    found = msgspec.json.decode(data, type=_File)
    if found.format != FORMAT:
        raise ValueError(f"it is in format {found.format}, this gateway reads {FORMAT}")
    strange = next((one.kind for one in found.freezes if one.kind not in KINDS), None)
    if strange is not None:
        raise ValueError(f"nobody knows what a freeze of {strange!r} is")
    return found.freezes
