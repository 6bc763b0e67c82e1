"""`share`: a part of the requests, by chance or by whose they are."""

from typing import Final

from gateway.config import resolved_when as form
from gateway.route.ask import Ask
from gateway.route.conditions.consumer import WHO
from gateway.route.rendezvous import MASK, mark

_STEPS: Final = 1 << 20


class Share:
    """So many percent of the requests.

    By chance: the request's one draw. By caller: a hash of the caller's value, the same in every process; with a larger share, those who
    were in stay in. Either is stretched by a factor of this rule, so that several rules do not all pick the same ones.
    """

    __slots__ = ("_by", "_factor", "_header", "_limit", "_percent", "_place", "word")

    def __init__(self, wanted: form.Share, salt: str) -> None:
        self.word = "share"
        self._percent, self._limit = wanted.percent, wanted.percent / 100
        self._by, self._header = wanted.by, wanted.header or ""
        self._place = f"share by {self._by} {self._header}"  # a header may be called `key`
        self._factor = float(_STEPS + mark(salt.encode("utf-8", "replace")) % _STEPS | 1) if salt else 1.0

    def holds(self, ask: Ask) -> bool:
        drawn = ask.once.get(self._place)
        if drawn is None:
            drawn = ask.once[self._place] = self._draw(ask)
        return bool(drawn * self._factor % 1.0 < self._limit)

    def _value(self, ask: Ask) -> str:
        """What the caller is kept together by; empty = nothing, then chance decides."""
        if self._by is None:
            return ""
        return ask.headers.get(self._header, "") if self._by == "header" else WHO[self._by](ask)

    def _draw(self, ask: Ask) -> float:
        """0 ≤ drawn < 1, before it is stretched; once for all rules."""
        value = self._value(ask)
        return mark(value.encode("utf-8", "surrogatepass")) / (MASK + 1) if value else ask.luck

    def told(self, ask: Ask) -> str:
        value = self._value(ask)
        drawn = self._draw(ask) * self._factor % 1.0
        by = self._header or self._by
        source = "by chance" if by is None else f"by its {by}" if value else f"by chance, having no {by}"
        return f"the request is at {drawn * 100:.1f} % {source}, {'below' if drawn < self._limit else 'not below'} {self._percent:g}"
