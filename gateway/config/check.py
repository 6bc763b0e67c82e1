"""What no single field can know: names that lead nowhere, names that mean two things, weights and sizes that cannot be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from gateway.config.addresses import listeners
from gateway.config.certificates import certificates
from gateway.config.channel import Channel
from gateway.config.check_access import access
from gateway.config.check_alerts import alerts
from gateway.config.check_limits import limits
from gateway.config.check_models import models
from gateway.config.check_money import money
from gateway.config.check_prices import prices
from gateway.config.check_rules import conditions
from gateway.config.check_unread import unread
from gateway.config.fields import url_of
from gateway.config.globs import matches
from gateway.config.marks import Loc, Marks
from gateway.config.read import Reading
from gateway.config.registries import registry_of, written
from gateway.config.registry_checks import registries
from gateway.config.schema import Config, Key
from gateway.config.wording import MISTAKES_MOST, nearest
from gateway.errors import Mistake


@dataclass
class Facts:
    """What checking learned besides mistakes. files: the TLS files that are used."""

    files: set[str] = field(default_factory=set)


def check(config: Config, reading: Reading, facts: Facts) -> list[Mistake]:
    """All mistakes beyond single fields. `config` may lack the parts that were wrong; their names still count as known."""
    marks = reading.marks
    found = [*_data_dir(config, marks), *_api(config, reading), *listeners(config, marks), *certificates(config, marks, facts.files)]
    found += [*_http(config, marks), *_proxied(config, reading)]
    for name, channel in config.channels.items():
        found += _channel(name, channel, marks)
    channels = _names(reading, "channels", config.channels)
    uses = {name: registry for name, channel in config.channels.items() if (registry := registry_of(channel.endpoints))}
    found += registries(config.registries, uses, reading)
    names = _names(reading, "models", {})
    found += islice(models(config, reading, channels, names, facts.files), MISTAKES_MOST)
    found += islice(unread(config, reading, channels, names), MISTAKES_MOST)
    found += islice(conditions(config, reading), MISTAKES_MOST)
    found += _aliases(config, marks)
    numbers = _key_numbers(config, reading)
    found += islice(_keys(config, reading, numbers), MISTAKES_MOST)
    found += islice(access(config, reading, numbers, _meanings(config, reading)), MISTAKES_MOST)
    own = _own_meanings(config, reading)
    found += islice(limits(config, reading, numbers, own), MISTAKES_MOST)
    found += islice(prices(config, reading, channels, own), MISTAKES_MOST)
    found += islice(money(config, reading, numbers), MISTAKES_MOST)
    found += islice(alerts(config, reading), MISTAKES_MOST)
    return found[: 2 * MISTAKES_MOST]


def _names(reading: Reading, section: str, parsed: dict[str, object] | dict[str, Channel]) -> dict[str, None]:
    written = reading.data.get(section)
    return dict.fromkeys([*parsed, *(written if isinstance(written, dict) else ())])


def _data_dir(config: Config, marks: Marks) -> Iterator[Mistake]:
    if amiss := next((one for one in "'?" if one in config.data_dir), None):
        said = f"data_dir has a {amiss} in its path, where the ledger's database cannot be opened"
        yield marks.at(("data_dir",), said, f"choose another folder than {config.data_dir}")


def _api(config: Config, reading: Reading) -> Iterator[Mistake]:
    unread = len(_names(reading, "listeners", {})) > len(config.listeners)
    if not unread and not any(listener.serves == "api" for listener in config.listeners.values()):
        yield reading.marks.at(("listeners",), "no listener serves api", 'add one: api: {bind: "127.0.0.1:8080"}', key=True)


def _proxied(config: Config, reading: Reading) -> Iterator[Mistake]:
    written = reading.data.get("http")
    believed = config.http.trusted_proxies or (isinstance(written, dict) and written.get("trusted_proxies"))
    for name, listener in config.listeners.items():
        if not listener.proxy_protocol:
            continue
        at: Loc = ("listeners", name, "proxy_protocol")
        if listener.serves != "api":
            yield reading.marks.at(at, "proxy_protocol is only for listeners that serve api", "remove it")
        elif not believed:
            hint = "nobody would be believed; name the proxies: http: {trusted_proxies: [10.0.0.1/32]}"
            yield reading.marks.at(at, "proxy_protocol without http.trusted_proxies", hint)


def _http(config: Config, marks: Marks) -> Iterator[Mistake]:
    http = config.http
    if http.body_memory < http.body:
        loc = ("http", "body_memory") if "body_memory" in http.model_fields_set else ("http", "body")
        yield marks.at(loc, "body_memory is smaller than body", "one request of the largest size would never be read")


def _channel(name: str, channel: Channel, marks: Marks) -> Iterator[Mistake]:
    at: Loc = ("channels", name)
    seen: dict[object, int] = {}
    for number, url in enumerate(written(channel.endpoints)):
        first = seen.setdefault(url_of(url), number)
        if first != number:
            yield marks.at((*at, "endpoints", number), "this endpoint is listed twice", f"first as number {first + 1}")
    lower: dict[str, str] = {}
    for header in channel.headers:
        if lower.setdefault(header.lower(), header) != header:
            yield marks.at((*at, "headers", header), f'the header "{header}" is written twice', key=True)
    if channel.credential and "authorization" in lower:
        yield marks.at(
            (*at, "headers", lower["authorization"]), "both a credential and an Authorization header", "keep one of them", key=True
        )
    urls = [*written(channel.endpoints), *_plane_urls(channel)]
    if channel.tls and not registry_of(channel.endpoints) and not any(url.startswith("https:") for url in urls):
        yield marks.at((*at, "tls"), "tls without an https URL", "write https:// in endpoints", key=True)
    if channel.timeouts.total < channel.timeouts.first_event and {"total", "first_event"} & channel.timeouts.model_fields_set:
        word = "total" if "total" in channel.timeouts.model_fields_set else "first_event"
        yield marks.at((*at, "timeouts", word), "total is shorter than first_event")


def _plane_urls(channel: Channel) -> list[str]:
    return [plane.url for plane in (channel.planes.management, channel.planes.metrics) if plane]


def _aliases(config: Config, marks: Marks) -> Iterator[Mistake]:
    owners: dict[str, Loc] = {}
    for name, model in config.models.items():
        for number, alias in enumerate(model.aliases):
            at: Loc = ("models", name, "aliases", number)
            if alias in config.models:
                yield marks.at(at, f'the alias "{alias}" is the name of a model', f"{marks.place(('models', alias))}")
            elif alias in owners:
                yield marks.at(at, f'the alias "{alias}" is given twice', f"first to {owners[alias][1]} at {marks.place(owners[alias])}")
            else:
                owners[alias] = at


def _keys(config: Config, reading: Reading, numbers: list[int]) -> Iterator[Mistake]:
    marks = reading.marks
    tenants = _names(reading, "tenants", {})
    ids: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for key, number in zip(config.keys, numbers, strict=True):
        at: Loc = ("keys", number)
        if ids.setdefault(key.id, number) != number:
            yield marks.at((*at, "id"), f'the key id "{key.id}" is used twice', f"first at {marks.place(('keys', ids[key.id]))}")
        if hashes.setdefault(key.hash, number) != number:
            other = hashes[key.hash]
            other = other if other >= 0 else -1 - other  # that one's hash before its rotation
            owner = next(one.id for one, its in zip(config.keys, numbers, strict=True) if its == other)
            said = f'the keys "{owner}" and "{key.id}" have the same hash'
            yield marks.at((*at, "hash"), said, f'"{owner}" is at {marks.place(("keys", other))}')
        if key.previous is not None and hashes.setdefault(key.previous.hash, -1 - number) != -1 - number:
            other = hashes[key.previous.hash]
            place = marks.place(("keys", other if other >= 0 else -1 - other))
            yield marks.at((*at, "previous", "hash"), "this is another key's hash, or this key's own", f"see {place}")
        if not reading.broken:
            yield from _owner(key, at, config, tenants, marks)


def _key_numbers(config: Config, reading: Reading) -> list[int]:
    """Where in the file each key stands that is left; with mistakes, some are missing in between."""
    written = reading.data.get("keys")
    if not isinstance(written, list):  # a number, true or text: said already, and there are no keys
        return []
    if len(written) == len(config.keys):
        return list(range(len(written)))
    left: dict[tuple[str, str], list[int]] = {}
    for number, item in reversed(list(enumerate(written))):
        if isinstance(item, dict):
            left.setdefault((str(item.get("id")), str(item.get("hash"))), []).append(number)
    return [left[(key.id, key.hash)].pop() for key in config.keys]


def _owner(key: Key, at: Loc, config: Config, tenants: dict[str, None], marks: Marks) -> Iterator[Mistake]:
    if key.tenant not in tenants:
        hint = nearest(key.tenant, tenants) or ("add it under `tenants`" if len(key.tenant) < 65 else None)
        yield marks.at((*at, "tenant"), f'there is no tenant "{key.tenant[:64]}"', hint)
        return
    tenant = config.tenants.get(key.tenant)
    if tenant is not None and key.project not in tenant.projects:
        hint = nearest(key.project, tenant.projects) or f"add it under tenants.{key.tenant}.projects"
        yield marks.at((*at, "project"), f'the tenant {key.tenant} has no project "{key.project[:64]}"', hint)


def _meanings(config: Config, reading: Reading) -> Callable[[str], str | None]:
    """What patterns of model names mean; see `_meaning`. Remembered: thousands of keys have the same."""
    names = dict.fromkeys([*_names(reading, "models", {}), *(alias for model in config.models.values() for alias in model.aliases)])
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return lru_cache(maxsize=10_000)(lambda glob: _meaning(glob, names, prefixes))


def _meaning(glob: str, names: dict[str, None], prefixes: tuple[str, ...]) -> str | None:
    """None when the pattern means some model or alias; else what to say. A bare `*` always means something."""
    if glob == "*" or glob in names or glob.startswith(prefixes):
        return None
    if any(matches(glob, name) for name in names):
        return None
    return nearest(glob, names) or "no model or alias has such a name"


def _own_meanings(config: Config, reading: Reading) -> Callable[[str], str | None]:
    """As `_meanings`, where aliases do not count: limits go by a model's own name, whatever a request calls it."""
    names = _names(reading, "models", {})
    owners = {alias: name for name, model in config.models.items() for alias in model.aliases}
    return lru_cache(maxsize=10_000)(lambda glob: _own_meaning(glob, names, owners))


def _own_meaning(glob: str, names: dict[str, None], owners: dict[str, str]) -> str | None:
    """owners: the model of each alias."""
    said = _meaning(glob, names, ())
    if said is None:
        return None
    aliases = [alias for alias in owners if _meaning(glob, {alias: None}, (alias[:-1],) if alias.endswith("*") else ()) is None]
    if not aliases:
        return said
    if glob in owners or "*" not in glob:
        model = owners.get(glob) or owners[max(aliases, key=len)]  # an exact name counts before the longest beginning
        return f"`{glob}` is an alias of {model}; write {model}"
    models = ", ".join(sorted({owners[alias] for alias in aliases})[:12])
    return f"`{glob}` matches only aliases of {models}; write {models}"
