"""The file of alerts: what fires, what is silenced, what still has to be told. No restart forgets or repeats."""

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.alert.deliver import Waiting
from gateway.alert.state import Alert, Silence
from gateway.config import files

log = logging.getLogger("gateway.alerts")

FORMAT: Final = 1
NAME: Final = "alerts.json"


class Kept(msgspec.Struct, kw_only=True):
    """What stands in the file."""

    format: int = FORMAT
    alerts: list[Alert] = []
    silences: list[Silence] = []
    waiting: list[Waiting] = []


def read(data_dir: Path) -> Kept:
    """One that cannot be read is put aside as `alerts.bad`: then everything begins anew, and what fires is told again."""
    path = data_dir / NAME
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Kept)
        if found.format != FORMAT:
            raise ValueError(f"it is in format {found.format}, this gateway reads {FORMAT}")
        return found
    except FileNotFoundError:
        return Kept()
    except (OSError, ValueError) as error:
        log.error("%s cannot be read, alerts begin anew: %s", path, error)
        with contextlib.suppress(OSError):
            os.replace(path, path.with_suffix(".bad"))
        return Kept()


def encoded(alerts: Sequence[Alert], silences: Sequence[Silence], waiting: Sequence[Waiting]) -> bytes:
    """As it is now; what changes afterwards is not in it."""
    return msgspec.json.encode(Kept(alerts=list(alerts), silences=list(silences), waiting=list(waiting))) + b"\n"


def write(data_dir: Path, data: bytes) -> None:
    """On the disk when it returns. Raises OSError."""
    files.write(data_dir / NAME, data)
