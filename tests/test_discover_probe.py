"""Probes against simulated engines and against servers that are none: what is asked, what is concluded, what is said."""

import asyncio
import contextlib
import json
import socket
from typing import Any

import aiohttp
import pytest

from gateway.config.fields import url_of
from gateway.config.resolved import Endpoint
from gateway.discover import ask, role
from gateway.discover.probe import probe, probe_url
from gateway.discover.trouble import Trouble, explain
from gateway.simulate.simulator import start


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as found:
            found.bind(("::1", 0))
    except OSError:
        return False
    return True


IPV6 = _ipv6()


def endpoint(url: str) -> Endpoint:
    scheme, host, port, base = url_of(url)
    return Endpoint(url=url, scheme=scheme, host=host, port=port, base=base)


@contextlib.asynccontextmanager
async def server(*answers: bytes, hold: bool = False, host: str = "127.0.0.1"):
    """Answers each connection with these bytes after its first request, then closes (or holds) it. Yields URL and what came."""
    heard: list[bytes] = []
    serving: set[Any] = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            for answer in answers:
                writer.write(answer)
                await writer.drain()
            if hold:
                await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, host, 0)
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{listening.sockets[0].getsockname()[1]}", heard
    finally:
        listening.close()
        await listening.wait_closed()
        await asyncio.gather(*serving)


@pytest.mark.skipif(not IPV6, reason="this machine has no IPv6")
async def test_an_ipv6_address_is_asked():
    async with server(http("200 OK", b"{}"), host="::1") as (url, heard), ask.Asker(endpoint(url + "/base/"), None) as asker:
        answer = await asker.get("/v1/models?a=%20")
        assert not isinstance(answer, Trouble) and answer[0] == 200
        assert heard[0].startswith(b"GET /base/v1/models?a=%20 HTTP/1.1\r\nHost: [::1]:")


def http(status: str, body: bytes, *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines))
    return f"{head}\r\n".encode() + body


@pytest.mark.parametrize(
    ("kind", "version", "asked"),
    [
        ("vllm", "0.33.0", ["/v1/models", "/version"]),
        ("sglang", "0.5.23", ["/v1/models", "/server_info"]),
        ("mindie", "3.0.0", ["/v1/models", "/v2", "/v2/models/qwen3/config"]),
    ],
)
async def test_each_engine_is_known_by_its_answers(kind, version, asked):
    async with await start(kind, max_model_len=40960) as engine:
        found = await probe_url(engine.url)
        assert found.reachable and found.error is None
        assert (found.engine, found.version) == (kind, version)
        assert [(model.id, model.context_length) for model in found.models] == [("qwen3", 40960)]
        assert found.would == {"engine": kind, "endpoints": [engine.url], "model": "qwen3"}
        assert found.evidence and found.tls is None and found.ms > 0
        assert [(request.method, request.path) for request in engine.requests] == [("GET", path) for path in asked]


async def test_a_configured_engine_is_asked_with_the_channels_credential_and_headers():
    async with await start("vllm", api_key="secret") as engine:
        found = await probe(endpoint(engine.url), engine="vllm", credential="secret", headers={"X-Team": "search"})
        assert found.error is None and found.engine == "vllm"
        assert all(request.headers["x-team"] == "search" for request in engine.requests)
        refused = await probe(endpoint(engine.url), engine="vllm", credential="wrong")
    assert refused.reachable and refused.error == "the engine refuses the credential (401)"
    assert "secret" not in str(found.told()) and "wrong" not in str(refused.told())


async def test_an_engine_that_hides_its_model_list_is_still_known_by_its_version():
    async with await start("vllm", api_key="secret") as engine:
        found = await probe_url(engine.url)
    assert (found.engine, found.version, found.models) == ("vllm", "0.33.0", [])
    assert found.error == "the engine refuses the credential (401)"
    assert found.would == {"engine": "vllm", "endpoints": [engine.url]}


async def test_mindies_management_plane_tells_what_its_business_plane_does_not():
    """An older MindIE: no /v2/models/…/config."""
    async with await start("mindie", management_port=0, max_model_len=2560) as engine, server(http("404 Not Found", b"")) as (url, _):
        planes = {"management": engine.management_url}
        found = await probe(endpoint(engine.url), engine="mindie", planes=planes)
        assert found.models[0].context_length == 2560
        assert found.would is not None and found.would["planes"] == planes
        found = await probe(endpoint(url), planes=planes, credential="secret")
        assert not found.models and found.error == "it has no /v1/models (404): look at the address' path"
        management = [request for request in engine.requests if request.plane == "management"]
        assert management and all("authorization" not in request.headers for request in management)


