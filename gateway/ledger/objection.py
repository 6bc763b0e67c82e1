"""Why a line of the journal is no record of a settled request."""

import math
from collections.abc import Iterator

import msgspec

from gateway.ledger.schema import EARLIEST, LARGEST
from gateway.record import Record, decode_record


def objection(line: bytes, latest: float) -> str | None:
    """Why a line is no record of a settled request; None = it is one, "" = it is another line of ours that has no row."""
    try:
        record = decode_record(line)
    except msgspec.MsgspecError as error:
        return "" if line.startswith(b'{"kind":"bundle"') else str(error)
    except UnicodeDecodeError as error:
        return str(error)
    if record.kind != "done":
        return "" if record.kind == "open" else f"its kind is {record.kind!r}"
    return _objection(record, latest)


def _objection(record: Record, latest: float) -> str | None:
    if record.v != 1:
        return f"a record of version {record.v}, which this gateway does not know"
    if not _is_uuid(record.id):
        return f"its id {record.id[:64]!r} is none"
    if not EARLIEST <= record.ts <= latest:
        return f"its time {record.ts} is before 2020 or in the future"
    for name, value in _numbers(record):
        if not (math.isfinite(value) and 0 <= value <= LARGEST):
            return f"{name} is {value}, which nobody can have counted"
    return None


def _is_uuid(id: str) -> bool:
    return len(id) == 36 and id[8] == id[13] == id[18] == id[23] == "-" and id.replace("-", "").isalnum() and _is_hex(id.replace("-", ""))


def _is_hex(text: str) -> bool:
    return len(text) == 32 and all(sign in "0123456789abcdefABCDEF" for sign in text)


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    for part in ("tokens", "reserved", "ms", "bytes", "facts"):
        group = getattr(record, part)
        for name in group.__struct_fields__:
            value = getattr(group, name)
            if not isinstance(value, str):
                yield f"{part}.{name}", value
    for name in ("slot", "rev", "status", "tpot"):
        yield name, getattr(record, name)
