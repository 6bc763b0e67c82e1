"""What a prompt begins with, as a chain of keys from coarse to fine. Reads its beginning only, however long it is.

Keys stand at the ends of the first messages (up to the first one by the user: with it, a conversation can be told from
others, and in all its later turns it is still the same) and, so that a long document is known whatever is asked about it,
at a few fixed lengths before. They are made of the request's JSON as it came: a client that writes it in another way gets
other keys, which costs a hit and no more. The same in every process.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from json import JSONDecoder
from typing import Final

from gateway.route.ask import Ask

HEAD: Final = 64 * 1024
"""Bytes of a prompt in which messages are looked for."""
HASHED: Final = 16 * 1024
"""Bytes that are hashed whole. Of what comes between them and a later end, its length and its last LAST bytes are."""
LAST: Final = 1024
BLOCKS: Final = (1024, 4096, 16384)
PLAIN_BLOCKS: Final = (256, *BLOCKS)
"""For a prompt without messages, which is known by its blocks alone."""

_value = JSONDecoder().raw_decode
_between = re.compile(r"[\s,\[]*")


def chain(ask: Ask) -> list[int]:
    """Keys of 64 bits, coarse to fine; the last one stands for the conversation. Empty = there is no prompt."""
    fields = ask.fields
    if "messages" in fields:
        head = bytes(memoryview(fields["messages"])[:HEAD])
        ends = list(_ends(head))
        last = ends[-1] if ends else len(head)
        ends += [block for block in BLOCKS if block < last]
        return _keys(_tools(ask), head, sorted(set(ends or [last])))
    for name in ("prompt", "input"):
        if name in fields:
            head = bytes(memoryview(fields[name])[:HASHED])
            return _keys(b"", head, [block for block in PLAIN_BLOCKS if block <= len(head)] or [len(head)])
    return []


def _tools(ask: Ask) -> bytes:
    """Engines put them before the messages. They are long and rarely differ in their length alone."""
    raw = memoryview(ask.fields["tools"]) if "tools" in ask.fields else b""
    return b"%d " % len(raw) + bytes(raw[:LAST])


def _ends(head: bytes) -> Iterator[int]:
    """Where the messages up to the first by the user end: that one, and the one before it."""
    text = head.decode("latin-1")  # an index is a byte's; what is between the quotes does not matter here
    at = before = 0
    try:
        while True:
            gap = _between.match(text, at)
            message, at = _value(text, gap.end() if gap else at)
            if isinstance(message, dict) and message.get("role") == "user":
                break
            before = at
    except (ValueError, RecursionError):  # not there, cut off by HEAD, or no JSON
        at = 0
    if before:
        yield before
    if at:
        yield at
    elif len(head) == HEAD:
        yield HEAD


def _keys(seed: bytes, head: bytes, ends: list[int]) -> list[int]:
    found, at = [], 0
    hashed = blake2b(seed, digest_size=8)
    for end in ends:
        if end <= HASHED:
            hashed.update(head[at:end])
        else:
            hashed.update(head[at:HASHED] + b" %d " % end + head[max(at, HASHED, end - LAST) : end])
        at = end
        found.append(int.from_bytes(hashed.digest(), "little"))
    return found
