"""Probes of engines with TLS: what a handshake tells, and what is said when it fails."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config.fields import url_of
from gateway.config.resolved import Endpoint, Tls
from gateway.config.tls import client_context, server_context
from gateway.config.x509 import read
from gateway.discover.probe import peek, probe, probe_url
from gateway.simulate.simulator import start


class Authority:
    """A CA of the test's own; `issue` writes `name.crt` and `name.key`."""

    def __init__(self, folder, name="Test CA"):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = self._name(name)
        self.own = self._sign(self.name, self.key, authority=True)
        self.path = self._write(f"{name.replace(' ', '-')}.pem", self.own.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, *, days=90, hosts=("127.0.0.1",)):
        key = ec.generate_private_key(ec.SECP256R1())
        found = self._sign(self._name(name, "Lab"), key, days=days, hosts=hosts)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._write(f"{name}.crt", found.public_bytes(serialization.Encoding.PEM)), self._write(f"{name}.key", private)

    def _write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    @staticmethod
    def _name(name, organisation=None):
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organisation:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
        return x509.Name(parts)

    def _sign(self, subject, key, *, days=3650, hosts=(), authority=False):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        now = datetime.datetime.now(datetime.UTC)  # not when the file was imported: it may be minutes until its tests run
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=400))
        builder = builder.not_valid_after(now + datetime.timedelta(days=days, minutes=5))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _alternative(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine in either loop: each tells TLS alerts in its own way, and control runs on uvloop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def served(authority):
    """Keyword arguments of a simulator with TLS."""
    cert, key = authority.issue("engine")
    return {"tls_cert": cert, "tls_key": key}


def endpoint(url: str) -> Endpoint:
    scheme, host, port, base = url_of(url)
    return Endpoint(url=url, scheme=scheme, host=host, port=port, base=base)


async def test_a_trusted_engine(authority, served):
    async with await start("vllm", **served) as engine:
        found = await probe(endpoint(engine.url), engine="vllm", tls=Tls(ca=authority.path))
        assert found.error is None and found.tls is not None
        assert (found.tls.version, found.tls.verified, found.tls.days_left) == ("TLSv1.3", True, 90)
        assert (found.tls.subject, found.tls.issuer) == ("CN=engine, O=Lab", "CN=Test CA")
        assert found.tls.not_after.endswith("Z") and found.tls.cipher.startswith("TLS_")
        assert found.would is not None and found.would["tls"] == {"ca": authority.path}
        seen = await peek(endpoint(engine.url), "vllm", credential=None, tls=Tls(ca=authority.path), headers={}, total=3.0)
        assert seen.tls == found.tls and seen.engine == "vllm"


@contextlib.contextmanager
def openssl_server(authority, newest=ssl.TLSVersion.TLSv1_3):
    """Mutual TLS by OpenSSL's own socket, as MindIE does it: it sends its alerts, which asyncio's servers keep to themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("engine"))
    context.load_verify_locations(authority.path)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, newest
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            plain, _ = listening.accept()
            with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            stop.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def test_an_engine_that_asks_for_a_client_certificate(run, authority, tmp_path):
    other = Tls(ca=authority.path, **dict(zip(("cert", "key"), Authority(tmp_path, "Other CA").issue("stranger"), strict=True)))
    with openssl_server(authority) as url:
        without = run(probe(endpoint(url), engine="mindie", tls=Tls(ca=authority.path)))
        assert without.error == "the engine asks for a client certificate: set tls.cert and tls.key"
        assert without.tls is not None and without.tls.subject == "CN=engine, O=Lab"
        stranger = run(probe(endpoint(url), engine="mindie", tls=other))
        assert (stranger.error or "").startswith("the engine does not trust our client certificate (unknown CA)")
        unknown = run(probe_url(url))
        assert unknown.error == without.error and not unknown.reachable and unknown.would is None
        assert unknown.evidence[0] == "the engine's certificate comes from a CA that is not trusted here: set tls.ca"
    with openssl_server(authority, ssl.TLSVersion.TLSv1_2) as url:
        without = run(probe(endpoint(url), engine="mindie", tls=Tls(ca=authority.path)))
        assert without.error == "the engine refused the TLS handshake; it may ask for a client certificate (tls.cert, tls.key)"


def test_mutual_tls(run, authority, served):
    run(_mutual_tls(authority, served))


async def _mutual_tls(authority, served):
    cert, key = authority.issue("gateway")
    async with await start("mindie", **served, tls_client_ca=authority.path) as engine:
        mutual = Tls(ca=authority.path, cert=cert, key=key, min_version="1.3")
        found = await probe(endpoint(engine.url), engine="mindie", tls=mutual)
        assert found.error is None and found.engine == "mindie"
        assert found.would is not None and found.would["tls"] == {"ca": authority.path, "cert": cert, "key": key}
        for without in (
            await probe(endpoint(engine.url), engine="mindie", tls=Tls(ca=authority.path)),
            await peek(endpoint(engine.url), "mindie", credential=None, tls=Tls(ca=authority.path), headers={}, total=3.0),
        ):
            assert "it may ask for a client certificate (tls.cert, tls.key)" in (without.error or "")
            assert without.tls is not None and without.tls.subject == "CN=engine, O=Lab"
        assert not engine.touched


def test_an_untrusted_engine_gets_no_credential_but_shows_its_certificate(run, authority, served):
    run(_an_untrusted_engine_gets_no_credential_but_shows_its_certificate(authority, served))


async def _an_untrusted_engine_gets_no_credential_but_shows_its_certificate(authority, served):
    async with await start("vllm", **served) as engine:
        found = await probe(endpoint(engine.url), engine="vllm", credential="secret")
        assert not engine.requests
    assert found.trouble == "certificate" and not found.reachable
    assert found.error == "the engine's certificate comes from a CA that is not trusted here: set tls.ca"
    assert found.tls is not None and found.tls.subject == "CN=engine, O=Lab" and not found.tls.verified


async def test_an_unconfigured_address_is_asked_all_the_same_and_told_to_be_untrusted(authority, served):
    async with await start("sglang", **served) as engine:
        found = await probe_url(engine.url)
    assert found.engine == "sglang" and found.error is None
    assert found.tls is not None and not found.tls.verified
    assert found.would == {"engine": "sglang", "endpoints": [engine.url], "model": "qwen3", "tls": {"verify": False}}
    assert "set tls.ca" in found.evidence[0]


@pytest.mark.parametrize(
    ("days", "hosts", "said"),
    [
        (-1, ("127.0.0.1",), "the engine's certificate has expired"),
        (90, ("10.0.0.1",), "the engine's certificate is not for this IP address: set tls.server_name to the name it carries"),
    ],
)
async def test_a_certificate_that_is_none_for_us(authority, days, hosts, said):
    cert, key = authority.issue("engine", days=days, hosts=hosts)
    async with await start("vllm", tls_cert=cert, tls_key=key) as engine:
        found = await probe(endpoint(engine.url), tls=Tls(ca=authority.path))
    assert found.error == said
    assert found.tls is not None and found.tls.days_left == days


async def test_the_name_of_the_certificate_may_be_configured(authority):
    cert, key = authority.issue("engine", hosts=("mindie.internal",))
    async with await start("vllm", tls_cert=cert, tls_key=key) as engine:
        found = await probe(endpoint(engine.url), tls=Tls(ca=authority.path, server_name="mindie.internal"))
        wrong = await probe(endpoint(engine.url), tls=Tls(ca=authority.path, server_name="other.internal"))
    assert found.error is None and found.engine == "vllm"
    assert wrong.error == "the engine's certificate is for another name: set tls.server_name"


def test_https_to_a_plain_port_and_http_to_a_tls_port(run, authority, served):
    run(_https_to_a_plain_port_and_http_to_a_tls_port(authority, served))


async def _https_to_a_plain_port_and_http_to_a_tls_port(authority, served):
    async with await start("vllm") as plain:
        found = await probe_url(plain.url.replace("http:", "https:"))
        assert found.error == "no TLS is spoken there: write http:// instead of https://" and found.tls is None
    async with await start("vllm", **served) as secure:
        found = await probe_url(secure.url.replace("https:", "http:"))
        assert found.trouble == "closed" and (found.error or "").endswith("it may want https://")


def test_a_connection_that_is_closed_in_the_handshake(run):
    run(_a_connection_that_is_closed_in_the_handshake())


async def _a_connection_that_is_closed_in_the_handshake():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    async with server:
        found = await probe_url(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert found.trouble == "tls" and "closed the connection in the TLS handshake: it may speak another TLS version" in (found.error or "")


async def test_files_that_are_missing(unused_tcp_port):
    found = await probe(endpoint(f"https://127.0.0.1:{unused_tcp_port}"), tls=Tls(cert="/nowhere/a.crt", key="/nowhere/a.key"))
    assert not found.reachable and "No such file" in (found.error or "")


async def test_the_management_plane_has_a_tls_of_its_own(authority, served):
    cert, key = authority.issue("gateway")
    mutual = Tls(ca=authority.path, cert=cert, key=key)
    async with await start("mindie", **served, tls_client_ca=authority.path, management_port=0) as engine:
        planes = {"management": engine.management_url}
        found = await probe(endpoint(engine.url), tls=mutual, planes=planes, plane_tls={"management": mutual})
        assert found.engine == "mindie" and found.error is None
        found = await probe(endpoint(engine.url), tls=mutual, planes=planes, plane_tls={"management": Tls(ca="/nowhere/ca.pem")})
        assert found.engine == "mindie" and found.error is None


def test_a_certificate_is_read_from_its_der(authority):
    der = authority.own.public_bytes(serialization.Encoding.DER)
    found = read(der)
    assert (found.subject, found.issuer) == ("CN=Test CA", "CN=Test CA")
    assert found.not_after == authority.own.not_valid_after_utc
    for cut in range(len(der)):
        with pytest.raises(ValueError):
            read(der[:cut])


def test_contexts_take_what_the_configuration_says(authority, served):
    loose = client_context(Tls(verify=False))
    assert loose.verify_mode is ssl.CERT_NONE and not loose.check_hostname
    strict = client_context(Tls(ca=authority.path, min_version="1.3"))
    assert strict.verify_mode is ssl.CERT_REQUIRED and strict.minimum_version is ssl.TLSVersion.TLSv1_3
    listening = server_context(Tls(cert=served["tls_cert"], key=served["tls_key"]))
    assert listening.minimum_version is ssl.TLSVersion.TLSv1_2
