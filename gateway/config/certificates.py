"""Do certificates and keys exist, parse and fit each other? Each pair is tried once, however many channels name it."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config.channel import EngineTls
from gateway.config.expand import read_small, why
from gateway.config.marks import Loc, Marks
from gateway.config.schema import Config, ListenerTls
from gateway.config.x509 import Certificate, chain
from gateway.errors import Mistake

Answer = tuple[str, str, str | None]
"""(word, message, hint)."""
_PEM: Final = b"-----BEGIN "


def certificates(config: Config, marks: Marks, files: set[str]) -> Iterator[Mistake]:
    """A mistake for each TLS part that cannot be used. `files` gets every file that is named."""
    known: dict[tuple[str | None, ...], list[Answer]] = {}
    for loc, tls in _all(config):
        ca = getattr(tls, "ca", None)
        named = (tls.cert, tls.key, ca)
        files.update(file for file in named if file)
        if named not in known:
            known[named] = list(tried(tls.cert, tls.key, ca))
        for word, message, hint in known[named]:
            yield marks.at((*loc, word), message, hint)
        if isinstance(tls, EngineTls) and not tls.verify and tls.ca:
            yield marks.at((*loc, "verify"), "verify: false makes ca pointless", "remove one of them")


def lapsed(config: Config, now: float) -> list[str]:
    """A sentence for each certificate that is not good at `now` (Unix seconds), by where it is first named."""
    named: dict[tuple[str, str], str] = {}
    for loc, tls in _all(config):
        for word in ("cert", "ca"):
            if file := getattr(tls, word, None):
                named.setdefault((word, file), ".".join(map(str, (*loc, word))))
    said = ((place, file, _not_good(word, file, now)) for (word, file), place in named.items())
    return [f"{place}: {file} {lapse}; whoever checks it refuses the connection" for place, file, lapse in said if lapse]


def _not_good(word: str, file: str, now: float) -> str:
    """What is wrong with a chain's own certificate, or with all CAs of a file; empty when nothing is, or it cannot be read."""
    try:
        found = chain(Path(file))
    except (OSError, ValueError):
        return ""
    said = [_lapse(one, now) for one in (found if word == "ca" else found[:1])]
    return said[0] if said and all(said) else ""


def _lapse(one: Certificate, now: float) -> str:
    if one.not_before.timestamp() > now:
        return f"is good only from {one.not_before:%Y-%m-%d} on, or the clock is wrong"
    return f"has expired on {one.not_after:%Y-%m-%d}" if one.not_after.timestamp() < now else ""


def _all(config: Config) -> Iterator[tuple[Loc, ListenerTls | EngineTls]]:
    for name, listener in config.listeners.items():
        if listener.tls:
            yield ("listeners", name, "tls"), listener.tls
    for name, channel in config.channels.items():
        if channel.tls:
            yield ("channels", name, "tls"), channel.tls
        for word, plane in (("management", channel.planes.management), ("metrics", channel.planes.metrics)):
            if plane and plane.tls:
                yield ("channels", name, "planes", word, "tls"), plane.tls


def tried(cert: str | None, key: str | None, ca: str | None) -> Iterator[Answer]:
    bad = [answer for word, file in (("cert", cert), ("key", key), ("ca", ca)) if file and (answer := _unreadable(word, file))]
    yield from bad
    unusable = {word for word, _, _ in bad}
    if key and not cert:
        yield "key", "a key without its cert", None
    if cert and not unusable & {"cert", "key"}:
        yield from _pair(cert, key)
    if ca and "ca" not in unusable:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca)
        except (ssl.SSLError, OSError):
            yield "ca", "this file holds no CA certificate", "it has to be PEM"


def _unreadable(word: str, file: str) -> Answer | None:
    try:
        data = read_small(Path(file))
    except OSError as error:
        return word, f"{file}: {why(error)}", None
    if _PEM not in data:
        return word, f"{file} is not a PEM file", "it has to hold a `-----BEGIN …` block"
    return None


def _pair(cert: str, key: str | None) -> Iterator[Answer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except _PassphraseWanted:
        yield "key", "this key has a passphrase", "write it without one: openssl pkey -in key.pem -out plain.pem"
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield ("key" if key else "cert"), "this key does not belong to the certificate", None
        elif key and b"PRIVATE KEY-----" not in read_small(Path(key)):
            yield "key", "this file holds no private key", None
        elif not key:
            yield "cert", "this file does not hold both a certificate and its private key", "write `key:` as well"
        else:
            yield "cert", *_plainly(error.reason or "")
    except OSError as error:
        yield "cert", f"{cert}: {why(error)}", None


def _plainly(reason: str) -> tuple[str, str | None]:
    """Of what OpenSSL says, a message and a hint."""
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        return f"certificate and key are too weak for TLS ({reason})", "make a key of 2048 bits (RSA) or more, signed with SHA-256"
    if not reason or reason in _DAMAGED:
        said = f" ({reason})" if reason else ""
        return (
            f"certificate and key cannot be used: one of the files is damaged, or written by halves{said}",
            "copy both files again, whole",
        )
    return f"certificate and key cannot be used ({reason})", None


_DAMAGED: Final = (
    "BAD_END_LINE",
    "BAD_BASE64_DECODE",
    "NO_START_LINE",
    "NOT_ENOUGH_DATA",
    "TOO_LONG",
    "HEADER_TOO_LONG",
    "WRONG_TAG",
    "NESTED_ASN1_ERROR",
)


class _PassphraseWanted(Exception):
    pass


def _no_passphrase() -> str:
    """OpenSSL asks for a passphrase here instead of on the terminal."""
    raise _PassphraseWanted
