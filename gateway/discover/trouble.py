"""Why an endpoint did not answer, in words that say what to do. Names files and addresses of the configuration, never a secret."""

import errno
import ssl
from dataclasses import dataclass
from typing import Final

import aiohttp


@dataclass(frozen=True, slots=True)
class Trouble:
    """kind: `refused`, `timeout`, `dns`, `network`, `certificate` (theirs), `tls`, `closed`, `protocol`, `large`. text: for people."""

    kind: str
    text: str


_ALERTS: Final = (
    ("CERTIFICATE_REQUIRED", "the engine asks for a client certificate: set tls.cert and tls.key"),
    ("ALERT_UNKNOWN_CA", "the engine does not trust our client certificate (unknown CA): look at tls.cert and at the CA the engine trusts"),
    ("ALERT_BAD_CERTIFICATE", "the engine refuses our client certificate: look at tls.cert and tls.key"),
    ("ALERT_CERTIFICATE_EXPIRED", "the engine refuses our client certificate: it has expired (tls.cert)"),
    ("ALERT_CERTIFICATE_REVOKED", "the engine refuses our client certificate: it is revoked (tls.cert)"),
    ("ALERT_CERTIFICATE_UNKNOWN", "the engine refuses our client certificate: look at tls.cert and tls.key"),
    ("ALERT_UNSUPPORTED_CERTIFICATE", "the engine refuses our client certificate: its kind is not supported (tls.cert)"),
    ("ALERT_ACCESS_DENIED", "the engine refuses our client certificate: access denied (tls.cert)"),
    ("ALERT_PROTOCOL_VERSION", "the engine speaks another TLS version: look at tls.min_version"),
    ("UNSUPPORTED_PROTOCOL", "the engine speaks only an older TLS version: look at tls.min_version"),
    ("WRONG_VERSION_NUMBER", "no TLS is spoken there: write http:// instead of https://"),
    ("RECORD_LAYER_FAILURE", "no TLS is spoken there: write http:// instead of https://"),
    ("HTTP_REQUEST", "no TLS is spoken there: write http:// instead of https://"),
    ("UNRECOGNIZED_NAME", "the engine has no certificate for this name: set tls.server_name"),
    ("HANDSHAKE_FAILURE", "the engine refused the TLS handshake; it may ask for a client certificate (tls.cert, tls.key)"),
)
"""What OpenSSL says → what it means here."""

_UNTRUSTED: Final = {
    10: "the engine's certificate has expired",
    9: "the engine's certificate is not valid yet (or our clock is wrong)",
    18: "the engine's certificate is self-signed: set tls.ca to it",
    19: "the engine's certificate comes from a CA that is not trusted here: set tls.ca",
    20: "the engine's certificate comes from a CA that is not trusted here: set tls.ca",
    21: "the engine's certificate comes from a CA that is not trusted here: set tls.ca",
    62: "the engine's certificate is for another name: set tls.server_name",
    64: "the engine's certificate is not for this IP address: set tls.server_name to the name it carries",
}
"""X509_V_ERR_… → words."""

_CLOSED: Final = "it may speak another TLS version (tls.min_version), or ask for a client certificate (tls.cert, tls.key)"

_NETWORK: Final = {
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.EHOSTDOWN: "the host is down",
    errno.EACCES: "a firewall of this host forbids it",
    errno.EPERM: "a firewall of this host forbids it",
    errno.EMFILE: "this process has no file descriptors left",
}


def explain(error: BaseException, where: str, *, connected: bool, secure: bool, limit: float) -> Trouble:
    """where: `host:port`. connected: the connection (and TLS) stood already. limit: the seconds that were given. Errors: none."""
    if isinstance(error, TimeoutError):
        if connected:
            return Trouble("timeout", f"{where} took the connection but did not answer within {limit:g} s")
        return Trouble("timeout", f"timeout: no {'TLS connection' if secure else 'connection'} to {where} within {limit:g} s")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Trouble("dns", f"the name {where.rpartition(':')[0]} cannot be resolved")
    untrusted = next((one for one in _chain(error) if hasattr(one, "verify_code")), None)
    if untrusted is not None:
        said = _UNTRUSTED.get(getattr(untrusted, "verify_code", 0))
        return Trouble("certificate", said or f"the engine's certificate is not trusted: {getattr(untrusted, 'verify_message', untrusted)}")
    spoken = " ".join(str(one) for one in _chain(error)).upper().replace(" ", "_")
    for word, text in _ALERTS:
        if word in spoken:
            return Trouble("tls", text)
    return _connection(error, where, connected=connected, secure=secure)


def _connection(error: BaseException, where: str, *, connected: bool, secure: bool) -> Trouble:
    for one in _chain(error):
        if isinstance(one, ssl.SSLError):
            return Trouble("tls", f"the TLS handshake failed: {one.reason or one}")
        if isinstance(one, ConnectionRefusedError):
            return Trouble("refused", f"connection refused: nothing listens on {where}")
        if isinstance(one, ConnectionResetError) and secure and not connected:
            return Trouble("tls", f"{where} closed the connection in the TLS handshake: {_CLOSED}")
        if isinstance(one, OSError) and one.errno in _NETWORK:
            return Trouble("network", f"{where}: {_NETWORK[one.errno]}")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError | aiohttp.http_exceptions.HttpProcessingError):
        return Trouble("protocol", f"{where} does not answer in valid HTTP")
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError) or connected:
        hint = "; it may ask for a client certificate (tls.cert, tls.key)" if secure else "; it may want https://"
        return Trouble("closed", f"{where} closed the connection without an answer{hint}")
    return Trouble("network", f"{where}: {type(error).__name__}: {error}")


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what it came from."""
    found: list[BaseException] = []
    while error is not None and len(found) < 10:
        found.append(error)
        error = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error.__cause__ or error.__context__
    return found
