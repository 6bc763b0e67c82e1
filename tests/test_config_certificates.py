"""Certificates and keys are tried before they are needed; a changed one changes the digest."""

import datetime
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gateway.config.certificates import lapsed
from gateway.config.load import ConfigError, load, watched
from gateway.config.report import render
from gateway.config.resolve import resolve


def pair(
    folder: Path, name: str, passphrase: bytes | None = None, days: tuple[float, float] = (0, 1), given: rsa.RSAPrivateKey | None = None
) -> None:
    """A self-signed certificate <name>.crt and its key <name>.pem. days: from now on, in which it is good."""
    key = given or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    cover = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    (folder / f"{name}.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cover))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    for name in ("a", "b"):
        pair(made, name)
    pair(made, "covered", b"canary")
    pair(made, "c")
    whole = (made / "c.crt").read_bytes()
    (made / "half.crt").write_bytes(whole[: len(whole) // 2])
    (made / "torn.crt").write_bytes(whole + whole[: len(whole) // 2])
    pair(made, "weak", given=rsa.generate_private_key(65537, 1024))
    (made / "text.pem").write_text("hello\n")
    (made / "broken.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (made / "folder").mkdir()
    return made


def listener(folder: Path, tls: str) -> Path:
    (folder / "gateway.yaml").write_text(f'version: 1\nlisteners:\n  tls:\n    bind: ":8443"\n    tls: {{{tls}}}\n')
    return folder / "gateway.yaml"


def channel(folder: Path, tls: str) -> Path:
    text = f'version: 1\nchannels:\n  c:\n    engine: vllm\n    endpoints: ["https://h"]\n    tls: {{{tls}}}\n'
    (folder / "gateway.yaml").write_text(text)
    return folder / "gateway.yaml"


def test_good_ones_are_taken_and_watched(folder):
    loaded = load(listener(folder, "cert: a.crt, key: a.pem, min_version: 1.3"), {})
    assert {folder / "a.crt", folder / "a.pem"} <= set(loaded.watch)
    tls = resolve(loaded)[0].listeners[0].tls
    assert tls is not None and (tls.cert, tls.key, tls.min_version) == (str(folder / "a.crt"), str(folder / "a.pem"), "1.3")
    loaded = load(channel(folder, "ca: b.crt, cert: a.crt, key: '${file:a.pem}', server_name: x"), {})
    assert {folder / "a.crt", folder / "a.pem", folder / "b.crt"} <= set(loaded.watch)


@pytest.fixture(scope="module")
def lapsing(folder):
    """A folder with an old one, one to come, one of a CA that has both an old and a good one, and a chain of an old one and a good CA."""
    pair(folder, "old", days=(-20, -3))
    pair(folder, "future", days=(5, 9))
    for name, parts in (("mixed", "old a"), ("chain", "old a"), ("renewed", "a old")):
        (folder / f"{name}.crt").write_text("".join((folder / f"{part}.crt").read_text() for part in parts.split()))
    return folder


@pytest.mark.parametrize(
    ("write", "tls", "said"),
    [
        (listener, "cert: a.crt, key: a.pem", ""),
        (listener, "cert: old.crt, key: old.pem", "listeners.tls.tls.cert: {folder}/old.crt has expired on "),
        (listener, "cert: chain.crt, key: old.pem", "listeners.tls.tls.cert: {folder}/chain.crt has expired on "),
        (listener, "cert: renewed.crt, key: a.pem", ""),
        (listener, "cert: future.crt, key: future.pem", "listeners.tls.tls.cert: {folder}/future.crt is good only from "),
        (channel, "ca: mixed.crt", ""),
        (channel, "ca: old.crt", "channels.c.tls.ca: {folder}/old.crt has expired on "),
        (channel, "cert: old.crt, key: old.pem", "channels.c.tls.cert: {folder}/old.crt has expired on "),
    ],
)
def test_one_that_is_not_good_today_is_no_mistake_but_said(lapsing, write, tls, said):
    found = lapsed(load(write(lapsing, tls), {}).config, time.time())
    assert [line[: len(said.format(folder=lapsing))] for line in found] == [said.format(folder=lapsing)] * bool(said)


def test_the_clock_decides(folder):
    config = load(listener(folder, "cert: a.crt, key: a.pem"), {}).config
    day, now = 86_400, time.time()
    assert [len(lapsed(config, now + days * day)) for days in (-1, 0.5, 2)] == [1, 0, 1]


def test_one_that_is_not_there_yet_is_watched(folder):
    path = listener(folder, "cert: a.crt, key: none.pem")
    with pytest.raises(ConfigError):
        load(path, {})
    assert {folder / "a.crt", folder / "none.pem"} <= set(watched(path, {}))


def test_a_renewed_certificate_is_another_digest(tmp_path):
    pair(tmp_path, "a")
    first = load(listener(tmp_path, "cert: a.crt, key: a.pem"), {})
    pair(tmp_path, "a")
    second = load(tmp_path / "gateway.yaml", {})
    assert first.digest != second.digest and first.files == second.files
    assert resolve(first)[0].listeners[0].tls != resolve(second)[0].listeners[0].tls


@pytest.mark.parametrize(
    ("write", "tls", "column", "said"),
    [
        (listener, "cert: a.crt, key: b.pem", 29, "this key does not belong to the certificate"),
        (listener, "cert: a.crt, key: none.pem", 29, "none.pem: there is no such file"),
        (listener, "cert: folder, key: a.pem", 17, "folder: it is a directory, not a file"),
        (listener, "cert: text.pem, key: a.pem", 17, "text.pem is not a PEM file"),
        (listener, "cert: broken.crt, key: a.pem", 17, "certificate and key cannot be used"),
        (listener, "cert: half.crt, key: c.pem", 17, "damaged, or written by halves"),
        (listener, "cert: torn.crt, key: c.pem", 17, "damaged, or written by halves"),
        (listener, "cert: weak.crt, key: weak.pem", 17, "too weak for TLS"),
        (listener, "cert: a.crt, key: a.crt", 29, "this file holds no private key"),
        (listener, "cert: a.crt, key: covered.pem", 29, "this key has a passphrase"),
        (listener, "cert: a.crt", 5, "`key` is missing"),
        (channel, "cert: a.crt", 17, "does not hold both a certificate and its private key"),
        (channel, "key: a.pem", 16, "a key without its cert"),
        (channel, "ca: a.pem", 15, "this file holds no CA certificate"),
        (channel, "ca: b.crt, verify: false", 30, "verify: false makes ca pointless"),
    ],
)
def test_bad_ones_are_told_where_they_are_named(folder, write, tls, column, said):
    with pytest.raises(ConfigError) as caught:
        load(write(folder, tls), {})
    (found,) = caught.value.mistakes
    assert said in found.message and found.column == column, render([found])
