"""Listeners behind a proxy that speaks the PROXY protocol: who is believed, what is closed, and that not a byte is lost."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.accept import gate
from gateway.accept.gate import GreetingGate
from gateway.wire.proxy_protocol import SIGNATURE
from tests.harness import KEY, Rig, eventually, free_port
from tests.test_gate import HEALTH, certificate, trusting
from tests.test_wire_proxy_protocol import TLVS, UNIX, inet, v2

LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"
LINE6 = b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("proxied")
    async with Rig(folder) as rig:
        await rig.engine("a", tps=40, reply_tokens=2000)
        rig.model("qwen")
        rig.config["http"] = {"trusted_proxies": ["127.0.0.1/32", "10.0.0.0/8"]}
        for name, more in (("proxied", {}), ("both", {"tls": certificate(folder / "tls", "first")})):
            rig.config["listeners"][name] = {"bind": f"127.0.0.1:{free_port()}", "proxy_protocol": True, **more}
        rig.config["listeners"]["six"] = {"bind": f"[::]:{free_port()}", "proxy_protocol": True}
        await rig.start()
        yield rig


pytestmark = pytest.mark.asyncio(loop_scope="module")


def port(rig: Rig, name: str = "proxied") -> int:
    return int(rig.config["listeners"][name]["bind"].rpartition(":")[2])


def call(id: str, *lines: str) -> bytes:
    body = b'{"model":"qwen","messages":[{"role":"user","content":"hi"}],"max_tokens":2}'
    own = "".join(f"{line}\r\n" for line in (f"x-request-id: {id}", f"Authorization: Bearer {KEY}", "Connection: close", *lines))
    return f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\n{own}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def said(port: int, *pieces: bytes | float, peer: str = "127.0.0.1", within: float = 8.0) -> bytes:
    """Pieces are sent from `peer`, numbers are pauses; what came until the gateway closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(peer, 0))
    got = b""
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await asyncio.sleep(piece)
            async with asyncio.timeout(within):
                while more := await reader.read(65_536):
                    got += more
    finally:
        writer.close()
    return got


