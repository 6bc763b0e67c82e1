"""What no single word of a registry can know: words of another type, names that lead nowhere, times that contradict each other."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.config.fields import url_of
from gateway.config.marks import Loc, Marks
from gateway.config.read import Reading
from gateway.config.registries import Registry
from gateway.config.wording import nearest
from gateway.errors import Mistake

WORDS: Final = {
    "static": ("endpoints",),
    "file": ("path",),
    "dns": ("srv", "host", "port", "scheme", "base", "family", "servers", "ttl_min", "ttl_max"),
}
"""The words that each type has beside `type`."""


def registries(parsed: Mapping[str, Registry], uses: Mapping[str, str], reading: Reading) -> Iterator[Mistake]:
    """All mistakes. parsed: the registries that are left when those with a wrong word are gone. uses: channel → its registry."""
    marks = reading.marks
    for name, registry in parsed.items():
        yield from _registry(name, registry, marks)
    section = reading.data.get("registries")
    known = dict.fromkeys([*parsed, *(section if isinstance(section, dict) else ())])
    for channel, wanted in uses.items():
        if wanted not in known and not reading.broken:
            hint = nearest(wanted, known) or (f"known are: {', '.join(list(known)[:12])}" if known else "no registry is configured")
            yield marks.at(("channels", channel, "endpoints", "registry"), f'there is no registry "{wanted}"', hint)


def _registry(name: str, registry: Registry, marks: Marks) -> Iterator[Mistake]:
    at: Loc = ("registries", name)
    kind = registry.type
    for word in sorted(registry.model_fields_set - {"type", *WORDS[kind]}, key=list(Registry.model_fields).index):
        owner = next(other for other, words in WORDS.items() if word in words)
        yield marks.at((*at, word), f"`{word}` is for type {owner}, this registry is of type {kind}", key=True)
    match kind:
        case "static":
            yield from _static(at, registry, marks)
        case "file":
            if registry.path is None:
                yield marks.at(at, "`path` is missing", 'write the list\'s file, like path: "engines.json"', key=True)
        case "dns":
            yield from _dns(at, registry, marks)


def _static(at: Loc, registry: Registry, marks: Marks) -> Iterator[Mistake]:
    if registry.endpoints is None:
        yield marks.at(at, "`endpoints` is missing", 'write the URLs, like endpoints: ["http://10.0.0.6:8000"]', key=True)
    seen: dict[object, int] = {}
    for number, url in enumerate(registry.endpoints or ()):
        first = seen.setdefault(url_of(url), number)
        if first != number:
            yield marks.at((*at, "endpoints", number), "this endpoint is listed twice", f"first as number {first + 1}")


def _dns(at: Loc, registry: Registry, marks: Marks) -> Iterator[Mistake]:
    if registry.srv is None and registry.host is None:
        yield marks.at(at, "neither `srv` nor `host` is written", 'write srv: "_http._tcp.lab", or host: "gpu.lab" and a port', key=True)
    elif registry.srv is not None and registry.host is not None:
        yield marks.at((*at, "host"), "both `srv` and `host` are written", "keep one of them", key=True)
    elif registry.srv is not None and registry.port is not None:
        yield marks.at((*at, "port"), "`port` beside `srv`", "SRV records hold the ports", key=True)
    elif registry.host is not None and registry.port is None:
        yield marks.at(at, "`port` is missing", "A and AAAA records hold none", key=True)
    if registry.ttl_max < registry.ttl_min:
        word = "ttl_max" if "ttl_max" in registry.model_fields_set else "ttl_min"
        yield marks.at((*at, word), "ttl_max is shorter than ttl_min")
