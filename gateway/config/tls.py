"""TLS contexts from the resolved configuration: of our listeners, and towards engines. Reads files, speaks to nobody."""

import ssl

from gateway.config.resolved import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """TLS towards an engine. Raises OSError or ssl.SSLError when a file is missing or does not fit."""
    context = ssl.create_default_context(cafile=tls.ca) if tls.verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS of a listener. Raises OSError or ssl.SSLError when a file is missing or does not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    assert tls.cert is not None
    context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols(["http/1.1"])
    return context
