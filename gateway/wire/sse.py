"""Server-sent events as bytes: where one ends, and what data it carries. Never looks into the data."""

from typing import Final

LIMIT: Final = 16 * 1024 * 1024
"""Bytes that one event may have."""
LOOSE: Final = 256
"""Parts of one event that are kept as they came: each costs 42 bytes besides its own, and more are joined to one."""

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """An event is longer than the splitter's limit. events: those that were whole before it in the same feed."""

    def __init__(self, limit: int, events: list[bytes]) -> None:
        super().__init__(f"an event is longer than {limit} bytes")
        self.events = events


class Splitter:
    """Cuts a stream of bytes into whole events, however it arrives.

    An event is returned as soon as its blank line is seen, blank line included, with LF as line end: CRLF and CR become
    LF, because a CR at the end of what has arrived may or may not be half of a CRLF. Streams that only use LF (all
    engines we know) are never copied for it. The cost is linear in the bytes, also when they come one by one.
    """

    __slots__ = ("_held", "_loose", "_parts", "_size", "_skip_lf", "_start", "fresh", "limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._loose = 0  # how many of them, at the end, came one by one
        self._size = 0
        self._held = b""  # the last byte of `_parts`: is the first of the next feed a blank line's second half?
        self._skip_lf = False
        self._start = True
        self.fresh = False
        """Between two events, with nothing to remember: what comes next is the beginning of an event."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole now. Errors: EventTooLong, after which the splitter is of no more use."""
        if self.fresh and 0 < data.find(b"\n") == len(data) - 2 < self.limit - 1 and data.endswith(b"\n") and data.find(b"\r") < 0:
            return [data]  # the usual case: one event (a search for one byte is far quicker than for two)
        if self._start:
            data = self._without_bom(data)
        if b"\r" in data or self._skip_lf:
            data = self._with_lf(data)
        if not data:
            return []
        events = self._go_on(data) if self._parts else self._cut(data, 0)
        self.fresh = not (self._parts or self._skip_lf or self._start)
        return events

    def flush(self) -> bytes:
        """What is left at the end of the stream: an event that never ended, or nothing."""
        rest = b"".join(self._parts)
        self._clear()
        return rest

    def _go_on(self, data: bytes) -> list[bytes]:
        """Some of an event is here already: look for its end in the new bytes only."""
        end = -1
        if self._held != b"\n" or data[:1] != b"\n":
            end = data.find(b"\n\n")
            if end < 0:
                self._hold(data, [])
                return []
        self._parts.append(data[: end + 2])
        event = b"".join(self._parts)
        self._clear()
        if len(event) > self.limit:
            raise EventTooLong(self.limit, [])
        events = [event] if event.strip(b"\n") else []
        try:
            return events + self._cut(data, end + 2)
        except EventTooLong as why:
            raise EventTooLong(self.limit, events + why.events) from None

    def _cut(self, data: bytes, start: int) -> list[bytes]:
        """The events in `data` from `start`. Keeps the rest."""
        events: list[bytes] = []
        line = start
        while (end := data.find(b"\n", line)) >= 0:
            line = end + 1
            if not data.startswith(b"\n", line):
                continue
            line = end + 2
            if line - start > self.limit:
                raise EventTooLong(self.limit, events)
            if end > start:
                events.append(data[start:line])
            start = line
        if start < len(data):
            self._hold(data[start:] if start else data, events)
        return events

    def _hold(self, part: bytes, events: list[bytes]) -> None:
        self._parts.append(part)
        self._loose += 1
        if self._loose == LOOSE:  # these alone: joining all each time would cost the square of an event's size
            self._parts[-LOOSE:] = [b"".join(self._parts[-LOOSE:])]
            self._loose = 0
        self._held = part[-1:]
        self._size += len(part)
        if self._size > self.limit:
            raise EventTooLong(self.limit, events)

    def _clear(self) -> None:
        self._parts = []
        self._loose = 0
        self._size = 0
        self._held = b""

    def _with_lf(self, data: bytes) -> bytes:
        if self._skip_lf and data[:1] == b"\n":
            data = data[1:]
            if not data:
                self._skip_lf = False
                return b""
        self._skip_lf = data[-1:] == b"\r" if data else self._skip_lf
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, data: bytes) -> bytes:
        """Drops a byte order mark at the very start, also when it comes in pieces."""
        seen = b"".join(self._parts) + data
        if len(seen) < len(_BOM) and _BOM.startswith(seen):
            self._parts = [seen] if seen else []
            self._size = len(seen)
            return b""
        self._clear()
        self._start = False
        return seen[len(_BOM) :] if seen.startswith(_BOM) else seen


class Parts:
    """An event taken apart. strange: the first line that is none of SSE's fields and no comment (bare text)."""

    __slots__ = ("data", "name", "strange")

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.name = b""
        self.strange: bytes | None = None


def fields_of(event: bytes) -> Parts:
    """All that an event says. Errors: none, whatever the bytes."""
    parts = Parts()
    lines: list[bytes] = []
    for line in event.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        field, _, value = line.partition(b":")
        if not field:  # an empty line or a comment
            continue
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            parts.name = value
        elif field not in (b"id", b"retry") and parts.strange is None:
            parts.strange = line
    if lines:
        parts.data = b"\n".join(lines)
    return parts
