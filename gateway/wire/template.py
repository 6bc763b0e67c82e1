"""The form that a stream's events share, so that the next one is cut and pasted as bytes instead of decoded.

An event of output is `before TEXT after`, or `before TEXT between USAGE end` when each event carries its usage. The form is
learned from one event and proved by decoding: with a mark in place of the text, only that string may change. It then
holds for every other text, because a JSON string's body never changes the structure around it. What a caller
is shown is computed once, with the marks in place, by the very code that decodes events.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.wire.chunks import whole_chunk
from gateway.wire.event import OUTPUT, Json, decode, encode
from gateway.wire.tally import Tally
from gateway.wire.usage import usage_in

if TYPE_CHECKING:
    from mypy_extensions import i64  # a number that compiled code need not count references of; Python's own where it is not compiled

_MARK: Final = "\ue000text\ue000"
_MARK_BYTES: Final = _MARK.encode()
_USAGE_MARK: Final = {"\ue000": "\ue000usage\ue000"}
_USAGE_BYTES: Final = msgspec.json.encode(_USAGE_MARK)
_BODY: Final = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_NUMBER: Final = re.compile(rb"(?<![^\s:,\[])\d+(?![^\s,}\]])")
_DIGITS_MOST: Final = 15
"""Of a number in a usage object."""
_KEPT: Final = 64
_KEPT_BYTES: Final = 1024
"""What is longer is not kept for other streams."""
_ONE_BY_ONE: Final = 4096
"""Bytes of a text that are looked at one by one, which is the quickest for few when compiled, and the slowest for many when not."""
_SPACE: Final = 0x20
_QUOTE: Final = 0x22
_ZERO: Final = 0x30
_NINE: Final = 0x39
_BACKSLASH: Final = 0x5C
_ASCII_MOST: Final = 127

_known: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}


class Template:
    """One form. An event begins with `head` and `tail`, for the caller with `head` and `shown_tail`. What is the stream's own stands only
    once, and all else is shared with other streams, since the processor waits longer for memory than it works on an event.

    tally: where its events are noted.
    """

    __slots__ = (
        "_after", "_before", "_between", "_head", "_index", "_rest", "_shown_after", "_shown_between", "_shown_tail", "_tail",
        "_with_usage", "tally",
    )  # fmt: skip

    def __init__(self, before: bytes, between: bytes, usage: list[bytes], after: bytes, index: object) -> None:
        """Of an event as the engine sends it. between, usage: what stands between the text and its usage, and the pieces of that around its
        numbers; [] = its events carry none."""
        self._head, self._tail = before, b""
        self._before, self._between, self._after = len(before), len(between), len(after)
        self._with_usage = bool(usage)
        rest = usage[:] or [b""]
        rest[0] = between + rest[0]
        rest[-1] += after
        self._rest = _shared(tuple(rest))  # what must follow the text, with a number between each two
        self._index = index
        self._shown_tail = self._shown_between = self._shown_after = b""
        self.tally = Tally()

    def show(self, shown: bytes) -> bool:
        """shown: the event with its marks as the caller gets it. False: it cannot be pasted."""
        parts = shown.split(_MARK_BYTES)
        if len(parts) != 2:
            return False
        before, rest = parts
        between, mark, after = rest.partition(_USAGE_BYTES)
        if not mark:
            between, after = b"", rest
        same = _alike(self._head, before)
        pieces = _shared((self._head[same:], before[same:], between, after))
        self._head = self._head[:same]
        self._tail, self._shown_tail, self._shown_between, self._shown_after = pieces
        return _USAGE_BYTES not in before and _USAGE_BYTES not in after

    def paste(self, data: bytes, framed: bool = False) -> bytes | None:
        """What the caller gets for `data`: whole events of this form, one or several. None when it is anything else.

        framed: each is a chunk of a chunked body, with its framing.
        """
        shown: list[bytes] = []
        usage = b""
        size: i64 = len(data)
        at: i64 = 0
        stop: i64 = 0
        while at < size:
            if framed:
                at, stop = whole_chunk(data, at)
                if stop == 0:
                    return None
            text: i64 = at + self._before
            end, at = self._parts(data, at)
            if end == 0 or (framed and at != stop):
                return None
            if self._with_usage and (at + 2 >= size or self._shown_between):  # the last one's is noted, the others' only shown
                usage = data[end + self._between : at - self._after]
            shown.append(b"%b%b%b" % (data[text:end], self._shown_between, usage) if self._shown_between else data[text:end])
            if framed:
                at += 2
        if not shown:
            return None
        if self._with_usage:
            if len(shown) > 1 and self.tally.adds_up(self._index):
                return None  # then each one's is to be noted: they are pasted one by one
            self.tally.note(usage, self._index)
        self.tally.events += len(shown)
        if len(shown) == 1:
            return b"%b%b%b%b" % (self._head, self._shown_tail, shown[0], self._shown_after)
        joint = b"%b%b%b" % (self._shown_after, self._head, self._shown_tail)
        return b"%b%b%b%b" % (self._head, self._shown_tail, joint.join(shown), self._shown_after)

    def _parts(self, data: bytes, start: "i64") -> "tuple[i64, i64]":
        """Where the text of the event that begins at `start` ends, and where the event does; zeros = it has another form."""
        cut: i64 = start + len(self._head)
        at: i64 = start + self._before
        if data[start:cut] != self._head or data[cut:at] != self._tail:
            return 0, 0
        end = _end_of_text(data, at)
        at = end
        first = True
        for literal in self._rest:
            if not first:
                at = _end_of_number(data, at)
            first = False
            stop: i64 = at + len(literal)
            if at == 0 or data[at:stop] != literal:
                return 0, 0
            at = stop
        return end, at


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes they have in common at the start."""
    size = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        size += 1
    return size


