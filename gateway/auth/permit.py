"""What a key may do: its own access and that of its project and tenant together. Compiled when it first calls; pure.

Models, APIs and addresses have to be open at each of the three; a priority is that of the nearest that says one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from gateway.auth.addresses import Gate
from gateway.config.globs import matches
from gateway.config.resolved_access import EVERY, USUAL_PRIORITY, Access, Models, Switch
from gateway.errors import Refusal

REMEMBERED: Final = 1000
"""Names of models of which a permit knows the answer at once."""

Opens = Callable[[float], bool]
"""Whether a schedule is open at a moment, in seconds since 1970."""
Names = tuple[str, ...]
"""All names of a model: its own first."""
Sets = tuple[Models, ...]
"""All of them have to let a name in."""


class Permit:
    """Made for one tenant, project and key. checked: whether there is more to it than models. apis: None = all."""

    __slots__ = ("_allowed", "_gates", "_levels", "_sets", "_switched", "_usable", "apis", "checked")

    def __init__(self, chain: Sequence[Access], schedules: Mapping[str, Opens]) -> None:
        """chain: of the tenant, the project and the key."""
        self._gates = [Gate(access.allow, access.deny) for access in chain if access.allow or access.deny]
        said = [frozenset(access.apis) for access in chain if access.apis]
        self.apis = frozenset.intersection(*said) if said else None
        self.checked = bool(self._gates) or self.apis is not None
        self._levels = [_Level(access, schedules) for access in chain]
        self._switched = any(level.switches for level in self._levels)
        self._sets: Sets = tuple(access.models for access in chain if access.models != EVERY)
        self._allowed: dict[str, bool] = {}
        self._usable: dict[Sets, frozenset[str]] = {}

    def check(self, ip: str, api: str) -> None:
        """Refuses, with 403, a caller from elsewhere and one that calls another API."""
        if not all(gate.lets_in(ip) for gate in self._gates):
            raise wrong_address(ip, "your API key")
        self.check_api(api)

    def check_api(self, api: str) -> None:
        """Refuses, with 403, a caller of another API than those that are open."""
        if self.apis is not None and api not in self.apis and api != "models":
            said = f"Your API key may not call this API ({api}), only: {', '.join(sorted(self.apis)) or 'none'}."
            raise Refusal(403, "api_not_allowed", said, phase="K")

    def allows(self, name: str, names: Names, now: float) -> bool:
        """Whether a model may be called `name`; names: all that it has. now: seconds since 1970."""
        if self._switched:
            return in_sets(self._sets_at(now), name, names)
        found = self._allowed.get(name)
        if found is None:
            if len(self._allowed) >= REMEMBERED:
                self._allowed.clear()
            found = self._allowed[name] = in_sets(self._sets, name, names)
        return found

    def usable(self, models: Iterable[tuple[str, Names]], now: float) -> frozenset[str]:
        """Of names, each with all that its model has (the same for one snapshot, always), those that may be used now."""
        sets = self._sets_at(now) if self._switched else self._sets
        found = self._usable.get(sets)
        if found is None:
            found = self._usable[sets] = frozenset(name for name, names in models if in_sets(sets, name, names))
        return found

    def priority(self, now: float) -> int:
        """In a channel's queue, 0 to 9."""
        said = (level.priority_at(now) for level in reversed(self._levels))
        return next((priority for priority in said if priority >= 0), USUAL_PRIORITY)

    def _sets_at(self, now: float) -> Sets:
        return tuple(level.models_at(now) for level in self._levels)


class _Level:
    """One of the three, with its hours."""

    __slots__ = ("_models", "_priority", "switches")

    def __init__(self, access: Access, schedules: Mapping[str, Opens]) -> None:
        self._models, self._priority = access.models, access.priority
        self.switches = [(switch, _applies(switch, schedules)) for switch in access.hours]

    def models_at(self, now: float) -> Models:
        found = (switch.models for switch, applies in self.switches if switch.models is not None and applies(now))
        return next(found, self._models)

    def priority_at(self, now: float) -> int:
        found = (switch.priority for switch, applies in self.switches if switch.priority >= 0 and applies(now))
        return next(found, self._priority)


def _applies(switch: Switch, schedules: Mapping[str, Opens]) -> Opens:
    if switch.during:
        return schedules[switch.during]
    closed = schedules[switch.outside]
    return lambda now: not closed(now)


def wrong_address(ip: str, what: str) -> Refusal:
    """For callers from elsewhere. what: may not be used from there."""
    return Refusal(403, "address_not_allowed", f"From your address ({ip or 'unknown'}) {what} may not be used.", phase="K")


def in_sets(sets: Sets, name: str, names: Names) -> bool:
    """Whether all sets let the model of these names be called `name`."""
    return all(in_set(models, name, names) for models in sets)


def in_set(models: Models, name: str, names: Names) -> bool:
    """Denied is a model by any of its names; allowed by its own, or by the one that is used."""
    if models.deny and any(matches(glob, one) for glob in models.deny for one in (name, *names)):
        return False
    return any(matches(glob, name) or matches(glob, names[0]) for glob in models.allow)
