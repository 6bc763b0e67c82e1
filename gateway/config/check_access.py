"""What is wrong with access beyond single fields: names that lead nowhere, and keys that could never do anything."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from gateway.config.access import Ip, ModelSet, Switch
from gateway.config.globs import matches
from gateway.config.marks import Loc
from gateway.config.read import Reading
from gateway.config.schema import Config, Key, Project, Tenant
from gateway.config.wording import nearest
from gateway.errors import Mistake

Meaning = Callable[[str], str | None]
"""None when a pattern means some model; else what to say."""
Part = Tenant | Project | Key


Set = tuple[tuple[str, ...], tuple[str, ...]]
"""Globs that allow, globs that deny."""
Sets = tuple[Set, ...]
"""Those of one place that count at some time or other."""
_EVERY: Set = (("*",), ())
NOTHING, UNKNOWN, SOME = range(3)


def access(config: Config, reading: Reading, keys: Sequence[int], meaning: Meaning) -> Iterator[Mistake]:
    """Of everybody, tenants, projects and keys. keys: where in the file each key stands."""
    check = _Check(config, reading, meaning)
    yield from check.ip(config.ip, ("ip",))
    above: dict[tuple[str, str], list[Tenant | Project]] = {}
    for name, tenant in config.tenants.items():
        at: Loc = ("tenants", name)
        yield from check.part(tenant, at)
        yield from check.tenant(tenant, at)
        for project, one in tenant.projects.items():
            above[name, project] = [tenant, one]
            yield from check.part(one, (*at, "projects", project))
            yield from check.chain([tenant], one, (*at, "projects", project), "project")
    for number, key in zip(keys, config.keys, strict=True):
        over = above.get((key.tenant, key.project))
        alike = None
        if not (key.apis or key.ip or key.hours):
            alike = id(over), tuple(key.models.allow), tuple(key.models.deny)
        if alike is not None and alike in check.good:
            continue
        found = [*check.part(key, ("keys", number)), *(check.chain(over, key, ("keys", number), "key") if over else ())]
        if alike is not None and not found:
            check.good.add(alike)
        yield from found


class _Check:
    def __init__(self, config: Config, reading: Reading, meaning: Meaning) -> None:
        self.config, self.reading, self.meaning = config, reading, meaning
        self.names = [(name, (name, *model.aliases)) for name, model in config.models.items()]
        self._known: dict[tuple[tuple[Sets, ...], Sets], int] = {}
        self._above: dict[int, tuple[Sets, ...]] = {}
        self.good: set[tuple[object, ...]] = set()
        """Places and models of keys that said nothing else, and nothing wrong: there are many alike."""

    def part(self, part: Part, at: Loc) -> Iterator[Mistake]:
        if part.models is not None:
            yield from self._models(part.models, (*at, "models"))
        if part.apis:
            yield from _twice(part.apis, (*at, "apis"), self.reading)
        if part.ip is not None:
            yield from self.ip(part.ip, (*at, "ip"))
        seen: dict[tuple[str | None, str | None], int] = {}
        for number, switch in enumerate(part.hours):
            here: Loc = (*at, "hours", number)
            yield from self._switch(switch, here)
            first = seen.setdefault((switch.during, switch.outside), number)
            if first != number and not {"models", "priority"}.isdisjoint(part.hours[first].model_fields_set & switch.model_fields_set):
                yield self.reading.marks.at(here, "these hours are listed twice", f"number {first + 1} counts, as the first; join the two")

    def ip(self, ip: Ip | None, at: Loc) -> Iterator[Mistake]:
        """Of one place."""
        if ip is None:
            return
        for word, networks in (("allow", ip.allow), ("deny", ip.deny)):
            yield from _twice(networks, (*at, word), self.reading)
        allow, deny = _networks(tuple(ip.allow)), _networks(tuple(ip.deny))
        if allow and all(any(_covers(no, one) for no in deny) for one in allow):
            yield self.reading.marks.at((*at, "deny"), "every address that `allow` names is denied: nobody could call", None, key=True)

    def tenant(self, tenant: Tenant, at: Loc) -> Iterator[Mistake]:
        """Whether it closes every model, which is said here and not of each of its keys."""
        if tenant.models is not None and self.names and not self.reading.broken and self._reach((), _sets(tenant)) == NOTHING:
            hint = "to stop a tenant for a while: gatewayctl freeze"
            yield self.reading.marks.at((*at, "models"), "this tenant may use no model at all", hint, key=True)

    def chain(self, above: Sequence[Tenant | Project], owner: Project | Key, at: Loc, what: str) -> Iterator[Mistake]:
        """Whether anything is open at all of a key, its project and its tenant. above: the places over `owner`, always the same list."""
        marks = self.reading.marks
        places = " and ".join(("the tenant", "the project")[: len(above)])
        if self.names and not self.reading.broken:
            over = self._above.get(id(above[-1]))
            if over is None:
                over = self._above[id(above[-1])] = tuple(map(_sets, above))
            if self._reach(over, _sets(owner)) == NOTHING and self._reach(over, ()) == SOME:
                here: Loc = (*at, "models") if "models" in owner.model_fields_set else at
                hint = f"no model is open to {places} and to this {what} alike"
                yield marks.at(here, f"this {what} may use no model at all", hint, key=here is at)
        if owner.apis and (said := [set(part.apis) for part in above if part.apis]) and not set.intersection(set(owner.apis), *said):
            yield marks.at((*at, "apis"), f"this {what} may call no API at all", f"none of these is open to {places}", key=True)
        if owner.ip and owner.ip.allow:
            allowed = [part.ip.allow for part in (*above, owner) if part.ip and part.ip.allow]
            if not _meet(tuple(map(tuple, allowed))):
                hint = f"none of these addresses is open to {places}"
                yield marks.at((*at, "ip", "allow"), f"this {what} may be used from no address at all", hint, key=True)

    def _models(self, models: ModelSet, at: Loc) -> Iterator[Mistake]:
        marks = self.reading.marks
        for word, globs in (("allow", models.allow), ("deny", models.deny)):
            if all(glob == "*" for glob in globs) and globs:
                continue
            if not globs and word == "allow":
                listed = self._listed(at)
                yield marks.at(at if listed else (*at, word), "this opens no model", 'name some, or write "*" for all', key=not listed)
            for place, glob in enumerate(globs):
                said = None if self.reading.broken else self.meaning(glob)
                if said is not None:
                    yield marks.at((*at, place) if self._listed(at) else (*at, word, place), f'"{glob}" matches nothing', said)

    def _listed(self, at: Loc) -> bool:
        """Whether models are written as a list alone."""
        data: Any = self.reading.data
        for step in at:
            data = data[step]
        return isinstance(data, list)

    def _switch(self, switch: Switch, at: Loc) -> Iterator[Mistake]:
        marks = self.reading.marks
        if (switch.during is None) == (switch.outside is None):
            said = "these hours have no schedule" if switch.during is None else "both during and outside"
            yield marks.at(at, said, "write during: or outside: and a schedule's name")
        if switch.models is None and switch.priority is None:
            yield marks.at(at, "these hours change nothing", "say what is otherwise: models or priority")
        if switch.models is not None:
            yield from self._models(switch.models, (*at, "models"))
        for word, name in (("during", switch.during), ("outside", switch.outside)):
            if name is not None and not self.reading.broken and name not in self.config.schedules and not self._unread("schedules", name):
                known = self.config.schedules
                hint = nearest(name, known) or (f"known are: {', '.join(list(known)[:12])}" if known else "no schedule is configured")
                yield marks.at((*at, word), f'there is no schedule "{name[:64]}"', hint)

    def _unread(self, section: str, name: str) -> bool:
        """Whether it is there, with mistakes of its own."""
        written = self.reading.data.get(section)
        return isinstance(written, dict) and name in written

    def _reach(self, above: tuple[Sets, ...], own: Sets) -> int:
        """Remembered here: a cache around a method would hold itself, and with it all that was read."""
        found = self._known.get((above, own))
        if found is None:
            found = self._known[above, own] = self._reaches(above, own)
        return found

    def _reaches(self, above: tuple[Sets, ...], own: Sets) -> int:
        """Whether some model is open everywhere. UNKNOWN: a pattern means nothing, which is said already."""
        places = (*above, own) if own else above
        if any(not allow or any(map(self.meaning, allow)) for sets in places for allow, _ in sets):
            return UNKNOWN
        found = any(all(any(self._in(one, name, names) for one in sets) for sets in places) for _, names in self.names for name in names)
        return SOME if found else NOTHING

    @staticmethod
    def _in(one: Set, name: str, names: tuple[str, ...]) -> bool:
        allow, deny = one
        if any(matches(glob, other) for glob in deny for other in names):
            return False
        # of a name that ends in * any beginning will do: what callers make of it is theirs
        begins = name[:-1] if name.endswith("*") else None
        return any(matches(glob, name) or matches(glob, names[0]) or (begins is not None and glob.startswith(begins)) for glob in allow)


def _sets(part: Part) -> Sets:
    models = part.models
    sets: Sets = (_EVERY if models is None else (tuple(models.allow), tuple(models.deny)),)
    if part.hours:
        sets += tuple((tuple(one.models.allow), tuple(one.models.deny)) for one in part.hours if one.models is not None)
    return sets


@lru_cache(maxsize=10_000)
def _networks(texts: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(text) for text in texts]


def _covers(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and other.subnet_of(one)  # type: ignore[arg-type]


@lru_cache(maxsize=10_000)
def _meet(allowed: tuple[tuple[str, ...], ...]) -> bool:
    """Whether some address is in all of these lists of networks."""
    found = _networks(allowed[0])
    for texts in allowed[1:]:
        others = _networks(texts)
        found = [one if _covers(other, one) else other for one in found for other in others if _covers(one, other) or _covers(other, one)]
    return bool(found)


def _twice(values: Sequence[str], at: Loc, reading: Reading) -> Iterator[Mistake]:
    seen: dict[str, int] = {}
    for number, value in enumerate(values):
        first = seen.setdefault(value, number)
        if first != number:
            yield reading.marks.at((*at, number), "this is listed twice", f"first as number {first + 1}")
