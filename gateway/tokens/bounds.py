"""How many tokens can a prompt have, at least and at most? Pure, and cheap enough to be asked of each request.

The prompt is every text of the messages (or of `ask.TEXTS`), the tools' JSON, and what a chat template puts around each message.
Images count nothing here: their tokens depend on the model, and no text bounds them.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.route.ask import PROMPT, Ask

TURN: Final = 5
"""Tokens that a chat template puts around a message. ChatML's: `<|im_start|>`, the role, a newline, `<|im_end|>`, a newline."""
START: Final = 3
"""Tokens that begin the answer of a chat: `<|im_start|>`, `assistant`, a newline."""
SMALL: Final = 1 << 16
"""Bytes of prompt JSON up to which it is looked at (0.1 ms at most). Larger ones are bounded by their size alone."""
TINY: Final = 1 << 11
"""Bytes of prompt JSON up to which nothing is decoded for the least: it could not exceed 16 tokens."""
_ESCAPE: Final = b"\\u"
_MEDIA: Final = (b'"image', b'"input_image', b'"input_audio', b'"audio', b'"video')


class Growth(NamedTuple):
    """Bytes that a tokenizer's normalisation may make of one byte of UTF-8, at most: of an ASCII byte, of any other."""

    ascii: int = 1
    other: int = 1


NFC: Final = Growth(1, 3)
UNKNOWN: Final = Growth(4, 12)
"""NFKC makes up to 11; a `▁` of three bytes may stand for each space and before each text."""


def bounds(ask: Ask, longest: int = 0, growth: Growth = UNKNOWN) -> tuple[int, int]:
    """Tokens of the prompt, at least and at most. longest: bytes of the tokenizer's longest token, 0 = not known.

    A token is at least a byte, so there are at most as many as bytes; an escape's six ASCII bytes stand for at most three bytes.
    """
    size = ask.prompt_bytes
    return _least(ask, size, longest, growth), _most(ask, size, growth)


def undecided(limits: Iterable[int], least: int, most: int) -> bool:
    """Whether a condition `over: limit` could come out either way for one of the limits."""
    return any(least <= limit < most for limit in limits)


def estimate(ask: Ask) -> int:
    """A number for when nothing counts: a quarter of the prompt's bytes in UTF-8.

    English has 4.2 to 4.8 bytes a token, Chinese 3 to 4.8, code 3 to 4.2 (of the bundled vocabularies). The JSON around a
    message weighs about what a template puts in its place. Texts are decoded only where images, sounds or films stand beside them.
    """
    parts = _parts(ask)
    if "messages" not in ask.fields and any(part.lstrip()[:1] == b"[" for part in parts):  # several: an engine reads them one by one
        return max((len(text.encode(errors="replace")) for text in ask.units), default=0) // 4
    if not any(word in part for part in parts for word in _MEDIA):
        return max(0, ask.prompt_bytes - 3 * sum(part.count(_ESCAPE) for part in parts)) // 4
    texts = sum(len(text.encode(errors="replace")) for text in ask.texts)
    return (texts + len(memoryview(ask.fields.get("tools", b"")))) // 4 + overhead(ask)


def overhead(ask: Ask) -> int:
    """Tokens of the chat template around the messages."""
    return TURN * len(ask.messages) + START if ask.messages else 0


def _parts(ask: Ask) -> list[bytes]:
    return [bytes(ask.fields[name]) for name in PROMPT if name in ask.fields]


def _least(ask: Ask, size: int, longest: int, growth: Growth) -> int:
    """A character is at least a byte. NFC makes at most three characters of two bytes into one (1.5 a byte, over all of Unicode)."""
    if not longest or not TINY < size <= SMALL:
        return 0
    characters = sum(map(len, ask.texts)) if ask.messages else max(map(len, ask.units), default=0)
    return characters // (longest if growth.other == 1 else 2 * longest)


def _most(ask: Ask, size: int, growth: Growth) -> int:
    if size > SMALL:  # an empty message takes three bytes, `{},`, so there are less than two of a template's tokens for each byte
        return max(2, *growth) * size + START
    data = b"".join([ask.fields[name] for name in PROMPT if name in ask.fields])
    if not data.isascii():
        grown = max(growth)
    elif _ESCAPE in data:
        grown = max(growth.ascii, -(-growth.other // 2))
    else:
        grown = growth.ascii
    return grown * size + TURN * data.count(b"{") + START
