"""What happens to an answer's event stream between engine and caller. Decides what the caller sees of each event.

    none     whole events as they came; only looked at
    splice   the default: events of a known form are cut and pasted as bytes, all others decoded
    decode   every event decoded, changed and encoded again

All three see the same things: when the answer commits, its finish, its usage, an error in band, bytes that are no SSE.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from gateway.wire import sse
from gateway.wire.event import OUTPUT, Json, decode, encode, error_in, one_reasoning
from gateway.wire.tally import Tally
from gateway.wire.template import Template, learn

Normalise = Callable[[Json, str], Json]
"""A dialect's `event`: (decoded event, reasoning field) → event in OpenAI's shape. Must not depend on the generated text, unless all
events are decoded; {} then means that the caller does not get this one."""

BROKEN_TEXT: Final = 500
TEMPLATES: Final = 8
KINDS: Final = ("none", "splice", "decode")


class Stream:
    """One stream's way from engine to caller, of any kind. After an error, broken or done, it gives nothing more."""

    __slots__ = (
        "_continuous", "_current", "_decode_all", "_expected", "_long", "_model", "_normalise", "_raw", "_reasoning", "_splitter",
        "_templates", "_tried", "_wants_usage", "broken", "broken_text", "committed", "done", "error", "finished", "over", "tally",
    )  # fmt: skip

    def __init__(
        self, kind: str, model: str | None, wants_usage: bool, wants_continuous: bool, reasoning: str, event: Normalise | None
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"no such transform: {kind}")
        self._raw = kind == "none"
        self._decode_all = kind == "decode"
        self._model = model
        self._wants_usage = wants_usage
        self._continuous = wants_continuous
        self._reasoning = reasoning
        self._normalise = event
        self._splitter = sse.Splitter()
        self.tally = Tally()
        self._templates: list[Template] = []
        self._expected: list[Template] = []  # the same, where the next byte begins an event
        self._current: Template | None = None  # the likeliest of them, of which all else is near when it comes
        self._long = 0  # events of output that went the long way after the first
        self._tried = 0
        self.committed = False
        """An event with non-empty content, reasoning, tool call, text, refusal, audio or a finish reason was seen."""
        self.finished = False
        """A finish reason was seen."""
        self.done = False
        """`[DONE]` was seen. It is never handed out: the relay writes its own after settling the record."""
        self.error: dict[str, Any] | None = None
        """An error event in band, decoded whole."""
        self.broken: str | None = None
        """Bytes that are no SSE: what they are, without the text itself."""
        self.broken_text = b""
        """The text itself, at most 500 bytes, for the dialect."""
        self.over = False
        """Nothing more will be given: done, an error, or broken."""

    def feed(self, data: bytes) -> bytes:
        """What the caller gets now: whole events, or b""."""
        if self.over:
            return b""
        for template in self._expected:
            pasted = template.paste(data)
            if pasted is not None:
                return data if self._raw else pasted
        shown = self._split(data)
        self._expected = self._templates if self._splitter.fresh and not self.over else []
        self._current = self._expected[0] if self._expected and not self._raw else None
        return shown

    def feed_all(self, pieces: list[bytes]) -> bytes:
        """The same for pieces that came together."""
        return self.feed(pieces[0]) if len(pieces) == 1 else b"".join([self.feed(piece) for piece in pieces])

    def feed_framed(self, data: bytes) -> bytes | None:
        """The same for whole chunks of a chunked body, with their framing, which hold one event each, all of one known form: that is how
        engines write. None = they are anything else; then nothing was noted, and what they hold is to be fed."""
        current = self._current
        if current is None:
            return None
        pasted = current.paste(data, framed=True)
        if pasted is None:
            for template in self._expected:
                pasted = template.paste(data, framed=True) if template is not current else None
                if pasted is not None:
                    self._current = template
                    break
        return pasted

    def _split(self, data: bytes) -> bytes:
        """Event by event: something else than whole events of one known form has come."""
        too_long = None
        try:
            events = self._splitter.feed(data)
        except sse.EventTooLong as why:
            events, too_long = why.events, str(why)
        if len(events) == 1 and not too_long:
            return self._event(events[0])
        out = b"".join([self._event(event) for event in events])  # after an error each of them is b""
        if too_long:
            self._break(too_long, b"")
        return out

    def flush(self) -> bytes:
        """At the engine's EOF. An event that never ended is `broken`, never handed out."""
        rest = self._splitter.flush()
        if self.over or not rest.strip():
            return b""
        parts = sse.fields_of(rest)
        if parts.strange is None and parts.data is not None:
            if parts.data.strip() == b"[DONE]":  # whole without its blank line
                return self._end()
            said = error_in(decode(parts.data), parts.name)
            if said is not None:
                self._fail(said)
                return b""
        elif parts.strange is None and not parts.name:
            return b""  # a comment
        self._break("the stream ended within an event" if parts.strange is None else "text that is no event", rest)
        return b""

    def conclude(self, last: Json) -> bytes:
        """Ends the answer in place of its engine, as `[DONE]` would have. last: the event that is missing; {} = none."""
        return (b"data: " + encode(last) + b"\n\n" if last else b"") + self._end()

    def _event(self, event: bytes) -> bytes:
        if self.over:
            return b""
        for template in self._templates:
            pasted = template.paste(event)
            if pasted is not None:
                return event if self._raw else pasted
        if self._decode_all or not self.committed:
            return self._decoded(event)
        before = self.tally.events
        shown = self._decoded(event)
        if self.tally.events > before:
            self._long += 1
            if self._tried < TEMPLATES + (before - self._long) // TEMPLATES:  # a stream without a form is not searched for one for ever
                self._tried += 1
                self._learn(event, shown)
        return shown

    def _learn(self, event: bytes, shown: bytes) -> None:
        """Never from the first event of output: that one is on the way to the first token, and often unlike the others."""
        made = learn(event, self._again)
        if made is None:
            return
        pasted, told = made.paste(event), made.tally.usage
        usage = self.tally.of_last()
        if pasted is not None and decode(pasted[6:]) == decode(shown[6:]) and (not told or decode(told) == decode(usage)):
            made.tally = self.tally
            self.tally.slim()
            self._templates.insert(0, made)
            del self._templates[TEMPLATES:]

    def _again(self, value: Json) -> Json:
        """What the caller sees of a decoded event with choices; nothing is noted."""
        if self._raw:
            return value
        if self._normalise is not None:
            value = self._normalise(value, self._reasoning)
        if "usage" in value and not (self._continuous and value["usage"]):
            del value["usage"]
        return self._shown(value)

    def _decoded(self, event: bytes) -> bytes:
        """One event the long way."""
        if event.startswith(b"data: {") and event.find(b"\n") == len(event) - 2:
            payload, name = event[6:-2], b""
        else:
            parts = sse.fields_of(event)
            if parts.strange is not None:
                self._strange(parts.strange, event)
                return b""
            payload, name = parts.data or b"", parts.name
            if not payload.strip():
                return self._aside(event)
            if payload.strip() == b"[DONE]":
                return self._end()
            if not name and payload.strip() == b"null":  # llama.cpp begins with it where it has several prompts
                return self._aside(event)
        value = decode(payload)
        if not isinstance(value, dict):
            if name in (b"", b"message", b"error"):
                self._break("data that is no JSON object", payload)
                return b""
            return self._aside(event)
        said = error_in(value, name)
        if said is not None:
            self._fail(said)
            return b""
        if name not in (b"", b"message"):
            return self._aside(event)
        return self._message(value, event)

    def _message(self, value: Json, event: bytes) -> bytes:
        """A decoded event that is part of the answer."""
        if self._normalise is not None and not self._raw:
            value = self._normalise(value, self._reasoning)
            if not value:
                return b""
        choices = value.get("choices")
        index: object = None
        if isinstance(choices, list) and choices:
            output = False
            for choice in choices:
                if isinstance(choice, dict):
                    output |= self._choice(choice)
                    index = choice.get("index")
            if not isinstance(index, int):
                index = 0
            if output:
                self.committed = True
                self.tally.events += 1
            if len(choices) > 1:
                index = None
        usage = value.get("usage")
        if isinstance(usage, dict):
            if not choices:
                index = self.tally.whose()
            self.tally.note(encode(usage), index)
        self.tally.frame = value
        if self._raw:
            return event
        if not choices and ("choices" in value or usage):
            if not self._wants_usage or index is not None:  # one choice's own: the caller gets that of all at the end
                return b""
            self.tally.passed = self.tally.passed or bool(usage)
        elif "usage" in value and not (self._continuous and usage):
            del value["usage"]
        return b"data: " + encode(self._shown(value)) + b"\n\n"

    def _choice(self, choice: Json) -> bool:
        """Does it carry output? Notes its finish."""
        if choice.get("finish_reason"):
            self.finished = self.committed = True
            self.tally.end(choice.get("index"))
        where = choice.get("delta")
        if not isinstance(where, dict):
            where = choice
        for name in OUTPUT:  # noqa: SIM110 - a loop is twice as quick as any()
            if where.get(name):
                return True
        return False

    def _shown(self, value: Json) -> Json:
        """With the caller's words: model name and reasoning field."""
        if self._model is not None:
            value["model"] = self._model
        choices = value.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                delta = choice.get("delta") if isinstance(choice, dict) else None
                if isinstance(delta, dict) and ("reasoning" in delta or "reasoning_content" in delta):
                    one_reasoning(delta, self._reasoning)
        return value

    def _aside(self, event: bytes) -> bytes:
        """Comments, named events, events without data."""
        return event if self._raw else b""

    def _end(self) -> bytes:
        self.done = True
        self._stop()
        if self._raw or not self._wants_usage or self.tally.passed or not self.tally.usage:
            return b""
        return b"data: " + encode(self.tally.last_chunk(self._model)) + b"\n\n"

    def _stop(self) -> None:
        """Nothing more is given."""
        self.over = True
        self._expected, self._current = [], None

    def _strange(self, line: bytes, event: bytes) -> None:
        """A line that SSE does not know. llama.cpp of old wrote errors as `error: {…}`."""
        said = error_in(decode(line[6:]), b"error") if line.startswith(b"error:") else None
        if said is not None:
            self._fail(said)
        else:
            self._break("text that is no event", event)

    def _fail(self, said: Json) -> None:
        self.error = said
        self._stop()

    def _break(self, what: str, text: bytes) -> None:
        if self.over:
            return
        self.broken = what
        self.broken_text = text.strip()[:BROKEN_TEXT]
        self._stop()


def transform(
    kind: str,
    *,
    model: str,
    wants_usage: bool,
    wants_continuous: bool,
    reasoning: str,
    event: Normalise | None = None,
    rename: bool = True,
) -> Stream:
    """Makes one stream's transform. kind: none, splice, decode. model: the name the caller sees (when rename).

    reasoning: the field callers see. event: the dialect's normaliser; splice calls it for each event it decodes.
    """
    return Stream(kind, model if rename else None, wants_usage, wants_continuous, reasoning, event)


class Shape(Protocol):
    """What a stream needs to know of its engine's dialect."""

    transform: str

    def event(self, event: Json, reasoning: str) -> Json: ...


def transform_for(dialect: Shape, *, model: str, wants_usage: bool, wants_continuous: bool, reasoning: str, rename: bool = True) -> Stream:
    """The transform that this engine's streams need."""
    return transform(
        dialect.transform,
        model=model,
        wants_usage=wants_usage,
        wants_continuous=wants_continuous,
        reasoning=reasoning,
        event=dialect.event,
        rename=rename,
    )
