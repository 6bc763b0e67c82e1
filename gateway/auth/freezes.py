"""What an operator has frozen, and whom that stops: a tenant, a project, a key, a virtual model, or everything. Does no I/O."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from gateway.config.resolved import Key
from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.words import End

TENANT, PROJECT, KEY, MODEL, ALL = KINDS = ("tenant", "project", "key", "model", "all")
_NEVER: Final = {"x-should-retry": "false"}


class Freeze(Struct, frozen=True, kw_only=True):
    """name: a project's is TENANT/PROJECT, that of `all` is empty. since: wall clock, seconds. by: who asked for it; reason: what for."""

    kind: str
    name: str = ""
    by: str
    since: float
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


class Frozen:
    """All that is frozen, ready to be asked by every request."""

    __slots__ = ("_everything", "_named")

    def __init__(self, freezes: Iterable[Freeze]) -> None:
        self._named: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for one in freezes:
            self._named[one.kind].add(one.name)
        self._everything = bool(self._named[ALL])

    def admit(self, key: Key) -> None:
        """Raises Refusal when nobody may call with this key."""
        no = self._caller(key)
        if no is not None:
            raise no

    def allow(self, *models: str) -> None:
        """Raises Refusal when one of these virtual models may not be used."""
        no = self._model(models)
        if no is not None:
            raise no

    def stops(self, x: Exchange) -> Refusal | None:
        """Why a request that is being served must end; None: it may go on."""
        no = self._caller(x.key) if x.key is not None else None
        return no or (self._model((x.virtual.name, x.via)) if x.virtual is not None else None)

    def _caller(self, key: Key) -> Refusal | None:
        named = self._named
        if self._everything:
            return _refusal("Everything", End.KEY)
        if key.tenant in named[TENANT]:
            return _refusal(f"The tenant `{key.tenant}`", End.KEY)
        if f"{key.tenant}/{key.project}" in named[PROJECT]:
            return _refusal(f"The project `{key.project}`", End.KEY)
        return _refusal("This API key", End.KEY) if key.id and key.id in named[KEY] else None

    def _model(self, names: Iterable[str]) -> Refusal | None:
        found = next((name for name in names if name in self._named[MODEL]), None)
        return None if found is None else _refusal(f"The model `{found}`", End.ROUTE)


def _refusal(what: str, phase: str) -> Refusal:
    said = f"{what} is frozen by whoever runs this gateway."
    return Refusal(403, "frozen", said, phase=phase, headers=dict(_NEVER), who=End.OPERATOR)