async def said_over_tls(port: int, header: bytes, data: bytes) -> bytes:
    """The header in the clear, everything after it in TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(header)
        await writer.start_tls(trusting())
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 8)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("header", "ip"),
    [
        (LINE, "192.0.2.7"),
        (LINE6, "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"PROXY UNKNOWN 192.0.2.7 10.0.0.1 1 2\r\n", "127.0.0.1"),
        (inet("192.0.2.7"), "192.0.2.7"),
        (inet("2001:db8::7", 0x21), "2001:db8::7"),
        (inet("::ffff:192.0.2.7", 0x21), "192.0.2.7"),
        (v2(b"\xc0\0\x02\x07" * 3, more=TLVS), "192.0.2.7"),
        (v2(b"\xc0\0\x02\x07" * 3, more=bytes(65_523)), "192.0.2.7"),
        (v2(command=0x20, kind=0), "127.0.0.1"),
        (v2(b"\xc0\0\x02\x07" * 3, command=0x20), "127.0.0.1"),
        (v2(UNIX, 0x31), "127.0.0.1"),
        (v2(kind=0), "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("listener", ["proxied", "both"])
async def test_the_record_has_the_address_that_the_header_says(rig, listener, header, ip):
    id = f"said-{listener}-{abs(hash(header))}"
    answer = await (said(port(rig), header + call(id)) if listener == "proxied" else said_over_tls(port(rig, "both"), header, call(id)))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (await rig.record(trace=id))["ip"] == ip


@pytest.mark.parametrize("header", [LINE, inet("192.0.2.7")], ids=["v1", "v2"])
async def test_byte_by_byte_or_cut_anywhere(rig, header):
    pauses = [piece for n in range(len(header)) for piece in (header[n : n + 1], 0.002)]
    assert (await said(port(rig), *pauses, call("bytes"))).startswith(b"HTTP/1.1 200 ")
    assert (await rig.record(trace="bytes"))["ip"] == "192.0.2.7"
    for cut in range(1, len(header), 7):
        assert (await said(port(rig), header[:cut], 0.01, header[cut:] + HEALTH)).startswith(b"HTTP/1.1 200 ")


async def test_a_header_that_waits_for_its_end_costs_no_cpu(rig):
    worker = Path(f"/proc/{rig.pid_of('worker-0')}/stat")

    def used() -> int:
        return sum(map(int, worker.read_text().rpartition(")")[2].split()[11:13]))

    before = used()
    assert (await said(port(rig), LINE[:-1], 1.0, LINE[-1:] + HEALTH)).startswith(b"HTTP/1.1 200 ")
    assert used() - before < 40, "ticks of 10 ms: a loop that wakes for bytes it has seen would use a hundred"


async def test_an_address_for_ipv4_and_ipv6_knows_its_proxies_too(rig):
    assert (await said(port(rig, "six"), LINE6 + call("six"))).startswith(b"HTTP/1.1 200 ")
    assert (await rig.record(trace="six"))["ip"] == "2001:db8::7"
    assert await said(port(rig, "six"), LINE6 + call("stranger"), peer="127.0.0.2", within=2) == b""


async def test_several_requests_of_one_connection_have_one_address(rig):
    first = call("kept-1").replace(b"Connection: close", b"X: y")
    assert (await said(port(rig), LINE + first + call("kept-2"))).count(b"HTTP/1.1 200 ") == 2
    assert {(await rig.record(trace=id))["ip"] for id in ("kept-1", "kept-2")} == {"192.0.2.7"}


@pytest.mark.parametrize(
    ("source", "forwarded", "ip"),
    [
        ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),
        ("10.0.0.5", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.5", ["198.51.100.1, 203.0.113.9, 10.0.0.6"], "203.0.113.9"),
        ("10.0.0.5", [], "10.0.0.5"),
        ("UNKNOWN", ["203.0.113.9"], "203.0.113.9"),
    ],
)
async def test_forwarded_lines_are_believed_of_whom_the_header_names(rig, source, forwarded, ip):
    id = f"forwarded-{source}-{len(forwarded)}-{ip}"
    header = b"PROXY UNKNOWN\r\n" if source == "UNKNOWN" else inet(source)
    await said(port(rig), header + call(id, *(f"X-Forwarded-For: {line}" for line in forwarded)))
    assert (await rig.record(trace=id))["ip"] == ip


@pytest.mark.parametrize(
    "data",
    [
        call("garbage"),
        b"\x16\x03\x01\x02\x00",
        b"\r\n" + LINE + call("garbage"),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 99999\r\n" + call("garbage"),
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n" + call("garbage"),
        v2(b"\xc0\0\x02\x07" * 3, 0x21) + call("garbage"),
        v2(b"\xc0\0\x02\x07" * 3, 0x55) + call("garbage"),
        SIGNATURE + b"\x11\x11" + call("garbage"),
    ],
)
@pytest.mark.parametrize("listener", ["proxied", "both"])
async def test_who_is_trusted_and_sends_no_header_gets_no_answer(rig, listener, data):
    assert await said(port(rig, listener), data, within=2) == b""
    assert not [record for record in rig.records() if record["trace"] == "garbage"]


@pytest.mark.parametrize("listener", ["proxied", "both"])
@pytest.mark.parametrize("header", [LINE, b"", inet("192.0.2.7")])
async def test_who_is_not_trusted_gets_no_answer_whatever_it_sends(rig, listener, header):
    assert await said(port(rig, listener), header + call("stranger"), peer="127.0.0.2", within=2) == b""
    assert await said(port(rig, listener), peer="127.0.0.2", within=2) == b"", "nor is waited for"
    assert not [record for record in rig.records() if record["trace"] == "stranger"]


async def test_a_listener_without_it_knows_no_header(rig):
    assert (await said(rig.port, LINE + call("plain"))).startswith(b"HTTP/1.1 400 ")
    assert (await said(rig.port, call("plain"), peer="127.0.0.2")).startswith(b"HTTP/1.1 200 ")
    assert (await rig.record(trace="plain"))["ip"] == "127.0.0.2"


async def test_plain_http_after_the_header_is_told_that_this_is_https(rig):
    answer = await said(port(rig, "both"), LINE + call("plain"))
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"https_required"' in answer


async def test_two_headers_are_one_and_a_bad_request(rig):
    assert (await said(port(rig), LINE + LINE + call("twice"))).startswith(b"HTTP/1.1 400 ")


@pytest.mark.hard
async def test_a_reload_turns_it_on_and_off_and_streams_go_on(rig):
    async with rig.open_stream("qwen", max_tokens=200) as stream:
        await stream.content.readline()
        for round in range(2):
            rig.config["listeners"]["api"]["proxy_protocol"] = True
            assert (await rig.reload())["ok"]
            await eventually(lambda: speaks(rig, LINE))
            assert await said(rig.port, HEALTH, within=2) == b"", round
            del rig.config["listeners"]["api"]["proxy_protocol"]
            assert (await rig.reload())["ok"]
            await eventually(lambda: speaks(rig, b""))
        assert b"data: [DONE]" in await stream.read()
    assert "listeners.api.proxy_protocol false -> true" in rig.log()


async def speaks(rig: Rig, header: bytes) -> bool:
    return (await said(rig.port, header + HEALTH, within=2)).startswith(b"HTTP/1.1 200 ")


async def test_no_more_than_a_line_a_minute_says_who_was_turned_away(rig):
    assert await said(port(rig), peer="127.0.0.2") == b""
    lines = [line for line in rig.log().splitlines() if f"port {port(rig)}: a connection from 127.0.0." in line]
    assert 1 <= len(lines) <= 1 + int(time.monotonic() - STARTED) // 60


STARTED = time.monotonic()


# -- the gate by itself --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def alone(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[tuple[int, list[str]]]:
    """A gate in this process that gives nobody time; its port, and whom it let in."""
    monkeypatch.setattr(gate, "FIRST_BYTE", 0.3)
    let_in: list[str] = []

    class Knocker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    def door(ip: str) -> asyncio.Protocol:
        let_in.append(ip)
        return Knocker()

    listening = socket.create_server(("127.0.0.1", 0))
    opened = GreetingGate(listening, door, **{"trust": lambda peer: peer == "127.0.0.1", **options})  # type: ignore[arg-type]
    try:
        yield listening.getsockname()[1], let_in
    finally:
        opened.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("pieces", [[], [b"PROXY TCP4 "], [b"\r\n\r\n"], [piece for n in range(8) for piece in (LINE[n : n + 1], 0.1)]])
async def test_who_is_slow_is_closed_and_said_once(pieces, monkeypatch, caplog):
    async with alone(monkeypatch) as (at, let_in):
        began = time.monotonic()
        assert await said(at, *pieces, within=3) == b"" and time.monotonic() - began < 2
        assert await said(at, *pieces, within=3) == b"" and not let_in
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"port {at}: a connection from 127.0.0.1 was closed: it sent no whole PROXY header within 0.3 s" in warning.getMessage()


async def test_after_a_minute_the_next_line_says_how_many_there_were(monkeypatch, caplog):
    monkeypatch.setattr(gate, "QUIET", 0.5)
    async with alone(monkeypatch) as (at, let_in):
        for _ in range(4):
            await said(at, peer="127.0.0.2")
        await asyncio.sleep(0.6)
        await said(at, b"GET / HTTP/1.1\r\n")
        assert not let_in
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(" was closed: ")[2] for line in lines] == [
        "it is none of http.trusted_proxies",
        "it does not begin with a PROXY header; 3 more like it since the last such line",
    ]


async def test_a_proxy_that_only_knocks_is_no_warning(monkeypatch, caplog):
    async with alone(monkeypatch) as (at, let_in):
        for data in (b"", b"PROXY TC"):
            _, writer = await asyncio.open_connection("127.0.0.1", at)
            writer.write(data)
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0.05)
        assert not let_in
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"port {at}: a connection from 127.0.0.1 was closed: it left amid its PROXY header"
    ]


async def test_nobody_is_trusted_any_more(monkeypatch):
    async with alone(monkeypatch, trust=lambda peer: False) as (at, let_in):
        assert await said(at, LINE, within=2) == b"" and not let_in


async def test_a_header_does_not_eat_the_time_for_tls(monkeypatch, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made = certificate(tmp_path / "tls", "x")
    context.load_cert_chain(made["cert"], made["key"])
    async with alone(monkeypatch, context=lambda: context) as (at, let_in):
        reader, writer = await asyncio.open_connection("127.0.0.1", at)
        writer.write(LINE[:9])
        await asyncio.sleep(0.2)
        writer.write(LINE[9:])
        await asyncio.sleep(0.2)
        await writer.start_tls(trusting())
        assert await reader.read() == b"" and let_in == ["192.0.2.7"]
        writer.close()