def _shared(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The same for all streams that have the same: what one of them has just looked at, the processor need not fetch for the next."""
    if sum(map(len, pieces)) > _KEPT_BYTES:
        return pieces
    if len(_known) >= _KEPT:
        _known.clear()
    return _known.setdefault(pieces, pieces)


def _end_of_text(data: bytes, start: "i64") -> "i64":
    """Where the body of a JSON string ends that begins at `start`; 0 = it is empty, or no such body."""
    size: i64 = len(data)
    most: i64 = min(size, start + _ONE_BY_ONE)
    at: i64 = start
    escaped = wide = False  # wide: not known to be ASCII
    while at < most:
        byte: i64 = data[at]
        if byte == _QUOTE:
            break
        if byte < _SPACE:
            return 0
        if byte == _BACKSLASH:
            escaped = True
            at += 1  # what it escapes ends no text
        elif byte > _ASCII_MOST:
            wide = True
        at += 1
    if at >= most or escaped:
        body = _BODY.match(data, start)
        at = body.end() if body is not None else 0
        wide = True
    return at if start < at < size and data[at] == _QUOTE and (not wide or _is_utf8(data[start:at])) else 0


def _end_of_number(data: bytes, start: "i64") -> "i64":
    """Where a number ends that begins at `start`, as JSON writes counts; 0 = there is none."""
    size: i64 = len(data)
    at: i64 = start
    while at < size and _ZERO <= data[at] <= _NINE:
        at += 1
    return at if start < at <= start + _DIGITS_MOST and (data[start] != _ZERO or at == start + 1) else 0


def learn(event: bytes, show: Callable[[Json], Json]) -> Template | None:
    """The form of `event`, or None if it has none. show: what a decoded event becomes for the caller (changes its argument)."""
    if not event.startswith(b"data:") or not event.endswith(b"\n\n") or event.find(b"\n") != len(event) - 2:
        return None
    value = decode(event[5:-2])
    where = _text_of(value)
    if where is None:
        return None
    holder, name = where
    found = re.search(rb'"%s"\s*:\s*"' % name.encode(), event)
    body = _BODY.match(event, found.end()) if found else None
    if found is None or body is None:
        return None
    before, rest = event[: found.end()], event[body.end() :]
    between, after, pieces = b"", rest, list[bytes]()
    if value.get("usage") is not None:
        usage = usage_in(event[5:-2])
        if not usage.startswith(b"{"):
            return None
        between, mark, after = rest.rpartition(usage)
        if not mark:
            return None
        pieces = _NUMBER.split(usage)
        value["usage"] = _USAGE_MARK
    index = value["choices"][0].get("index")
    if not isinstance(index, int):
        index = 0
    holder[name] = _MARK
    marked = before + _MARK_BYTES + between + (_USAGE_BYTES if pieces else b"") + after
    if decode(marked[5:-2]) != value:
        return None
    template = Template(before, between, pieces, after, index)
    return template if template.show(b"data: " + encode(show(value)) + b"\n\n") else None


def _text_of(value: Any) -> tuple[Json, str] | None:
    """Where the one text of an event with one choice stands: the object and its field."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict) or choices[0].get("finish_reason"):
        return None
    delta = choices[0].get("delta")
    holder = delta if isinstance(delta, dict) else choices[0]
    calls = holder.get("tool_calls")
    if isinstance(calls, list) and len(calls) == 1 and isinstance(calls[0], dict):
        function = calls[0].get("function")
        if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
            return None
        return (function, "arguments") if function["arguments"] else None
    return next(((holder, name) for name in OUTPUT if isinstance(holder.get(name), str) and holder[name]), None)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