async def test_an_address_with_a_path_keeps_it():
    listed = b'{"object":"list","data":[{"id":"tiny","object":"model","owned_by":"llamacpp","meta":{"n_ctx":512}}]}'
    async with server(http("200 OK", listed)) as (url, heard):
        found = await probe_url(f"{url}/engines/a/v1/")
    assert heard[0].startswith(b"GET /engines/a/v1/models HTTP/1.1\r\n")
    assert found.engine == "openai" and found.models[0].context_length == 512
    assert found.would == {"engine": "openai", "endpoints": [f"{url}/engines/a"], "model": "tiny"}


async def test_nobody_listens(unused_tcp_port):
    found = await probe_url(f"127.0.0.1:{unused_tcp_port}")
    assert (found.reachable, found.trouble, found.would) == (False, "refused", None)
    assert found.error == f"connection refused: nothing listens on 127.0.0.1:{unused_tcp_port}"


async def test_a_name_that_does_not_exist():
    found = await probe_url("http://engine.invalid:8000")
    assert found.error == "the name engine.invalid cannot be resolved"


async def test_a_resolver_is_made_for_names_alone_and_closed(monkeypatch):
    made, closed = [], []

    class Counted(aiohttp.ThreadedResolver):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        async def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(aiohttp, "DefaultResolver", Counted)
    async with await start("vllm") as engine:
        assert (await probe_url(engine.url)).reachable and not made
        assert (await probe_url(engine.url.replace("127.0.0.1", "localhost"))).reachable
    assert made and closed == made


async def test_a_server_that_never_answers_is_left_after_the_first_question():
    async with server(hold=True) as (url, heard):
        found = await probe(endpoint(url), total=0.2)
        assert len(heard) == 1
    assert found.trouble == "timeout" and "did not answer within 0.2 s" in (found.error or "")


async def test_redirects_are_not_followed():
    async with await start("vllm") as engine, server(http("302 Found", b"", f"Location: {engine.url}/v1/models")) as (url, _):
        found = await probe_url(url)
        assert not engine.requests
    assert found.reachable and found.engine is None and found.would is None
    assert found.error == f"it redirects to {engine.url}/v1/models, which is not followed: write that address"


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"\x00\xff", b"[]", b"", b'"text"'])
async def test_something_else_answers(body):
    async with server(http("200 OK", body)) as (url, _):
        found = await probe_url(url)
        configured = await probe(endpoint(url), engine="vllm")
    assert found.reachable and found.engine is None
    assert found.error == "something answers, but nothing that an engine would say"
    assert configured.error == "the answer to /v1/models is no model list"


async def test_an_answer_without_end_is_not_read_to_its_end():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    async with server(head, *[b" " * 65536] * 40, hold=True) as (url, _):
        found = await probe(endpoint(url), engine="vllm", total=2.0)
    assert found.reachable and found.error == "the answer to /v1/models is larger than 1 MiB"


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (b"", "closed", "closed the connection without an answer; it may want https://"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol", "does not answer in valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "protocol", "does not answer in valid HTTP"),
    ],
)
async def test_something_that_speaks_no_http(said, kind, text):
    async with server(said) as (url, _):
        found = await probe_url(url)
    assert found.trouble == kind and text in (found.error or "")


@pytest.mark.parametrize("url", ["ftp://a", "http://u:p@h:1", "http://", "http://h:99999", "http://h/?q", "http://a b"])
async def test_an_address_that_is_none(url):
    found = await probe_url(url)
    assert not found.reachable and (found.error or "").startswith("this is no engine's URL: it ")


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    async with await start("vllm") as engine:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert (await probe_url(engine.url)).engine == "vllm"


def test_errors_that_no_test_can_cause_have_their_words():
    network = explain(OSError(113, "No route to host"), "h:1", connected=False, secure=False, limit=2.0)
    assert network.text == "h:1: no route to the host"
    other = explain(ValueError("strange"), "h:1", connected=False, secure=False, limit=2.0)
    assert (other.kind, other.text) == ("network", "h:1: ValueError: strange")
    late = explain(TimeoutError(), "h:1", connected=False, secure=True, limit=2.0)
    assert late.text == "timeout: no TLS connection to h:1 within 2 s"
    assert ask.CONNECT == 2.0


async def test_the_role_prints_one_json_object_per_url(unused_tcp_port, capsys):
    async with await start("sglang") as engine:
        urls = [engine.url, f"http://127.0.0.1:{unused_tcp_port}"]
        assert await asyncio.to_thread(role.main, ["--json", *urls]) == 1
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["url"] for line in lines] == urls
        assert [line["engine"] for line in lines] == ["sglang", None]
        assert {"url", "reachable", "engine", "version", "models", "tls", "evidence", "error", "would"} <= set(lines[0])
        assert await asyncio.to_thread(role.main, urls[:1]) == 0
        assert capsys.readouterr().out == f"{engine.url}: sglang 0.5.23 (qwen3)\n"
        assert await asyncio.to_thread(role.main, urls[1:]) == 1
        assert "connection refused" in capsys.readouterr().out
