"""All tokens of one prompt: its texts, the calls of tools in it, the tools' JSON, the chat template. For any thread; no I/O."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from gateway.route.ask import Ask
from gateway.tokens.bounds import estimate, overhead
from gateway.tokens.pieces import pieces

EXACT: Final = 8 << 20
"""Characters that are counted; what is beyond is taken to be like what was counted. Two million tokens: more than any context."""
READ: Final = 32 << 20
"""Bytes of prompt JSON that are decoded. Decoding holds the GIL, about 0.5 ms a megabyte; larger ones are estimated."""
MESSAGES: Final = 100_000
"""Braces in a prompt's JSON. A million empty messages would hold the GIL for longer than their count is worth."""


class Counts(Protocol):
    def count(self, text: str) -> int: ...


class _Function(Struct):
    name: str = ""
    arguments: Any = None


class _Call(Struct):
    function: _Function | None = None


class _Turn(Struct):
    tool_calls: list[_Call] | None = None


_turns: Final = msgspec.json.Decoder(list[_Turn])


class Total(NamedTuple):
    """tokens: the best number there is. sure: those of the texts that were counted, whatever a template makes of all the rest."""

    tokens: int
    sure: int = 0


def total(ask: Ask, tokenizer: Counts, enough: int = 0, stopped: Callable[[], bool] = bool) -> int:
    """As `measure`, the best number alone."""
    return measure(ask, tokenizer, enough, stopped).tokens


def measure(ask: Ask, tokenizer: Counts, enough: int = 0, stopped: Callable[[], bool] = bool) -> Total:
    """Tokens of the prompt; of several in one request the longest one's, since an engine reads them one by one.

    enough: past this many the rest is only estimated (0 = count all). stopped: asked after each piece; when it says so the
    answer is of no use.
    """
    if ask.prompt_bytes > READ:
        return Total(estimate(ask))
    if "messages" not in ask.fields:
        return _longest(ask, tokenizer, enough, stopped)
    messages = bytes(ask.fields.get("messages", b""))
    if messages.count(b"{") > MESSAGES:
        return Total(estimate(ask))
    given = overhead(ask)
    said, rest = ask.texts, list(_calls(messages))
    if "tools" in ask.fields:
        rest.append(bytes(ask.fields["tools"]).decode(errors="replace"))
    if not said and not rest and not given and not ask.has_images():  # nothing that can be read: the engine may think otherwise
        return Total(estimate(ask))
    size, done, counted, sure = sum(map(len, said)) + sum(map(len, rest)), 0, 0, 0
    for text, spoken in (*((text, True) for text in said), *((text, False) for text in rest)):
        for piece in pieces(text):
            found = tokenizer.count(piece)
            counted += found
            sure += found if spoken else 0
            done += len(piece)
            if done >= EXACT or (enough and given + counted > enough) or stopped():
                return Total(given + -(-counted * size // done), sure)
    return Total(given + counted, sure)


def _longest(ask: Ask, tokenizer: Counts, enough: int, stopped: Callable[[], bool]) -> Total:
    """Of prompts, inputs or documents the longest; token ids count as what they are."""
    best, done = _ids(ask), 0
    for text in sorted(ask.units, key=len, reverse=True):
        if done >= EXACT or (enough and best > enough) or stopped():
            break
        found, seen = 0, 0
        for piece in pieces(text):
            found += tokenizer.count(piece)
            seen += len(piece)
            if done + seen >= EXACT or (enough and found > enough) or stopped():
                return Total(max(best, -(-found * len(text) // seen)), max(best, found))
        best, done = max(best, found), done + seen
    return Total(best, best) if best else Total(estimate(ask))


def _calls(messages: bytes) -> Iterator[str]:
    """Names and arguments of the calls that the model has made in earlier turns."""
    if b'"tool_calls"' not in messages:
        return
    try:
        turns = _turns.decode(messages)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    for call in (call for turn in turns for call in turn.tool_calls or ()):
        if call.function:
            yield call.function.name
            if isinstance(call.function.arguments, str):
                yield call.function.arguments


def _ids(ask: Ask) -> int:
    """Token ids, which a prompt may be instead of a text; of several prompts the longest one's."""
    found = 0
    for name in ("prompt", "input"):
        value = ask.field((name,)) if bytes(memoryview(ask.fields.get(name, b""))[:64]).lstrip().startswith(b"[") else None
        items = value if isinstance(value, list) else []
        found = max([found, sum(type(item) is int for item in items), *(len(item) for item in items if isinstance(item, list))])
    return found
