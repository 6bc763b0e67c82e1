"""The outermost shape of what each API takes: whether its own fields are there and of the right kind. For `routes explain` alone:
requests are not judged by it, their engine refuses them."""

from collections.abc import Iterator
from typing import Final

from msgspec import Raw

from gateway.wire.openai import Fields

_KINDS: Final = {'"': "text", "[": "a list", "{": "an object", "t": "true", "f": "false", "n": "null"}
"""By the first character of the JSON; anything else is a number."""
_TEXTS: Final = '"['
_TAKES: Final = {
    "chat": {"messages": "["},
    "completions": {"prompt": _TEXTS},
    "embeddings": {"input": _TEXTS},
    "rerank": {"query": '"{', "documents": "[{"},
    "score": {"text_1": '"[{', "text_2": '"[{'},
    "tokenize": {"prompt": '"'},
}
"""API → field → the first characters that it may have. Engines take objects where a text may be an image."""
_INSTEAD: Final = {
    "completions": ("prompt_embeds",),
    "embeddings": ("messages",),
    "score": ("queries", "documents", "items", "data_1", "data_2"),
    "tokenize": ("messages",),
}
"""What some engines take in their place."""


def misshapen(api: str, fields: Fields) -> list[str]:
    """What is wrong with it, in words: "`messages` is text, not a list"."""
    others = any(name in fields for name in _INSTEAD.get(api, ()))
    return [said for name, kinds in _TAKES.get(api, {}).items() for said in _wrong(name, fields.get(name), kinds, others)]


def _wrong(name: str, raw: Raw | None, kinds: str, others: bool) -> Iterator[str]:
    if raw is None:
        if not others:
            yield f"there is no `{name}`"
        return
    text = bytes(raw).lstrip()
    first = chr(text[0]) if text else ""
    if first not in kinds:
        yield f"`{name}` is {_KINDS.get(first, 'a number')}, not {' or '.join(_KINDS[kind] for kind in kinds if kind != '{')}"
    elif name == "messages" and text[1:].lstrip() == b"]":
        yield f"`{name}` is empty"
