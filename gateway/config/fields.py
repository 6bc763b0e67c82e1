"""The kinds of value that the configuration's fields have, each with its check. Messages never repeat a value that may be secret."""

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError, core_schema

from gateway.config.scalars import DURATION_PATTERN, SIZE_PATTERN, Duration, Expanded, Size, plain
from gateway.words import APIS

MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"
ALIAS: Final = r"^(?:[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\*?|\*)$"
GLOB: Final = r"^[A-Za-z0-9._:/*-]{1,128}$"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SYSTEM: Final = r"^(?:[A-Za-z0-9*])[A-Za-z0-9._*-]{0,63}$"
LEDGER_URL: Final = r"^duckdb:[^\x00-\x1f?#']+$"
HASH: Final = r"^sha256:[0-9a-f]{64}$"
CURRENCY: Final = r"^[A-Z]{3}$"
PATTERNS: Final = {
    MODEL_NAME: ("is not a model name", "ASCII letters, digits and . _ : / -, beginning with a letter or digit, at most 128"),
    ALIAS: ("is not an alias", "a model name, or the beginning of one followed by *"),
    GLOB: ("is not a pattern of model names", "a model name, with * for anything"),
    NAME: ("is not a name", "ASCII letters, digits and . _ -, beginning with a letter or digit, at most 64"),
    SYSTEM: ("is not an application's name", "ASCII letters, digits and . _ -, with * for anything, at most 64"),
    CURRENCY: ("is not a currency", "its three capital letters: CNY, USD, EUR"),
    HASH: ("is not a key's hash", "sha256: and 64 lower-case hex digits; `gatewayctl keys create` makes one"),
    LEDGER_URL: ("is not a place for a ledger", "duckdb: and a file, such as duckdb:ledger.duckdb"),
}
"""What is said when a pattern does not match: (message, hint)."""

_label = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME: Final = re.compile(rf"{_label}(?:\.{_label})*\.?\Z")
_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_OURS: Final = frozenset(
    "accept-encoding connection content-length content-type expect host keep-alive proxy-connection te trailer transfer-encoding "
    "upgrade".split()
)
_PATHS: Final = tuple(path for path in (*APIS, "/v1/models") if path.startswith("/v1/"))
"""What engines' manuals write behind the address, and no address ends with."""
_MAPPED = 96
"""Bits before the IPv4 address in one that is written as IPv6."""
_origin = re.compile(r"(?:\*|null|https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?)\Z")


class Address(NamedTuple):
    """A listener's host and port. host `0.0.0.0` or `::` = every address of the machine."""

    host: str
    port: int


class Url(NamedTuple):
    """The parts of a URL that a connection needs. base: the path before `/v1`, without a slash at its end."""

    scheme: str
    host: str
    port: int
    base: str


def wrong(message: str, hint: str | None = None) -> PydanticCustomError:
    """The error that a check raises; `load` turns it into a mistake."""
    return PydanticCustomError("wrong", "{text}", {"text": message, "hint": hint})


def quoted(value: Any) -> str:
    """A value as a message may repeat it: short, and never what came out of a reference."""
    if isinstance(value, Expanded) or not isinstance(value, str | int | float):
        return "this"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) and len(value) <= 80 else "this" if isinstance(value, str) else str(value)


def _duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong(f"{quoted(value)} has no unit", f"write {quoted(value)}s for seconds")
    if not isinstance(value, str):
        raise wrong("is not a duration", "write 500ms, 30s, 1m30s, 2h or 1d")
    try:
        return Duration.of(value)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise wrong(f"{quoted(value)} {message}", hint or None) from None


def _size(value: Any) -> Size:
    if isinstance(value, Size):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong(f"{quoted(value)} has no unit", f"write {quoted(value)}B for bytes, or a size like 8MiB")
    if not isinstance(value, str):
        raise wrong("is not a size", "write 512B, 64KiB, 8MiB or 1GiB")
    try:
        return Size.of(value)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise wrong(f"{quoted(value)} {message}", hint or None) from None


class DurationField(Duration):
    """The type of a field that holds a duration; limits are checked after it. Values are plain `Duration`s."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _duration, json_schema_input_schema=core_schema.str_schema(pattern=DURATION_PATTERN)
        )


class SizeField(Size):
    """The type of a field that holds a size; limits are checked after it. Values are plain `Size`s."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(_size, json_schema_input_schema=core_schema.str_schema(pattern=SIZE_PATTERN))


def _unexpanded(value: Any) -> Any:
    """A reference may stand where a number or a word is wanted: then its text is read as YAML would read it."""
    return plain(value) if isinstance(value, Expanded) else value


def _workers(value: Any) -> int | str:
    value = _unexpanded(value)
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64:
        return value
    raise wrong(f"{quoted(value)} is not a number of workers", "1 to 64, or auto")


