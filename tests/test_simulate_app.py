"""The command: its line, its exit statuses, its TLS."""

import asyncio
import datetime
import ipaddress
import signal
import socket
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.simulate.app import main, parser, settings_of
from gateway.simulate.simulator import start

ROOT = Path(__file__).parents[1]


async def run(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.simulate", *arguments, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_it_says_where_it_listens_and_stops_on_sigterm() -> None:
    process = await run("mindie", "--port", "0", "--management-port", "0", "--model", "a", "--model", "b", "--ttft", "5ms")
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()
    assert line[:5] == ["simulate", "mindie", "model=a,b", "listening", "on"]
    assert (line[6], line[8]) == ("management", "metrics")
    assert line[5] == line[9] != line[7]
    async with aiohttp.ClientSession() as session, session.get(line[7] + "/info") as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, errors) == (0, b"")


async def test_a_wrong_script_is_refused_with_its_place(tmp_path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text("faults:\n  - {on: 1, do: explode}\n")
    process = await run("vllm", "--port", "0", "--script", str(script))
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert f"{script}:2:17: unknown fault `explode`" in errors.decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("faults: [\n", ":1:9: the file ends too early; is it half-written?"),
        ("faults:\n\t- {do: refuse}\n", ":2:1: a tab; YAML is indented with spaces"),
        ("faults: \x01\n", ":1:9: the file contains the character U+0001; remove it"),
        ("", ": a fault script begins with `faults:`"),
        ("- {do: refuse}\n", ":1:1: a fault script begins with `faults:`"),
        (None, "cannot be read: there is no such file"),
    ],
)
def test_a_script_that_is_none_is_said_in_plain_words(text, said, tmp_path, capsys) -> None:
    script = tmp_path / "faults.yaml"
    if text is not None:
        script.write_text(text)
    assert main(["vllm", "--port", "0", "--script", str(script)]) == 2
    err = capsys.readouterr().err
    assert f"{script}" in err and said in err and "Errno" not in err


def test_where_it_cannot_listen_is_said_with_why(tmp_path, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["vllm", "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1, port {port}: something listens there already; --port" in capsys.readouterr().err
    assert main(["vllm", "--port", "0", "--host", "192.0.2.1"]) == 1
    assert "cannot listen on 192.0.2.1, port 0: this machine has no such address" in capsys.readouterr().err
    assert main(["vllm", "--port", "0", "--tls-cert", str(tmp_path / "no.pem")]) == 1
    assert f"cannot use the certificate {tmp_path}/no.pem: there is no such file" in capsys.readouterr().err


def test_defaults_are_the_engines_own() -> None:
    ports = [settings_of(parser().parse_args([kind])).port for kind in ("vllm", "sglang", "mindie")]
    assert ports == [8000, 30000, 1025]
    given = settings_of(parser().parse_args(["vllm", "--reasoning", "--ttft", "200ms", "--tps", "50", "--model", "m"]))
    assert (given.reasoning, given.ttft, given.tps, given.models) == ("field", 0.2, 50.0, ("m",))


def certificates(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 that is its own CA, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulate")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "c.pem").write_bytes(certificate.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "k.pem").write_bytes(secret)
    return folder / "c.pem", folder / "k.pem"


async def test_mindie_wants_a_client_certificate_and_tls_1_3(tmp_path) -> None:
    cert, key = certificates(tmp_path)
    async with await start("mindie", tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(cert)) as simulator:
        assert simulator.url.startswith("https://")
        context = ssl.create_default_context(cafile=cert)
        context.load_cert_chain(cert, key)
        async with aiohttp.ClientSession() as session, session.get(simulator.url + "/v1/models", ssl=context) as answer:
            assert answer.status == 200
        bare = ssl.create_default_context(cafile=cert)
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(simulator.url + "/v1/models", ssl=bare):
                pass
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(simulator.url + "/v1/models", ssl=context):
                pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--tps=-1", "`-1` is no pace"),
        ("--tps=nan", "`nan` is no pace"),
        ("--tps=inf", "`inf` is no pace"),
        ("--tps=fast", "`fast` is no pace"),
        ("--max-running=-1", "`-1` is no count"),
        ("--reply-tokens=1.5", "`1.5` is no count"),
        ("--max-model-len=99999999999", "is no count"),
    ],
)
def test_a_number_that_cannot_be_is_a_wrong_argument(given, said, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["vllm", given])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--port", "--management-port", "--metrics-port"])
@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_cannot_be_is_a_wrong_argument(flag, port, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["mindie", f"{flag}={port}"])
    assert f"`{port}` is no port" in capsys.readouterr().err
