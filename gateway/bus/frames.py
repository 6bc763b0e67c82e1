"""Frames of the bus: four bytes of length, then MessagePack. Every frame is a map with `kind`; a hello carries the version.

worker → control: hello, prepared, swapped, health; and what rooms tell each other: state, trial, rests, heard, frozen, seats, limits,
moves
control → worker: prepare (with the snapshot's parts), commit, abort; and states, trial, rests, vitals, stays, endpoints, frozen, seats,
limits, queued, moves
A snapshot travels as one `head` (the resolved form without keys) and `keys` slices, each a frame of its own, so that
neither side ever decodes more than a slice in one go.
"""

import asyncio
import struct
from typing import Any, Final

import msgspec

from gateway.config.resolved import FORMAT, Key, Resolved

VERSION: Final = 5
KEYS_PER_SLICE: Final = 2_000
FRAME_MOST: Final = 256 * 1024 * 1024
_LENGTH = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_resolved = msgspec.msgpack.Decoder(Resolved)
_keys = msgspec.msgpack.Decoder(list[Key])


class BusError(Exception):
    """The other side speaks another version, or no bus at all."""


def frame(kind: str, **fields: Any) -> bytes:
    """One frame, ready to be written."""
    body = _encoder.encode({"kind": kind, **fields})
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next frame. Raises asyncio.IncompleteReadError at the end, BusError on anything that is no frame."""
    size = _LENGTH.unpack(await reader.readexactly(4))[0]
    if size > FRAME_MOST:
        raise BusError("a frame of impossible length")
    try:
        message = _decoder.decode(await reader.readexactly(size))
    except msgspec.MsgspecError as error:
        raise BusError(f"not a frame: {error}") from None
    if not isinstance(message.get("kind"), str):
        raise BusError("a frame without a kind")
    return message


class Parcel:
    """A revision in its compact form: what travels on the bus and what the supervisor keeps in memory for new workers."""

    def __init__(self, rev: int, head: bytes, slices: list[bytes]) -> None:
        self.rev = rev
        self.head = head
        self.slices = slices

    @classmethod
    def pack(cls, rev: int, config: Resolved, keys: list[Key]) -> "Parcel":
        slices = [_encoder.encode(keys[at : at + KEYS_PER_SLICE]) for at in range(0, len(keys), KEYS_PER_SLICE)]
        return cls(rev, _encoder.encode(config), slices)

    def config(self) -> Resolved:
        return _resolved.decode(self.head)

    @staticmethod
    def keys(part: bytes) -> list[Key]:
        return _keys.decode(part)

    def to_bytes(self) -> bytes:
        """For the memfd: everything in one piece."""
        return _encoder.encode({"format": FORMAT, "rev": self.rev, "head": self.head, "slices": self.slices})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Parcel":
        """Raises BusError when it was packed in another format."""
        try:
            found = _decoder.decode(data)
            if found["format"] != FORMAT:
                raise BusError(f"the configuration is packed in format {found['format']}, this gateway reads {FORMAT}")
            return cls(found["rev"], found["head"], list(found["slices"]))
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise BusError(f"not a packed configuration: {error}") from None
