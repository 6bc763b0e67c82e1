"""The audit log as a file: one line of JSON for each act of an operator, appended by control, read by anybody who may.

A line that a crash or a full disk has torn is left out, and never swallows the next one.
"""

import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

NAME: Final = "audit.log"
MODE: Final = 0o640


def append(path: Path, line: bytes) -> None:
    """One line, without its end, through to the disk. Raises OSError: then it may stand there in part, which readers leave out."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        size = os.fstat(handle).st_size
        if size == 0:
            os.fchmod(handle, MODE)  # whatever the umask
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        rest = memoryview((b"\n" if torn else b"") + line + b"\n")
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path, *, last: int, since: float = 0.0, by: str = "") -> list[dict[str, Any]]:
    """The newest `last` lines that match, the oldest first. since: Unix seconds. by: a user's name or number. Raises OSError, but no
    file is no line."""
    found: deque[dict[str, Any]] = deque(maxlen=last)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        found.extend(one for one in _lines(file) if one["ts"] >= since and (not by or _is(one, by)))
    return list(found)


def _lines(file: Any) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            one = json.loads(line)
        except ValueError:  # torn
            continue
        if isinstance(one, dict) and isinstance(one.get("ts"), int | float):
            yield one


def _is(one: dict[str, Any], by: str) -> bool:
    """`root`, `0`, or the whole of who it was."""
    said = str(one.get("by") or "")
    return by in (said, said.partition(" (uid ")[0]) or (by.isdigit() and one.get("uid") == int(by))
