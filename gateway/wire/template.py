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
_NUMBER: Final = re.compile(rb"(?<![\w.+-])\d+(?![\w.])")
_KEPT: Final = 64

_shapes: dict[bytes, re.Pattern[bytes]] = {}
_forms: dict[tuple[bytes, bytes, bytes], re.Pattern[bytes] | None] = {}
"""What follows `before`, as one pattern: twice as quick as step by step, but dear to compile. So only for a form that a second stream
has too, and never for one that holds a stream's own id."""


class Template:
    """One form. `before`, `between`, `after`: bytes around text and usage as the engine sends them; `shown_*`: as the caller gets them."""

    __slots__ = ("_after", "_before", "_between", "_form", "_index", "_shape", "_shown_after", "_shown_before", "_shown_between")

    def __init__(self, before: bytes, between: bytes, after: bytes, shape: re.Pattern[bytes] | None, index: object) -> None:
        self._before, self._between, self._after = before, between, after
        self._shape = shape
        self._index = index
        self._form = _form(between, after, shape)
        self._shown_before = self._shown_between = self._shown_after = b""

    def show(self, shown: bytes) -> bool:
        """shown: the event with its marks as the caller gets it. False: it cannot be pasted."""
        parts = shown.split(_MARK_BYTES)
        if len(parts) != 2:
            return False
        self._shown_before, rest = parts
        self._shown_between, mark, self._shown_after = rest.partition(_USAGE_BYTES)
        if not mark:
            self._shown_between, self._shown_after = b"", rest
        return _USAGE_BYTES not in self._shown_before and _USAGE_BYTES not in self._shown_after

    def paste(self, data: bytes, tally: Tally) -> bytes | None:
        """What the caller gets for `data`: whole events of this form, one or several. None when it is anything else."""
        if self._form is None:
            return self._paste_one(data, tally)
        match, before, start = self._form.match, self._before, len(self._before)
        shown_before, shown_between, shown_after = self._shown_before, self._shown_between, self._shown_after
        shown: list[bytes] = []
        usage, end, events = b"", 0, 0
        while end < len(data):
            found = match(data, end + start) if data.startswith(before, end) else None
            if found is None:
                return None
            text, usage = found.groups()
            if not text or not (text.isascii() or _is_utf8(text)):
                return None
            shown += (shown_before, text, shown_between, usage, shown_after) if shown_between else (shown_before, text, shown_after)
            end = found.end()
            events += 1
        tally.events += events
        if usage:
            tally.note(usage, self._index)
        return b"".join(shown)

    def _paste_one(self, event: bytes, tally: Tally) -> bytes | None:
        """The same step by step, as long as the form has no pattern of its own."""
        start, end = len(self._before), len(event) - len(self._after)
        if not event.startswith(self._before) or not event.endswith(self._after):
            return None
        usage = b""
        if self._shape is not None:
            cut = event.rfind(self._between)
            begin = cut + len(self._between)
            if cut < start or self._shape.fullmatch(event, begin, end) is None:
                return None
            usage, end = event[begin:end], cut
        if end <= start or _BODY.fullmatch(event, start, end) is None:
            return None
        text = event[start:end]
        if not (text.isascii() or _is_utf8(text)):
            return None
        tally.events += 1
        if usage:
            tally.note(usage, self._index)
        if self._shown_between:
            return self._shown_before + text + self._shown_between + usage + self._shown_after
        return self._shown_before + text + self._shown_after


def _form(between: bytes, after: bytes, shape: re.Pattern[bytes] | None) -> re.Pattern[bytes] | None:
    key = (between, after, shape.pattern if shape else b"")
    if key not in _forms:
        if len(_forms) >= _KEPT:
            _forms.clear()
        _forms[key] = None
    elif _forms[key] is None:
        usage = b"(%s)" % shape.pattern if shape else b"()"
        _forms[key] = re.compile(b"(%s)%s%s%s" % (_BODY.pattern, re.escape(between), usage, re.escape(after)))
    return _forms[key]


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
        between, mark, after = rest.rpartition(usage)
        if not mark or not usage.startswith(b"{"):
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


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