def address_of(text: str) -> Address:
    """`host:port`, `:port` (every IPv4 address) or `[v6]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif not colon or not re.fullmatch(r"[A-Za-z0-9._-]*", host):
        raise ValueError("is not host:port")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("needs a port from 1 to 65535")
    return Address(host or "0.0.0.0", int(port))


def _bind(value: str) -> str:
    try:
        address_of(value)
    except ValueError as error:
        raise wrong(f"{quoted(value)} {_why(error)}", 'write "0.0.0.0:8080", ":8080" or "[::]:8080"') from None
    return value


def _why(error: ValueError) -> str:
    return "is not host:port" if isinstance(error, ipaddress.AddressValueError) else str(error)


def _is_ipv4(host: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(host))
    except ValueError:
        return False


@lru_cache(16_384)
def url_of(text: str) -> Url:
    """Raises ValueError with what is wrong, never repeating the URL."""
    if re.search(r"[\s\\<>\"^`{|}]|[^\x21-\x7e]", text):
        raise ValueError("holds a character that a URL cannot have")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password; use `credential` or `headers`")
    if "?" in text or "#" in text:
        raise ValueError("holds a query or fragment")
    host = parts.hostname
    if not host:
        raise ValueError("names no host")
    if ":" in host:
        ipaddress.IPv6Address(host)
    elif not HOST_NAME.match(host) or (host.count(".") == 3 and host.replace(".", "").isdigit() and not _is_ipv4(host)):
        raise ValueError("names a host that there cannot be" + ("; write $NAME as ${env:NAME}" if "$" in host else ""))
    if parts.path.rstrip("/").endswith(_PATHS):
        raise ValueError("ends with the path of an API; leave out /v1 and what follows")
    try:
        port = parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80
    except ValueError:
        port = 0
    if not port or parts.netloc.endswith(":"):
        raise ValueError("needs a port from 1 to 65535")
    return Url(parts.scheme, host, port, parts.path.rstrip("/").removesuffix("/v1").rstrip("/"))


def _url(value: str) -> str:
    try:
        url_of(value)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        if isinstance(error, ipaddress.AddressValueError):
            message = "holds an IPv6 address that is none"
        raise wrong(f"the URL {message}", hint or 'write it like "http://10.0.0.5:8000"') from None
    return value


def _cidr(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        try:
            near = f"did you mean {ipaddress.ip_network(value, strict=False)}?"
        except ValueError:
            near = 'write it like "10.0.0.0/8"'
        raise wrong(f"{quoted(value)} is not a network", near) from None
    if "%" in value:
        bare = re.sub(r"%[^/]*", "", str(network))
        raise wrong(f"{quoted(value)} has a zone, which is not looked at: it would stand for this address on every link", f"write {bare}")
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED:
        raise wrong(f"{quoted(value)} is IPv4 written as IPv6, which no caller has", f"write {mapped}/{network.prefixlen - _MAPPED}")
    return value


def _origin_ok(value: str) -> str:
    if not _origin.match(value):
        raise wrong(f"{quoted(value)} is not an origin", 'write "https://chat.example.com" (no path), or "*"')
    return value


def _credential(value: str) -> str:
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise wrong(
            "this cannot be a credential",
            "it is empty, or holds a line break, a space at an end, or a character that a header cannot carry",
        )
    return value


def _header_name(value: str) -> str:
    if not _token.match(value):
        raise wrong(f"{quoted(value)} cannot be a header's name")
    if value.lower() in _OURS:
        raise wrong(f"the header {value} is the gateway's own and cannot be set")
    return value


def _header_value(value: str) -> str:
    if any(ord(c) < 32 or ord(c) > 255 or ord(c) == 127 for c in value) or value != value.strip():
        raise wrong("this cannot be a header's value", "it holds a line break, a space at an end, or a character beyond Latin-1")
    return value


def nothing_is_empty(value: Any) -> Any:
    """What is written after a group's colon, when it may be nothing."""
    return {} if value is None else value


def _as_text(value: Any) -> Any:
    value = _unexpanded(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Referable = BeforeValidator(_unexpanded)
"""Where a reference may stand for a number or a word. After the limits, so that the JSON Schema knows them."""
Whole = Annotated[int, Referable]
Flag = Annotated[bool, BeforeValidator(_unexpanded)]
Word = BeforeValidator(_as_text)
"""Before a Literal whose words YAML may read as numbers: 1.2, 429."""
Empty = BeforeValidator(nothing_is_empty)
"""Before a mapping that may be written with nothing after its colon."""
Workers = Annotated[
    int | str,
    PlainValidator(_workers, json_schema_input_type=Annotated[int, Field(ge=1, le=64)] | Annotated[str, Field(pattern="^auto$")]),
]
Bind = Annotated[str, AfterValidator(_bind)]
UrlText = Annotated[str, AfterValidator(_url)]
Cidr = Annotated[str, AfterValidator(_cidr)]
Origin = Annotated[str, AfterValidator(_origin_ok)]
Credential = Annotated[str, AfterValidator(_credential)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
ModelName = Annotated[str, Field(pattern=MODEL_NAME)]
Alias = Annotated[str, Field(pattern=ALIAS)]
Glob = Annotated[str, Field(pattern=GLOB)]
Name = Annotated[str, Field(pattern=NAME)]
SystemGlob = Annotated[str, Field(pattern=SYSTEM)]
Hash = Annotated[str, Field(pattern=HASH)]
Patterns = list[str]
