"""The part of the configuration that says where endpoints are looked up: `registries`, and `endpoints: {registry: …}`.

Words only; what no single word can know is checked in registry_checks.py.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, PlainValidator, TypeAdapter

from gateway.config import resolved_registries as form
from gateway.config.fields import HOST_NAME, DurationField, Name, UrlText, Whole, address_of, quoted, wrong
from gateway.config.part import Part, duration, field

_base = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+/?\Z")
DNS_PORT: Final = 53


def _name_in_dns(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if len(value) <= 253 and HOST_NAME.match(value):
            return value
        raise wrong(f"{quoted(value)} is not a name that DNS can hold", 'write it like "_http._tcp.engines.lab" or "gpu.lab"') from None
    raise wrong(f"{quoted(value)} is an address, nothing to ask DNS for", "a registry of type static takes URLs")


def _server(value: str) -> str:
    try:
        server_of(value)
    except ValueError:
        raise wrong(f"{quoted(value)} is not the address of a DNS server", 'write "10.0.0.2", "10.0.0.2:53" or "[fd00::2]:53"') from None
    return value


def server_of(text: str) -> str:
    """`10.0.0.2` → `10.0.0.2:53`, `fd00::2` → `[fd00::2]:53`; with a port it stays. Raises ValueError."""
    try:
        at = ipaddress.ip_address(text.strip("[]") if text.endswith("]") else text)
        port = DNS_PORT
    except ValueError:
        host, port = address_of(text)
        at = ipaddress.ip_address(host)
        if text.startswith(":"):
            raise
    return f"[{at}]:{port}" if at.version == 6 else f"{at}:{port}"


def _path_before_v1(value: str) -> str:
    if not _base.match(value):
        raise wrong(f"{quoted(value)} is not the beginning of a path", 'write it like "/engines/a"')
    return value


class Registry(Part):
    """A place where endpoints are looked up, again and again."""

    type: Literal["static", "dns", "file"] = field(
        "`static`: a list of URLs. `dns`: SRV, or A and AAAA records. `file`: a list that another program writes.", "dns"
    )
    endpoints: list[UrlText] | None = field("static: the URLs.", ["http://10.0.0.6:8000"], None, min_length=1)
    path: str | None = field(
        "file: the list, JSON or YAML as Prometheus' file_sd; relative to the main file's folder.", "engines.json", None, min_length=1
    )
    srv: Annotated[str, AfterValidator(_name_in_dns)] | None = field(
        "dns: a name with SRV records; their ports, weights and priorities hold.", "_mindie._tcp.lab", None
    )
    host: Annotated[str, AfterValidator(_name_in_dns)] | None = field("dns: a name with A or AAAA records, with `port`.", "gpu.lab", None)
    port: Whole | None = field("dns: the port at each address of `host`.", 8000, None, ge=1, le=65535)
    scheme: Literal["http", "https"] = field("dns: how the addresses are spoken to.", "https", "http")
    base: Annotated[str, AfterValidator(_path_before_v1)] | None = field("dns: the path before /v1.", "/engines/a", None)
    family: Literal["any", "ipv4", "ipv6"] = field("dns: which addresses count.", "ipv4", "any")
    servers: list[Annotated[str, AfterValidator(_server)]] | None = field(
        "dns: the servers to ask. Default: the system's.", ["10.0.0.2:53"], None, min_length=1, max_length=8
    )
    ttl_min: DurationField = duration(
        "5s",
        "dns: time between two looks at least, however short the records live. Changes are handed on no more often.",
        "10s",
        "1s",
        "1d",
    )
    ttl_max: DurationField = duration("5m", "dns: time between two looks at most, however long the records live.", "1m", "1s", "1d")


class FromRegistry(Part):
    """Endpoints that a registry knows, in place of a list."""

    registry: Name = field("The registry.", "lab")


_urls: Final[TypeAdapter[list[str]]] = TypeAdapter(Annotated[list[UrlText], Field(min_length=1)])


def _endpoints(value: Any) -> list[str] | FromRegistry:
    if isinstance(value, dict):
        return FromRegistry.model_validate(value)
    if isinstance(value, str):
        raise wrong("endpoints are a list", "write [ ] around the URL, or {registry: NAME}")
    return _urls.validate_python(value, strict=True)


EndpointsField = Annotated[
    list[UrlText] | FromRegistry,
    PlainValidator(_endpoints, json_schema_input_type=Annotated[list[UrlText], Field(min_length=1)] | FromRegistry),
]
"""The type of `channels.<name>.endpoints`."""


def written(endpoints: list[str] | FromRegistry) -> list[str]:
    """The URLs that stand in the configuration; none when a registry knows them."""
    return [] if isinstance(endpoints, FromRegistry) else endpoints


def registry_of(endpoints: list[str] | FromRegistry) -> str:
    """The registry that knows the endpoints; "" when they are written."""
    return endpoints.registry if isinstance(endpoints, FromRegistry) else ""


def resolved(name: str, registry: Registry, folder: Path) -> form.Registry:
    """The compact form. folder: that of the main file, for a path that is relative still."""
    return form.Registry(
        name=name,
        type=registry.type,
        urls=tuple(registry.endpoints or ()),
        path=os.path.normpath(folder / registry.path) if registry.path else "",
        srv=registry.srv or "",
        host=registry.host or "",
        port=registry.port or 0,
        scheme=registry.scheme,
        base=(registry.base or "").rstrip("/").removesuffix("/v1"),
        family=registry.family,
        servers=tuple(server_of(server) for server in registry.servers or ()),
        ttl_min=float(registry.ttl_min),
        ttl_max=float(registry.ttl_max),
    )
