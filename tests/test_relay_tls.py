"""Engines behind TLS: who is trusted, what a failed handshake costs, and that connections are kept all the same."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.harness import KEY, Rig, eventually
from tests.test_discover_tls import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = ("trusted", "unchecked", "renamed", "mutual", "mindie")
BAD = ("untrusted", "misnamed", "uninvited", "plain")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("tls")
    ca = Authority(folder)
    cert, key = ca.issue("engine")
    other, other_key = ca.issue("other", hosts=("engine.lab",))
    own, own_key = ca.issue("gateway")
    served = {"tls_cert": cert, "tls_key": key}
    async with Rig(folder) as rig:

        async def channel(name: str, tls: dict[str, Any] | None, kind: Any = "vllm", **options: Any) -> None:
            await rig.engine(name, kind, channel={"tls": tls} if tls else None, **options)
            rig.model(name, {name: 1})
            if name in BAD:
                rig.model(f"{name}-else", {name: 1, "trusted": 0})

        await channel("trusted", {"ca": ca.path}, **served)
        await channel("unchecked", {"verify": False}, **served)
        await channel("renamed", {"ca": ca.path, "server_name": "engine.lab"}, tls_cert=other, tls_key=other_key)
        await channel("mutual", {"ca": ca.path, "cert": own, "key": own_key}, **served, tls_client_ca=ca.path)
        await channel(
            "mindie", {"ca": ca.path, "cert": own, "key": own_key, "min_version": "1.3"}, "mindie", **served, tls_client_ca=ca.path
        )
        await channel("untrusted", None, **served)
        await channel("misnamed", {"ca": ca.path}, tls_cert=other, tls_key=other_key)
        await channel("uninvited", {"ca": ca.path}, **served, tls_client_ca=ca.path)
        await channel("plain", None)
        rig.config["channels"]["plain"]["endpoints"] = [rig.engines["plain"].url.replace("http:", "https:")]
        await rig.start()
        yield rig


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", GOOD)
async def test_a_good_handshake(rig, name, stream):
    answer = await rig.chat(name, "over tls", stream=stream)
    assert answer.status == 200 and (answer.done or not stream) and answer.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BAD)
async def test_a_bad_handshake_is_somebody_elses_chance_or_an_honest_error(rig, name, stream):
    answer = await rig.chat(name, stream=stream)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert "127.0.0.1" not in answer.error["message"] and "engine.lab" not in answer.error["message"]
    error = (await rig.record(model=name, stream=True) if stream else await rig.record(model=name))["error"]
    assert error == "tls" or (name == "uninvited" and error == "reset"), "with TLS 1.3 the alert may be lost in the reset that follows it"
    answer = await rig.chat(f"{name}-else", stream=stream)
    assert answer.status == 200 and answer.headers["x-gateway-channel"] == "trusted"
    assert not any(request.number for request in rig.engines[name].requests)


async def test_a_connection_that_is_closed_in_the_handshake_is_a_matter_of_tls(rig):
    """Not of an engine that is away."""
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1") as server:
        rig.config["channels"]["closing"] = {"engine": "vllm", "endpoints": [f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"]}
        rig.model("closing", {"closing": 1})
        await rig.reload()
        answer = await rig.chat("closing")
        assert answer.status == 502 and "closed the connection in the TLS handshake" in answer.error["message"]
        assert (await rig.record(model="closing"))["error"] == "tls"


async def test_connections_are_kept(rig):
    for _ in range(6):
        assert (await rig.chat("trusted")).status == 200
    health = await rig.admin("GET", "/v1/health")
    [seen] = [one for one in health["endpoints"] if one["channel"] == "trusted"]
    assert seen["handshakes"] < 6


async def test_a_slow_reader_over_tls_pauses_the_engine_and_gets_everything(rig):
    loop = asyncio.get_running_loop()
    body = b'{"model":"trusted","messages":[{"role":"user","content":"x"}],"stream":true,"max_tokens":20000,"ignore_eos":true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nx-request-id: slow-tls\r\n"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", rig.port))
        await loop.sock_sendall(sock, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = await eventually(lambda: next((r for r in rig.engines["trusted"].requests if b'"max_tokens":20000' in r.body), None))
        seen = -1

        def waits() -> bool:
            nonlocal seen
            before, seen = seen, received.tokens
            return bool(before == seen > 0)

        await eventually(waits, every=0.2)
        assert seen < 20_000
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)  # with the small one each 4 KB may wait 0.2 s for the kernel's timer
        got = bytearray()
        while b"[DONE]" not in got:
            got += await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 5)
    record = await rig.record(trace="slow-tls")
    assert record["end"] == "--" and record["tokens"]["out"] == 20_000


async def test_leaving_over_tls_stops_the_engine(rig):
    async with rig.open_stream("mutual", max_tokens=20_000, ignore_eos=True) as answer:
        await answer.content.readany()
        answer.close()
    await eventually(lambda: rig.engines["mutual"].last.aborted_at, within=1)
