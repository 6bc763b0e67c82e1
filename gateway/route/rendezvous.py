"""Rendezvous hashing: every process ranks the same things for a value alike, without speaking to the others.

When a thing comes or goes, only the values that it wins or had won move.
"""

from hashlib import blake2b
from typing import Final

MASK: Final = (1 << 64) - 1


def mark(text: bytes) -> int:
    """64 bits of it, the same in every process."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def mix(one: int, other: int) -> int:
    """64 bits of two marks: how high the one ranks the other. Much cheaper than hashing them again."""
    both = ((one ^ other) * 0x9E3779B97F4A7C15) & MASK
    both = ((both ^ (both >> 32)) * 0xD6E8FEB86659FD93) & MASK
    return both ^ (both >> 32)
