"""`share`: a part of the requests, by chance or by whose they are."""

import hashlib
from typing import Final

from gateway.config import resolved_when as form
from gateway.route.ask import Ask
from gateway.route.conditions.consumer import WHO

_WHOLE: Final = 1 << 64
_STEPS: Final = 1 << 20


class Share:
    """So many percent of the requests.

    By chance: the request's one draw is stretched by a factor of this rule, so that several rules do not all pick the same requests.
    By caller: a hash of the salt and the caller's value, the same in every process; with a larger share, those who were in stay in.
    """

    __slots__ = ("_by", "_factor", "_header", "_limit", "_percent", "_salt", "word")

    def __init__(self, wanted: form.Share, salt: str) -> None:
        self.word = "share"
        self._percent, self._limit = wanted.percent, wanted.percent / 100
        self._by, self._header = wanted.by, wanted.header or ""
        self._salt = hashlib.blake2b(salt.encode("utf-8", "replace"), digest_size=16).digest()
        self._factor = float(_STEPS + int.from_bytes(self._salt[:4], "big") % _STEPS | 1) if salt else 1.0

    def holds(self, ask: Ask) -> bool:
        return self._drawn(ask, self._value(ask)) < self._limit

    def _value(self, ask: Ask) -> str:
        """What the caller is kept together by; empty = nothing, then chance decides."""
        if self._by is None:
            return ""
        return ask.headers.get(self._header, "") if self._by == "header" else WHO[self._by](ask)

    def _drawn(self, ask: Ask, value: str) -> float:
        """0 ≤ drawn < 1."""
        if not value:
            return ask.luck * self._factor % 1.0
        digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest, "big") / _WHOLE

    def told(self, ask: Ask) -> str:
        value = self._value(ask)
        drawn = self._drawn(ask, value)
        by = self._header or self._by
        source = "by chance" if by is None else f"by its {by}" if value else f"by chance, having no {by}"
        return f"the request is at {drawn * 100:.1f} % {source}, {'below' if drawn < self._limit else 'not below'} {self._percent:g}"
