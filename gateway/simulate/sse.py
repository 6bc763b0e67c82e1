"""JSON and server-sent events as bytes. A stream's chunks differ in one string, so the rest is encoded once."""

from typing import NamedTuple

import msgspec

DONE = b"data: [DONE]\n\n"
HOLE = "\x00hole\x00"
_HOLE = msgspec.json.encode(HOLE)

encode = msgspec.json.encode


class Event(NamedTuple):
    """One event of a stream: its bytes, how many new tokens it carries, and the decoding step it comes from."""

    data: bytes
    tokens: int = 0
    step: int = 0


def event(chunk: object) -> bytes:
    return b"data: " + encode(chunk) + b"\n\n"


class Template:
    """A chunk with HOLE in place of the piece of text."""

    def __init__(self, chunk: object) -> None:
        self._around = event(chunk).split(_HOLE)

    def fill(self, text: str) -> bytes:
        return encode(text).join(self._around)
