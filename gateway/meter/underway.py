"""What requests that are open now have used so far, read from the progress tables of living workers. Changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.meter.progress import left_open
from gateway.record import Tokens, decode_record
from gateway.wire.usage import tokens_of


class Underway(NamedTuple):
    """One open request. begun: Unix seconds. endpoint: the one that it was first sent to. tokens: as far as its engine says."""

    channel: str
    endpoint: str
    begun: float
    tokens: Tokens


def underway(journal: Path) -> Iterator[Underway]:
    """Blocks. An entry that is being written just now is passed over."""
    for table in journal.glob("*.progress"):
        for line, usage in left_open(table):
            try:
                record = decode_record(line)
            except msgspec.MsgspecError:
                continue
            yield Underway(record.channel, record.endpoint, record.ts, tokens_of(usage) or Tokens())
