"""HTTPS listeners: the right certificate, no old TLS, and a clear word to callers who speak plain HTTP."""

import asyncio
import datetime
import ipaddress
import os
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.accept import gate
from gateway.accept.gate import GreetingGate
from tests.harness import Rig, eventually, free_port

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def certificate(folder: Path, name: str) -> dict[str, str]:
    """A self-signed certificate for 127.0.0.1 whose common name is `name`, put in place as cert-manager does: by renames."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    folder.mkdir(exist_ok=True)
    for file, data in (("tls.key", private), ("tls.crt", made.public_bytes(serialization.Encoding.PEM))):
        (folder / f".{file}").write_bytes(data)
        os.replace(folder / f".{file}", folder / file)
    return {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key")}


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def shown(port: int, context: ssl.SSLContext | None = None) -> str:
    """The common name of the certificate that a new connection is shown, after a request over it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context or trusting())
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(HEALTH)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    finally:
        writer.close()
    return str(x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


async def with_tls(rig: Rig, tmp_path: Path) -> int:
    """Starts the rig with an HTTPS listener beside the plain one; its port."""
    port = free_port()
    tls = certificate(tmp_path / "tls", "first")
    rig.config["listeners"]["tls"] = {"bind": f"127.0.0.1:{port}", "serves": "api", "tls": tls}
    await rig.engine("a", tps=40, reply_tokens=2000)
    rig.model("qwen")
    await rig.start()
    return port


async def test_http_and_https_at_once_and_renewed_certificates_without_a_break(rig: Rig, tmp_path: Path) -> None:
    port = await with_tls(rig, tmp_path)
    assert await shown(port) == "first"
    assert (await rig.chat("qwen", max_tokens=2)).status == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
    certificate(tmp_path / "tls", "second")
    await eventually(lambda: renewed(port))
    writer.write(HEALTH)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 "), "a connection lives on with the certificate that it began with"
    writer.close()
    assert rig.log().count(" listens") == 1, "no worker was started anew"


async def renewed(port: int) -> bool:
    return await shown(port) == "second"


async def test_a_certificate_that_vanishes_changes_nothing_even_for_a_new_worker(rig: Rig, tmp_path: Path) -> None:
    port = await with_tls(rig, tmp_path)
    (tmp_path / "tls" / "tls.crt").unlink()
    await eventually(lambda: "configuration refused" in rig.log())
    assert await shown(port) == "first"
    os.kill(rig.pid_of("worker-0"), 9)
    await eventually(lambda: rig.log().count(" listens") == 2)
    assert (await rig.chat("qwen", max_tokens=2)).status == 200, "plain HTTP is served all the same"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shown(port)
    certificate(tmp_path / "tls", "second")
    await eventually(lambda: shown_or_nothing(port))


async def shown_or_nothing(port: int) -> str:
    try:
        return await shown(port)
    except (ssl.SSLError, ConnectionError):
        return ""


async def test_plain_http_on_the_https_address_is_told_so(rig: Rig, tmp_path: Path) -> None:
    port = await with_tls(rig, tmp_path)
    body = b"x" * 300_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ") and b"https://" in answer and b'"https_required"' in answer
    writer.close()


async def test_nothing_older_than_tls_1_2(rig: Rig, tmp_path: Path) -> None:
    port = await with_tls(rig, tmp_path)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting()
        context.minimum_version = context.maximum_version = version
        assert await shown(port, context) == "first"
    # A TLS 1.0 ClientHello by hand: OpenSSL of today would not even send one. It asks for TLS_RSA_WITH_AES_128_CBC_SHA.
    hello = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    handshake = b"\x01" + len(hello).to_bytes(3, "big") + hello
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
    answer = await reader.read()
    writer.close()
    assert answer == b"" or answer[0] == 0x15, "an alert or nothing, but no ServerHello"


async def test_callers_who_send_nothing_or_leave_hold_nobody_up(rig: Rig, tmp_path: Path) -> None:
    port = await with_tls(rig, tmp_path)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    for _, writer in silent[:25]:
        writer.write(b"\x16\x03\x01")  # the beginning of a handshake
    assert await shown(port) == "first"
    for _, writer in silent[:40]:
        writer.transport.abort()
    assert await shown(port) == "first"
    assert await rig.stop() == 0, "greetings that are under way do not hold the end up"
    for _, writer in silent[40:]:
        writer.close()


@pytest.mark.hard
async def test_a_listener_becomes_https_and_plain_again(rig: Rig, tmp_path: Path) -> None:
    port = await with_tls(rig, tmp_path)
    async with rig.open_stream("qwen", max_tokens=120) as stream:
        await stream.content.readline()
        for round in range(2):
            rig.config["listeners"]["api"]["tls"] = dict(rig.config["listeners"]["tls"]["tls"])
            assert (await rig.reload())["ok"]
            await eventually(lambda: shown_or_nothing(rig.port))
            del rig.config["listeners"]["api"]["tls"]
            assert (await rig.reload())["ok"], round
            await eventually(lambda: plain(rig))
        assert b"data: [DONE]" in await stream.read()
    assert await shown(port) == "first"


async def plain(rig: Rig) -> bool:
    return (await rig.raw(HEALTH)).startswith(b"HTTP/1.1 200 ")


async def test_without_descriptors_the_gate_takes_a_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BREATH", 0.1)
    tries = 0

    class Full(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            nonlocal tries
            tries += 1
            raise OSError(24, "Too many open files")

    with Full() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        door = GreetingGate(listening, lambda: None, context=lambda: None)  # type: ignore[arg-type]
        with socket.create_connection(listening.getsockname()):
            await eventually(lambda: tries == 3)
        door.close()
