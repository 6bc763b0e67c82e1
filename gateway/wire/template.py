"""The form that a stream's events share, so that the next one is cut and pasted as bytes instead of decoded.

An event of output is `before TEXT after`, or `before TEXT between USAGE end` when each event carries its usage. The form is
learned from one event and proved by decoding: with a mark in place of the text, only that string may change. It then
holds for every other text, because a JSON string's body never changes the structure around it. What a caller
is shown is computed once, with the marks in place, by the very code that decodes events.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.wire.event import OUTPUT, Json, decode, encode
from gateway.wire.tally import Tally
from gateway.wire.usage import usage_in

_MARK: Final = "\ue000text\ue000"
_MARK_BYTES: Final = _MARK.encode()
_USAGE_MARK: Final = {"\ue000": "\ue000usage\ue000"}
_USAGE_BYTES: Final = msgspec.json.encode(_USAGE_MARK)
_BODY: Final = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_NUMBER: Final = re.compile(rb"(?<![^\s:,\[])\d+(?![^\s,}\]])")
_KEPT: Final = 64

_UNQUOTED: Final = bytes(range(32)) + b'"\\'
_PLAIN: Final = bytes.maketrans(_UNQUOTED, b" " * len(_UNQUOTED))
"""Changes whatever cannot stand in a JSON string as it is."""
_ASCII: Final = bytes.maketrans(_UNQUOTED + bytes(range(128, 256)), b" " * (len(_UNQUOTED) + 128))
"""The same, and whatever is not ASCII."""
_DIGITS: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_ZERO: Final = ord("0")
_LONG: Final = re.compile(rb"\d{2,}+")
_IN_A_WORD: Final = re.compile(rb"[^\d\s:,\[]\d|\d[^\d\s,}\]]")

_shapes: dict[bytes, re.Pattern[bytes]] = {}


class Template:
    """One form. `before`, `between`, `after`: bytes around text and usage as the engine sends them; `shown_*`: as the caller gets them.

    shape: the pattern of its usage objects; None = its events carry none.
    """

    __slots__ = (
        "_after", "_before", "_between", "_blank", "_end", "_firsts", "_index", "_lengths", "_rest", "_seen", "_shape",
        "_shown_after", "_shown_before", "_shown_between", "_shown_joint", "_start", "_two",
    )  # fmt: skip

    def __init__(self, before: bytes, between: bytes, after: bytes, shape: re.Pattern[bytes] | None, index: object) -> None:
        self._before, self._between, self._after = before, between, after
        self._start, self._end = len(before), len(after)
        self._two = 2 * (len(before) + len(between) + len(after))  # what is shorter holds no two events
        self._rest = between[1:]
        self._shape = shape
        self._index = index
        self._lengths: dict[bytes, list[int]] = {}
        self._blank = b"1"  # the one seen last, which has most often the same digits as the next; at first none
        self._firsts: list[int] = []
        self._seen = b""
        self._shown_before = self._shown_between = self._shown_after = self._shown_joint = b""

    def show(self, shown: bytes) -> bool:
        """shown: the event with its marks as the caller gets it. False: it cannot be pasted."""
        parts = shown.split(_MARK_BYTES)
        if len(parts) != 2:
            return False
        self._shown_before, rest = parts
        self._shown_between, mark, self._shown_after = rest.partition(_USAGE_BYTES)
        if not mark:
            self._shown_between, self._shown_after = b"", rest
        self._shown_joint = self._shown_after + self._shown_before
        return _USAGE_BYTES not in self._shown_before and _USAGE_BYTES not in self._shown_after

    def paste(self, data: bytes, tally: Tally) -> bytes | None:
        """What the caller gets for `data`: whole events of this form, one or several. None when it is anything else."""
        end = len(data) if len(data) < self._two else data.find(b"\n") + 2
        if end == len(data):  # the usual case: at most one event, and no list of them
            shown = self._one(data)
            return None if shown is None else self._given(shown, 1, tally)
        pieces: list[bytes] = []
        start = 0
        while start < len(data):
            one = self._one(data[start:end]) if end > start else None
            if one is None:
                return None
            pieces.append(one)
            start = end
            end = data.find(b"\n", start) + 2
        return self._given(self._shown_joint.join(pieces), len(pieces), tally) if pieces else None

    def paste_all(self, events: list[bytes], tally: Tally) -> bytes | None:
        """The same for pieces that are one event each. What all of them must be is looked at together, which costs half as much."""
        texts: list[bytes] = []
        usages: list[bytes] = []
        for event in events:
            text, usage = self._parts(event)
            if not text or len(event) >= self._two:
                return None
            texts.append(text)
            usages.append(usage)
        if not _are_texts(texts) or not (self._shape is None or self._all_count(usages)):
            return None
        self._seen = usages[-1]
        between = self._shown_between
        if between:
            texts = [b"%b%b%b" % (texts[at], between, usages[at]) for at in range(len(texts))]
        return self._given(self._shown_joint.join(texts), len(texts), tally)

    def _given(self, shown: bytes, events: int, tally: Tally) -> bytes:
        tally.events += events
        if self._shape is not None:
            tally.note(self._seen, self._index)
        return b"%b%b%b" % (self._shown_before, shown, self._shown_after)

    def _one(self, event: bytes) -> bytes | None:
        """The same for one event, without what stands around the text and usage of them all. `_seen` is then its usage."""
        text, usage = self._parts(event)
        if not text or not _is_text(text) or not (self._shape is None or self._counts(usage)):
            return None
        self._seen = usage
        return b"%b%b%b" % (text, self._shown_between, usage) if self._shown_between else text

    def _parts(self, event: bytes) -> tuple[bytes, bytes]:
        """What stands where its text and its usage would; no text = the event has another form."""
        if not event.startswith(self._before) or not event.endswith(self._after):
            return b"", b""
        if self._shape is None:
            return event[self._start : -self._end], b""
        cut = len(event) - self._end - len(self._blank)  # usage has most often as many digits as the one before
        text = event[self._start : cut]
        if text.endswith(self._between):
            return text[: -len(self._between)], event[cut : -self._end]
        return self._parted(event[self._start : -self._end])

    def _parted(self, inner: bytes) -> tuple[bytes, bytes]:
        """Text and usage, wherever they meet; b"" = they do not. `between` begins with the quote that ends the text; one within the
        text has a backslash before it, and is no text's end."""
        text, _, rest = inner.partition(b'"')  # one byte is found much sooner than several
        if text.endswith(b"\\"):
            text, _, rest = inner.partition(self._between)
            return text, rest
        return (text, rest[len(self._rest) :]) if rest.startswith(self._rest) else (b"", b"")

    def _all_count(self, usages: list[bytes]) -> bool:
        """Whether each is the form's usage with other numbers."""
        size = len(self._blank)
        alike = b"".join(usages).translate(_DIGITS) == self._blank * len(usages)
        for usage in usages:
            if not (alike and len(usage) == size and self._is_written_plainly(usage)) and not self._counts(usage):
                return False
        return True

    def _counts(self, usage: bytes) -> bool:
        """Whether it is the form's usage with other numbers. One with as many digits as an earlier one is compared as bytes."""
        blank = usage.translate(_DIGITS)
        firsts = self._firsts if blank == self._blank else self._lengths.get(blank)
        if firsts is None:
            assert self._shape is not None
            if self._shape.fullmatch(usage) is None:
                return False
            if len(self._lengths) < _KEPT and not _IN_A_WORD.search(usage):
                self._lengths[blank] = [found.start() for found in _LONG.finditer(usage)]
            return True
        self._blank, self._firsts = blank, firsts
        return self._is_written_plainly(usage)

    def _is_written_plainly(self, usage: bytes) -> bool:
        """Whether no number begins with a zero."""
        for first in self._firsts:  # noqa: SIM110 - a loop is twice as quick as any()
            if usage[first] == _ZERO:
                return False
        return True


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
    between, after, shape = b"", rest, None
    if value.get("usage") is not None:
        usage = usage_in(event[5:-2])
        if not usage.startswith(b"{"):
            return None
        between, mark, after = rest.rpartition(usage)
        if not mark:
            return None
        shape = _shape(usage)
        value["usage"] = _USAGE_MARK
    index = value["choices"][0].get("index")
    if not isinstance(index, int):
        index = 0
    holder[name] = _MARK
    marked = before + _MARK_BYTES + between + (_USAGE_BYTES if shape else b"") + after
    if decode(marked[5:-2]) != value:
        return None
    template = Template(before, between, after, shape, index)
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


def _shape(usage: bytes) -> re.Pattern[bytes]:
    """A pattern for this usage object with other numbers. Kept, since an engine has few of them."""
    pieces = _NUMBER.split(usage)
    key = b"0".join(pieces)
    pattern = _shapes.get(key)
    if pattern is None:
        if len(_shapes) >= _KEPT:
            _shapes.clear()
        pattern = _shapes[key] = re.compile(rb"(?:0|[1-9]\d{0,14}+)".join(map(re.escape, pieces)))
    return pattern


def _are_texts(texts: list[bytes]) -> bool:
    """Whether each is the body of a JSON string. None is empty."""
    together = b"".join(texts)
    if together.translate(_ASCII) == together:
        return True
    for text in texts:  # noqa: SIM110
        if not _is_text(text):
            return False
    return True


def _is_text(text: bytes) -> bool:
    """Whether it is the body of a JSON string, and not empty."""
    if text.translate(_ASCII) == text:
        return text != b""
    if text.translate(_PLAIN) != text and _BODY.fullmatch(text) is None:
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
