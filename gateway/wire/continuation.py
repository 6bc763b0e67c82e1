"""The answer so far: what a caller has of a stream, so that another engine can go on where one broke off. Pure.

Goes over a stream's decoded events, between the dialect and the caller. White space at the end of the text is held back
until more text comes: an engine that goes on would lose it (tokenizers and chat templates trim it) or write it again. So is
what may be the beginning of a stop string: engines look for these in what they write themselves, and the next would not see it whole.
Both are held back from the beginning of their event: a text that ended within a token is not one that a model would go on with as
before, and of an event's tokens only the sum is known.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.record import Tokens
from gateway.wire.event import OUTPUT, Json

Normalise = Callable[[Json, str], Json]

ECHO_LEAST: Final = 16
"""Characters: a first event that begins with the whole text so far repeats it when that is so long; no token is."""

_OTHER: Final = tuple(name for name in OUTPUT if name not in ("content", "text"))


class SoFar:
    """One answer, over all engines that had a part in it.

    able: another engine could go on; not after reasoning, tool calls, a finish reason or anything else than one plain text.
    spent: tokens the caller has from engines that broke off. tokens: those it has from the present one. exact: all of them were
    reported, none counted. continued: another engine took over. prompt: tokens of the first engine's prompt, None = not said.
    """

    __slots__ = (
        "_before", "_details", "_echo", "_frame", "_generated", "_held", "_normalise", "_reported", "_seam", "_starts", "_stops", "_text",
        "able", "continued", "exact", "limit", "own", "prompt", "spent", "tokens",
    )  # fmt: skip

    def __init__(self, limit: int | None, stops: Sequence[str] = ()) -> None:
        """limit: the tokens that the caller wants at most. stops: the texts that end its answer."""
        self.limit = limit
        self.able = self.exact = True
        self.continued = False
        self.spent = self.tokens = 0
        self.prompt: int | None = None
        self.own: Tokens | None = None
        """What the present engine says of its own part, undelivered text included; None = nothing yet."""
        self._text = bytearray()  # UTF-8: the smallest form of a text that grows
        self._stops = tuple(stops)
        self._held = ""
        self._starts: list[tuple[int, int]] = []  # where events begin in what is held back, and the tokens before each
        self._seam: str | None = None  # white space that the last engine had written, until the next one writes something
        self._echo = ""
        self._frame: Json = {}
        self._details: Any = None
        self._generated = self._before = 0
        self._reported = False
        self._normalise: Normalise | None = None

    @property
    def text(self) -> str:
        """What the caller has. Never ends in white space while more may come."""
        return self._text.decode()

    @property
    def given(self) -> int:
        """The tokens that the caller has."""
        return self.spent + self.tokens

    @property
    def full(self) -> bool:
        """All that the caller wanted is here, held back or not."""
        return self.limit is not None and self.spent + self._generated >= self.limit

    def begin(self, normalise: Normalise) -> None:
        """An engine begins, or goes on with what the caller has. normalise: its dialect's `event`."""
        if self._text:
            self.exact = self.exact and (self._reported or not self.tokens)
            self.spent, self.tokens = self.spent + self.tokens, 0
            self.continued = True
            self._seam = self._held[: len(self._held) - len(self._held.lstrip())] or self._seam
            self._echo = self.text
        else:
            self._frame = {}
            self.prompt = self._details = None
            self.able = True
        self._held = ""
        self._starts = []
        self._generated = 0
        self._reported = False
        self.own = None
        self._normalise = normalise

    def event(self, event: Json, reasoning: str) -> Json:
        """One event as the caller gets it; {} when there is nothing for it to get yet."""
        value = self._normalise(event, reasoning) if self._normalise is not None else event
        usage = value.get("usage")
        self._before = self._generated
        if isinstance(usage, dict):
            self._note(usage)
        choices = value.get("choices")
        if isinstance(choices, list) and choices and not self._choices(choices):
            return {}
        if isinstance(usage, dict) and self.continued:
            self._sum(usage)
        if self.continued:
            value.update((name, self._frame[name]) for name in self._frame if name in value)
        elif not self._frame:
            self._frame = {name: value[name] for name in ("id", "created") if name in value}
        return value

    def last_event(self, value: Json) -> Json:
        """The end that an engine which broke off did not write, when the caller has all the tokens it wanted. value: its last event."""
        self.tokens = self._generated
        return _event(value, self._rest(""), "length")

    def left(self, value: Json) -> Json:
        """Text that is still held back when an engine ends its answer without a finish reason, as an event; {} = there is none.
        value: the engine's last event."""
        text = self._rest("")
        return _event({name: part for name, part in value.items() if name != "usage"}, text, None) if text else {}

    # -- text -------------------------------------------------------------------------------------------------------

    def _choices(self, choices: list[Any]) -> bool:
        """Whether there is something for the caller to get."""
        choice = choices[0]
        if len(choices) > 1 or not isinstance(choice, dict) or choice.get("index") not in (0, None):
            self.able = False
            return True
        delta = choice.get("delta")
        where = delta if isinstance(delta, dict) else choice
        if any(where.get(name) for name in _OTHER) or choice.get("logprobs"):
            self.able = False
        told = self.continued and "role" in where  # the caller was told by the first engine; clients may join what they are told twice
        if told:
            del where["role"]
        ends = bool(choice.get("finish_reason")) or not self.able
        if choice.get("finish_reason"):
            self.able = False
        name = "content" if isinstance(delta, dict) else "text"
        text = where.get(name)
        if not isinstance(text, str) or not text:
            if ends and (rest := self._rest("")):
                where[name] = rest
                self._keep(rest)
            return ends or not told
        if not self._reported:
            self._generated += 1
        shown = self._rest(text) if ends else self._without_end(text)
        if shown:
            where[name] = shown
            self._keep(shown)
            self.tokens = self._starts[0][1] if self._starts else self._generated
        return bool(shown) or ends

    def _keep(self, shown: str) -> None:
        try:
            self._text += shown.encode()
        except UnicodeEncodeError:  # half of a character, which no request could hold
            self.able = False

    def _without_end(self, text: str) -> str:
        """The text but for what is held back: white space at its end with the event in which it begins, since nobody knows whether it is a
        token of its own; and all events since a stop string may have begun."""
        self._starts.append((len(self._held), self._before))
        whole = self._held + self._new(text)
        size = len(whole)
        if begun := self._begun(whole):
            size = max((start for start, _ in self._starts if start <= size - begun), default=0)
        shown = whole[:size].rstrip()
        if len(shown) < size:
            start = max((start for start, _ in self._starts if start <= len(shown)), default=len(shown))
            if not whole[:start][-1:].isspace():  # else nothing of an engine that ends all events so would ever be shown
                shown = whole[:start]
        self._held = whole[len(shown) :]
        self._starts = [(start - len(shown), before) for start, before in self._starts if start >= len(shown)]
        return self._joined(shown) if shown else ""

    def _begun(self, whole: str) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        most = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(whole)), most, -1):
                if whole.endswith(stop[:size]):
                    most = size
                    break
        return most

    def _rest(self, text: str) -> str:
        """All that there is: no more text will come."""
        whole = self._held + self._new(text)
        self._held = ""
        self._starts = []
        return self._joined(whole)

    def _new(self, text: str) -> str:
        """What is new in an engine's first text: some begin with all that they were given."""
        echo, self._echo = self._echo, ""
        return text[len(echo) :] if len(echo) >= ECHO_LEAST and text.startswith(echo) else text

    def _joined(self, shown: str) -> str:
        """At the seam: white space that the last engine had written comes back when the new one does not write its own."""
        seam, self._seam = self._seam, None
        return seam + shown if seam and not shown[:1].isspace() else shown

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _note(self, usage: Json) -> None:
        """An engine's own count."""
        prompt, completion, details = usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("prompt_tokens_details")
        if not isinstance(prompt, int) or not isinstance(completion, int):
            return
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        self.own = Tokens(input=prompt, cached=cached if isinstance(cached, int) else 0, output=completion)
        self._generated = completion
        self._reported = True
        if not self.continued:
            self.prompt, self._details = prompt, details

    def _sum(self, usage: Json) -> None:
        """What the caller is told: the first engine's prompt and the output of all. Later prompts held the text so far for our sake."""
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(prompt, int) or not isinstance(completion, int):
            return
        known = self.prompt if self.prompt is not None else max(0, prompt - self.spent)
        new: Json = {"prompt_tokens": known, "total_tokens": known + self.spent + completion, "completion_tokens": self.spent + completion}
        if self.prompt is not None:
            new["prompt_tokens_details"] = self._details
        usage.update((name, value) for name, value in new.items() if name in usage)


def _event(value: Json, text: str, finish: str | None) -> Json:
    """An event of the same stream as `value` with other text."""
    end: Json = {"text": text} if value.get("object") == "text_completion" else {"delta": {"content": text}}
    return {**value, "choices": [{"index": 0, **end, "logprobs": None, "finish_reason": finish}]}
