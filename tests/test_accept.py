"""The callers' side: which paths there are, what is refused and how, and what a connection bears."""

import asyncio
import base64
import contextlib
import gzip
import json
import os
import re
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import pytest
import pytest_asyncio
from aiohttp.web_protocol import RequestHandler

from gateway.words import APIS
from tests.harness import KEY, Rig, eventually, script

ORIGIN = "https://chat.example.com"
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n".encode()
BODY = b'{"model":"qwen","messages":[{"role":"user","content":"hi"}]}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("accept")) as rig:
        await rig.engine("a", "vllm")
        await rig.engine("b", "sglang", model="other")
        rig.model("qwen", {"a": 1}, aliases=["gpt-4o*", "exact"])
        rig.model("Org/Model:7B", {"a": 1})
        rig.model("hidden", {"b": 1})
        rig.config["http"] = {
            "body": "256KiB",
            "body_timeout": "700ms",
            "header": "4KiB",
            "keepalive": "2s",
            "write_idle": "1s",
            "trusted_proxies": ["127.0.0.1/32", "10.0.0.0/8"],
            "cors": {"origins": [ORIGIN]},
        }
        rig.config["keys"][0]["models"] = ["qwen", "gpt-4o*", "exact", "Org/*"]
        await rig.start()
        yield rig


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
def healthy(rig):
    for engine in rig.engines.values():
        engine.script = script()
        engine.requests.clear()
    yield


def post(body: bytes = BODY, *lines: str, head: bytes = HEAD) -> bytes:
    own = "".join(f"{line}\r\n" for line in lines).encode()
    return head + own + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answers(raw: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Answers with Content-Length, one after the other."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", 0))
        found.append((int(status.split()[1]), headers, rest[:size]))
        raw = rest[size:]
    return found


def reached(rig: Rig) -> list[str]:
    """Paths at the engine, but for the gateway's own look at its models."""
    return [request.path for request in rig.engines["a"].requests if request.method != "GET"]


async def ask(rig: Rig, data: bytes, count: int = 1) -> bytes:
    """Bytes to the gateway, and as many answers as asked for (or what came until it closed)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    got = b""
    try:
        writer.write(data)
        async with asyncio.timeout(8):
            while got.count(b"HTTP/1.1 ") < count or not complete(got):
                piece = await reader.read(65_536)
                if not piece:
                    break
                got += piece
    finally:
        writer.close()
    return got


def complete(raw: bytes) -> bool:
    head, _, body = raw[raw.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    size = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
    return bool(size) and len(body) >= int(size[0][16:])


async def conversation(rig: Rig, *pieces: bytes | float, within: float = 8.0) -> bytes:
    """Pieces are sent, numbers are pauses; then everything is read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    got = b""
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
            else:
                await asyncio.sleep(piece)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(within):
                while piece := await reader.read(65_536):
                    got += piece
    finally:
        writer.close()
    return got


# -- the surface -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/metrics",
        "/health",
        "/stopService",
        "/v1/load_lora_adapter",
        "/v1/chat/completions/",
        "//v1/models",
        "/v1//models",
        "/V1/models",
        "/v1/models/../../stopService",
        "/v1/chat%2Fcompletions",
        "/invocations",
        "/v1/responses",
        "/server_info",
        "/v1/modelsx",
        "/healthz/",
        "/./v1/models",
        "/v1/models;x",
        "/detokenize",
        "/generate",
        "/v2/models/qwen/infer",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_every_other_path_is_unknown(rig, method, path):
    raw = await ask(rig, f"{method} {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n".encode())
    [(status, headers, body)] = answers(raw)
    error = json.loads(body)["error"]
    if path.startswith("/v1/models/"):  # an id, whatever it looks like: never a path of ours or of an engine
        assert (status, error["code"]) == ((404, "model_not_found") if method == "GET" else (405, "method_not_allowed"))
    else:
        assert (status, error["code"], error["type"]) == (404, "unknown_url", "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code"} and headers["x-request-id"]
    assert not reached(rig) and not rig.engines["a"].touched


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/responses", "The Responses API is not served here: let your library use the Chat Completions API (/v1/chat/completions)."),
        (
            "/responses/r1/cancel",
            "The Responses API is not served here: let your library use the Chat Completions API (/v1/chat/completions).",
        ),
        ("/chat/completions", "Did you mean /v1/chat/completions? The base URL ends with /v1."),
        ("/openai/deployments/x/chat/completions?api-version=1", "Did you mean /v1/chat/completions? The base URL ends with /v1."),
        ("/v1/chat/completions/chat/completions", "Did you mean /v1/chat/completions? The base URL ends with /v1."),
        ("/models", "Did you mean /v1/models? The base URL ends with /v1."),
        ("/v1/v1/embeddings", "Did you mean /v1/embeddings?"),
        ("//v1//completions/", "Did you mean /v1/completions?"),
        ("/v1/tokenize", "Did you mean /tokenize?"),
        ("/v1/files", f"This gateway serves {', '.join(APIS)}, /v1/models."),
        ("/chat/completions" + "/x" * 8, f"This gateway serves {', '.join(APIS)}, /v1/models."),
    ],
)
async def test_who_asks_for_an_unknown_path_learns_what_to_change(rig, path, advice):
    raw = await ask(rig, f"POST {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n".encode())
    [(status, _, body)] = answers(raw)
    assert status == 404
    assert json.loads(body)["error"]["message"] == f"Unknown request URL: POST {path.partition('?')[0]}. {advice}"


async def test_wrong_methods(rig):
    for path in APIS:
        async with rig.session.get(rig.url + path) as answer:
            assert answer.status == 405 and answer.headers["Allow"] == "POST"
    async with rig.session.delete(rig.url + "/v1/models") as answer:
        assert answer.status == 405
    async with rig.session.put(rig.url + "/healthz") as answer:
        assert answer.status == 405 and (await answer.json())["error"]["code"] == "method_not_allowed"


async def test_models_and_their_ids(rig):
    bearer = {"Authorization": f"Bearer {KEY}"}
    async with rig.session.get(rig.url + "/v1/models?limit=3", headers=bearer) as answer:
        listed = await answer.json()
    assert [one["id"] for one in listed["data"]] == ["qwen", "Org/Model:7B"] and listed["object"] == "list"
    assert all(one["object"] == "model" and one["owned_by"] == "gateway" for one in listed["data"])
    for path, status, found in (
        ("qwen", 200, "qwen"),
        ("exact", 200, "qwen"),
        ("gpt-4o-mini", 200, "qwen"),
        ("Org%2FModel%3A7B", 200, "Org/Model:7B"),
        ("Org/Model:7B", 200, "Org/Model:7B"),
        ("nope", 404, ""),
        ("%ff%zz", 404, ""),
        ("hidden", 403, ""),
        ("/qwen", 404, ""),
    ):
        raw = await ask(rig, f"GET /v1/models/{path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        [(got, _, body)] = answers(raw)
        assert got == status, (path, raw)
        if status == 200:
            assert json.loads(body)["id"] == found


async def test_head_requests_get_the_head_alone(rig):
    raw = await rig.raw(f"HEAD /v1/models HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode(), within=1)
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and b"Content-Length: " in head and rest == b""
    raw = await rig.raw(b"HEAD /nowhere HTTP/1.1\r\nHost: gw\r\n\r\nHEAD /healthz HTTP/1.1\r\nHost: gw\r\n\r\n", within=1)
    assert [line for line in raw.split(b"\r\n") if line.startswith(b"HTTP")] == [b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 OK"]
    assert raw.endswith(b"\r\n\r\n") and b"error" not in raw


async def test_every_answer_has_its_date(rig):
    """RFC 9110 (6.6.1) demands it of whoever has a clock."""
    stream = BODY.replace(b"}]}", b'}],"stream":true}')
    get = b"GET %b HTTP/1.1\r\nHost: gw\r\n\r\n"
    for request in (post(), post(stream), post(b"{"), get % b"/nowhere", get % b"/healthz", b"nonsense\r\n\r\n"):
        raw = await ask(rig, request)
        dates = re.findall(rb"\r\nDate: ([^\r]*)\r\n", raw.partition(b"\r\n\r\n")[0] + b"\r\n")
        assert len(dates) == 1 and abs(parsedate_to_datetime(dates[0].decode()).timestamp() - time.time()) < 10, raw[:300]


async def test_health_needs_no_key_and_leaves_no_record(rig):
    before = len(rig.records())
    for path in ("/healthz", "/readyz", "/healthz?x=1"):
        async with rig.session.get(rig.url + path) as answer:
            assert answer.status == 200 and (await answer.json()) == {"status": "ok"}
    assert len(rig.records()) == before


async def test_a_target_in_absolute_form_is_the_same_request(rig):
    for target in ("http://gw/v1/chat/completions?x=1", "HTTP://other:99/v1/chat/completions"):
        raw = await ask(rig, post(head=HEAD.replace(b"/v1/chat/completions", target.encode())))
        assert answers(raw)[0][0] == 200
    raw = await ask(rig, b"GET http://gw/healthz HTTP/1.1\r\nHost: gw\r\n\r\n")
    assert answers(raw)[0][0] == 200
    raw = await ask(rig, b"CONNECT engine:80 HTTP/1.1\r\nHost: gw\r\n\r\n")
    assert answers(raw)[0][0] in (400, 404)


async def test_every_api_of_the_allow_list(rig):
    for path, body, field in (
        ("/v1/completions", {"prompt": "hi"}, "choices"),
        ("/v1/embeddings", {"input": "hi"}, "data"),
        ("/v1/rerank", {"query": "q", "documents": ["a", "b"]}, "results"),
        ("/tokenize", {"prompt": "hi"}, "tokens"),
        ("/v1/score", {"text_1": "a", "text_2": "b"}, "data"),
    ):
        answer = await rig.post(path, {"model": "exact", **body})
        assert answer.status == 200 or (path == "/v1/score" and answer.status == 502), answer.body  # the simulator may have none
        if answer.status == 200:
            assert field in answer.json and answer.json["model"] == "qwen"
        record = await rig.record(api=APIS[path])
        assert record["model"] == "exact"


# -- who calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "code", "why"),
    [
        (None, "missing_api_key", "no key"),
        ("Bearer nope", "invalid_api_key", "unknown key"),
        (f"Basic {KEY}", "invalid_api_key", "not a bearer header"),
        ("Bearer", "invalid_api_key", "not a bearer header"),
        (KEY, "invalid_api_key", "not a bearer header"),
        ("Basic " + base64.b64encode(f"u:{KEY}".encode()).decode(), "invalid_api_key", "not a bearer header"),
    ],
)
async def test_a_caller_without_a_good_key_is_refused_and_recorded(rig, authorization, code, why):
    headers = {"Authorization": authorization, "x-request-id": "auth-7"} if authorization else {"x-request-id": "auth-7"}
    answer = await rig.post("/v1/chat/completions", BODY, key=None, headers=headers)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (401, code, "authentication_error")
    assert (answer.headers["x-request-id"], answer.headers["www-authenticate"]) == ("auth-7", "Bearer")
    record = rig.records()[-1]
    assert (record["status"], record["end"], record["error"]) == (401, "GK", why) and "attempts" not in record


async def test_a_model_that_the_key_may_not_use(rig):
    answer = await rig.chat("hidden")
    assert (answer.status, answer.error["code"], answer.error["type"]) == (403, "model_not_allowed", "permission_error")
    assert (await rig.record(status=403))["end"] == "GK"
    answer = await rig.chat("nope")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert (await rig.record(status=404, api="chat"))["end"] == "GR"


async def test_what_goes_upstream_is_ours_alone(rig):
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    theirs = {
        "Cookie": "c=1",
        "X-Forwarded-For": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "OpenAI-Organization": "org",
        "X-User": "ann",
        "Proxy-Authorization": "Basic x",
        "TE": "trailers",
        "Keep-Alive": "5",
        "X-Request-Id": "mine-1",
        "traceparent": trace,
        "tracestate": "a=b",
        "Via": "1.1 x",
        "Origin": ORIGIN,
        "User-Agent": "secret-agent",
        "Accept-Encoding": "gzip",
        "x-api-key": KEY,
    }
    answer = await rig.chat("qwen", headers=theirs)
    assert answer.headers["x-request-id"] == "mine-1"
    sent = rig.engines["a"].last.headers
    assert sent["x-request-id"] == "mine-1" and sent["traceparent"] == trace and sent["tracestate"] == "a=b"
    assert sorted(sent) == ["accept", "content-length", "content-type", "host", "traceparent", "tracestate", "user-agent", "x-request-id"]
    assert KEY not in str(sent) and sent["user-agent"] == "gateway"
    assert (await rig.record(trace="mine-1"))["ip"] == "1.2.3.4"


async def test_a_record_is_found_by_the_callers_id_else_by_its_trace(rig):
    number, zeros = "4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32
    context = f"traceparent: 00-{number}-00f067aa0ba902b7-01"
    states = ("tracestate: a=1", "tracestate: b=2")
    [(_, headers, _)] = answers(await ask(rig, post(BODY, "x-request-id: both-1", context, *states)))
    sent = rig.engines["a"].last.headers
    assert headers["x-request-id"] == "both-1" and (await rig.record(trace="both-1"))["status"] == 200, "it was told this id"
    assert sent["traceparent"] == context[13:] and sent["tracestate"] == "a=1,b=2"
    await ask(rig, post(BODY, context))
    assert (await rig.record(trace=number))["status"] == 200
    for odd in (f"00-{zeros}-00f067aa0ba902b7-01", f"00-{number}-{zeros[:16]}-01", f"ff-{number}-00f067aa0ba902b7-01"):
        [(_, headers, _)] = answers(await ask(rig, post(BODY, f"traceparent: {odd}")))
        assert "traceparent" not in rig.engines["a"].last.headers, "it is none"
        assert not (await rig.record(id=headers["x-request-id"])).get("trace")


@pytest.mark.parametrize("value", ["x" * 129, "a b", "ü", "a/b", "", '"'])
async def test_a_request_id_that_is_none_is_replaced(rig, value):
    raw = await ask(rig, post(BODY, f"x-request-id: {value}", "traceparent: zz-abc-def"))
    [(status, headers, _)] = answers(raw)
    assert status == 200 and headers["x-request-id"] != value and len(headers["x-request-id"]) == 36
    assert "traceparent" not in rig.engines["a"].last.headers


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ([], "127.0.0.1"),
        (["9.9.9.9"], "9.9.9.9"),
        (["6.6.6.6, 9.9.9.9, 10.1.2.3"], "9.9.9.9"),
        (["6.6.6.6", "9.9.9.9,10.0.0.1"], "9.9.9.9"),
        (["10.2.0.1, 10.0.0.1"], "10.2.0.1"),
        (["nonsense"], "127.0.0.1"),
        (["9.9.9.9, nonsense, 10.0.0.1"], "10.0.0.1"),
        (["[2001:db8::1]:44"], "2001:db8::1"),
        (["9.9.9.9:1234"], "9.9.9.9"),
    ],
)
async def test_the_callers_address_behind_proxies(rig, forwarded, ip):
    id = f"ip-{abs(hash(tuple(forwarded)))}"
    await ask(rig, post(BODY, f"x-request-id: {id}", *(f"X-Forwarded-For: {line}" for line in forwarded)))
    assert (await rig.record(trace=id))["ip"] == ip


async def test_pages_of_other_origins(rig):
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-lang"}
    async with rig.session.options(rig.url + "/v1/chat/completions", headers=asks) as answer:
        assert answer.status == 204 and "Content-Length" not in answer.headers
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN and answer.headers["Vary"] == "Origin"
        assert "x-stainless-lang" in answer.headers["Access-Control-Allow-Headers"]
    async with rig.session.options(rig.url + "/v1/chat/completions", headers={**asks, "Origin": "https://evil.example"}) as answer:
        assert answer.status == 204 and "Access-Control-Allow-Origin" not in answer.headers
    for stream in (False, True):
        answer = await rig.chat("qwen", stream=stream, headers={"Origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        answer = await rig.chat("qwen", stream=stream, headers={"Origin": "https://evil.example"})
        assert answer.status == 200 and "access-control-allow-origin" not in answer.headers
    answer = await rig.chat("nope", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN, "a page must be able to read its error"


# -- bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "invalid_json", "line 1 column 1"),
        (b"{", "invalid_json", "line 1 column 2"),
        (b'{"model":"qwen",}', "invalid_json", "line 1 column 17"),
        (b'{\n "model": \x00}', "invalid_json", "line 2"),
        (b"\x00", "invalid_json", "line 1"),
        (b'{"model":"\xff"}', "invalid_json", "not UTF-8"),
        (b"[]", "invalid_json", "object"),
        (b'"x"', "invalid_json", "object"),
        (b"null", "invalid_json", "object"),
        (b"\xef\xbb\xbf{}", "invalid_json", "byte order"),
        (b"[" * 5000, "invalid_json", "line 1"),
        (b"{}", "missing_required_parameter", "model"),
        (b'{"model":7}', "invalid_type", "string"),
        (b'{"model":null}', "invalid_type", "string"),
        (b'{"model":["qwen"]}', "invalid_type", "string"),
        (b'{"model":""}', "model_not_found", "does not exist"),
        (b'{"model":"qwen","stream":"yes"}', "invalid_type", "stream"),
        (b'{"model":"qwen","stream":1}', "invalid_type", "stream"),
        (b'{"model":"qwen","stream":true,"stream_options":[]}', "invalid_type", "stream_options"),
        (b'{"model":"qwen","stream":true,"stream_options":{"include_usage":"x"}}', "invalid_type", "stream_options"),
    ],
)
async def test_a_body_that_is_no_request(rig, body, code, words):
    answer = await rig.post("/v1/chat/completions", body)
    assert answer.status == (404 if code == "model_not_found" else 400), answer.body
    assert answer.error["code"] == code and words in answer.error["message"]
    assert rig.records()[-1]["end"] == ("GR" if code == "model_not_found" else "GA") and not reached(rig)


async def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(rig):
    raw = await ask(rig, HEAD + b"Expect: 100-continue\r\nContent-Length: 300000\r\n\r\n")
    [(status, headers, body)] = answers(raw)
    assert status == 413 and headers["connection"] == "close" and json.loads(body)["error"]["code"] == "request_too_large"
    assert b"100 Continue" not in raw


async def test_who_sends_a_large_body_all_the_same_can_read_the_refusal(rig):
    raw = await conversation(rig, HEAD + b"Content-Length: 30000000\r\n\r\n", *[b" " * 1_000_000] * 30)
    assert answers(raw)[0][0] == 413


async def test_both_sides_of_the_limit(rig):
    filler = 256 * 1024 - len(b'{"model":"nope","x":""}')
    for extra, status in ((0, 404), (1, 413)):
        body = b'{"model":"nope","x":"%b"}' % (b"x" * (filler + extra))
        assert (await rig.post("/v1/chat/completions", body)).status == status
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[i : i + 9999] for i in range(0, len(body), 9999))) + b"0\r\n\r\n"
        raw = await ask(rig, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
        assert answers(raw)[0][0] == status, raw


async def test_continue_is_said_only_after_key_and_size(rig):
    bad = HEAD.replace(KEY.encode(), b"wrong")
    raw = await ask(rig, bad + b"Expect: 100-continue\r\nContent-Length: 60\r\n\r\n")
    [(status, headers, _)] = answers(raw)
    assert status == 401 and headers["connection"] == "close"
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(HEAD + b"Expect: 100-Continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await asyncio.wait_for(reader.readline(), 2)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_body_that_stalls_or_dribbles_is_given_up(rig):
    started = time.monotonic()
    stalls = conversation(rig, HEAD + b"Content-Length: 60\r\n\r\n" + BODY[:30])
    dribbles = conversation(rig, HEAD + b"Content-Length: 60\r\n\r\n", *[part for _ in range(8) for part in (b" ", 0.15)])
    for raw in await asyncio.gather(stalls, dribbles):
        [(status, headers, body)] = answers(raw)
        assert status == 408 and headers["connection"] == "close" and json.loads(body)["error"]["code"] == "request_timeout"
    assert 0.6 < time.monotonic() - started < 8


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)])
async def test_a_compressed_body_is_read_and_its_size_counts_unpacked(rig, encoding, pack):
    answer = await rig.post("/v1/chat/completions", pack(BODY), headers={"Content-Encoding": encoding})
    assert answer.status == 200, answer.body
    assert "content-encoding" not in rig.engines["a"].last.headers
    bomb = pack(b" " * 300_000)
    assert len(bomb) < 2000
    answer = await rig.post("/v1/chat/completions", bomb, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


async def test_a_great_bomb_takes_no_memory(rig):
    pid = rig.pid_of("worker-0")
    before = resident(pid)
    bomb = gzip.compress(gzip.compress(b"\0" * 200_000_000, 9), 0)  # 200 kB that unpack to 200 MB, in one layer of two
    big = gzip.compress(b" " * 200_000_000, 9)
    assert len(big) < 256 * 1024
    answer = await rig.post("/v1/chat/completions", big, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413
    assert resident(pid) - before < 40_000_000
    answer = await rig.post("/v1/chat/completions", bomb, headers={"Content-Encoding": "gzip, gzip"})
    assert answer.status in (400, 413, 415)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"not gzip at all"), ("gzip", gzip.compress(BODY)[:-12]), ("deflate", b"\xff\xff"), ("deflate", zlib.compress(BODY)[:-2])],
    ids=["no gzip", "torn gzip", "no deflate", "torn deflate"],
)
async def test_a_body_that_cannot_be_unpacked(rig, encoding, body):
    raw = await ask(rig, post(body, f"Content-Encoding: {encoding}"))
    [(status, _, said)] = answers(raw)
    assert status == 400 and json.loads(said)["error"]["code"] in ("bad_request", "invalid_json")
    assert not reached(rig)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "Br"])
async def test_a_body_packed_in_a_way_that_is_not_understood(rig, encoding):
    raw = await ask(rig, post(BODY, f"Content-Encoding: {encoding}") + SECOND)
    [(status, headers, said)] = answers(raw)
    assert status == 415 and headers["accept-encoding"] == "gzip, deflate" and headers["connection"] == "close"
    error = json.loads(said)["error"]
    assert (error["code"], error["type"]) == ("unsupported_media_type", "invalid_request_error")
    assert rig.records()[-1]["end"] == "GA" and not reached(rig)
    assert (await rig.post("/v1/chat/completions", BODY, headers={"Content-Encoding": "identity"})).status == 200
    rig.engines["a"].requests.clear()


# -- heads ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Long: " + "x" * 5000],
        [f"X-{n}: {'y' * 300}" for n in range(60)],
        [f"X-{n}: y" for n in range(300)],
        ["X-" + "n" * 5000 + ": 1"],
        [f"X-{n}: {'y' * 900}" for n in range(5)],
    ],
    ids=["one long value", "long together", "many", "one long name", "few together"],
)
async def test_a_head_that_is_too_large(rig, lines):
    raw = await conversation(rig, post(BODY, *lines), 0.05, b"more" * 50_000)
    [(status, headers, body)] = answers(raw)
    assert status == 431 and headers["connection"] == "close" and json.loads(body)["error"]["code"] == "header_too_large"
    record = rig.records()[-1]
    assert (record["status"], record["end"], record["error"]) == (431, "GA", "header_too_large")


async def test_a_target_that_is_too_long(rig):
    raw = await conversation(rig, b"GET /" + b"a" * 6000 + b" HTTP/1.1\r\nHost: gw\r\n\r\n")
    assert answers(raw)[0][0] == 431


SMUGGLING = {
    "length and chunked": b"Content-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 60\r\nContent-Length: 61\r\n\r\n",
    "two equal lengths": b"Content-Length: 60\r\nContent-Length: 60\r\n\r\n",
    "length list": b"Content-Length: 60, 60\r\n\r\n",
    "signed length": b"Content-Length: +60\r\n\r\n",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "hex length": b"Content-Length: 0x3c\r\n\r\n",
    "length with a space": b"Content-Length: 6 0\r\n\r\n",
    "huge length": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "unicode digits": "Content-Length: ６０\r\n\r\n".encode(),
    "space before the colon": b"Content-Length : 60\r\n\r\n",
    "tab before the colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "two codings lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "folded header": b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "folded coding": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"Content-Length: 0\nX: y\n\n",
    "bare CR in a value": b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a value": b"X-A: b\0c\r\n\r\n",
    "NUL in a name": b"X\0A: b\r\n\r\n",
    "empty name": b": b\r\n\r\n",
    "no colon": b"nonsense\r\n\r\n",
    "chunk size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "chunk size 0x": b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size too large": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "chunk lines by LF": b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "chunk size with a space": b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    "chunk extension with LF": b"Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "packed and chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "packed and chunked, two lines": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": b"Host: other\r\nContent-Length: 0\r\n\r\n",
}
WHOLE_HEADS = {
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0 by the look of 1.1": post(head=HEAD.replace(b"HTTP/1.1", b"HTTP/2.0")),
    "HTTP/1.2": b"GET /v1/models HTTP/1.2\r\nHost: gw\r\n\r\n",
    "lower case method": b"post /v1/models HTTP/1.1\r\nHost: gw\r\n\r\n",
    "space in the target": b"GET /v1/ models HTTP/1.1\r\nHost: gw\r\n\r\n",
    "space before a header": b"GET /v1/models HTTP/1.1\r\n Host: gw\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "chunked in HTTP/1.0": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
SECOND = b"GET /v1/models HTTP/1.1\r\nHost: gw\r\nX-Smuggled: yes\r\n\r\n"


@pytest.mark.parametrize(
    "shape", [HEAD + lines for lines in SMUGGLING.values()] + list(WHOLE_HEADS.values()), ids=[*SMUGGLING, *WHOLE_HEADS]
)
async def test_what_two_servers_could_read_differently_is_refused(rig, shape):
    """One 400, then the connection closes; what follows is never taken for a second request, and no engine sees anything."""
    raw = await conversation(rig, shape, SECOND, within=4)
    [(status, headers, body)] = answers(raw)
    assert status == 400, raw
    assert headers["connection"] == "close" and set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert not reached(rig)


async def test_http_2_is_refused_by_its_name(rig):
    [(status, headers, body)] = answers(await conversation(rig, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", within=4))
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body)["error"]["message"] == "This is not a valid HTTP/1.1 request (HTTP/2 is not spoken here)."


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"Content-Length: 60\r\nContent-Length: 61\r\n\r\n", "Duplicate Content-Length"),
        (b"Content-Length: sk-secret\r\n\r\n", "Invalid character in Content-Length"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "Content-Length can't be present with Transfer-Encoding"),
        (b"X-A: sk-secret\0\r\n\r\n", "Invalid header value char"),
        (b"sk-secret\r\n\r\n", "Invalid header token"),
    ],
)
async def test_what_is_wrong_with_a_head_is_said_without_its_bytes(rig, lines, why):
    [(status, _, body)] = answers(await conversation(rig, HEAD + lines, within=4))
    message = json.loads(body)["error"]["message"]
    assert status == 400 and message == f"This is not a valid HTTP/1.1 request ({why})."


@pytest.mark.parametrize("host", ["a b", "a/b", "user@gw", "gw:80x", "[::1", "gw#x", "gw\xe9"])
async def test_a_host_that_cannot_be_one_is_refused(rig, host):
    request = post(head=HEAD.replace(b"Host: gw", f"Host: {host}".encode()))
    [(status, headers, body)] = answers(await conversation(rig, request, within=4))
    assert (status, headers["connection"]) == (400, "close") and "(Invalid Host header)" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("host", ["", "gw:", "10.0.0.1:8000", "[fe80::1%25eth0]:80", "my_host.corp", "a,b"])
async def test_any_other_host_is_served(rig, host):
    request = post(head=HEAD.replace(b"Host: gw", f"Host: {host}".encode()))
    found = answers(await rig.raw(request * 2, within=1))
    assert [status for status, _, _ in found] == [200, 200]


@pytest.mark.parametrize(
    "lines",
    [
        b"X-Long: " + b"x" * 5000,
        b"X-" + b"n" * 5000 + b": 1",
        b"\r\n".join([b"X-A: " + b"y" * 900] * 5),
        b"no colon",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Host: a b",
        b"Content-Encoding: br\r\nContent-Length: 3",
    ],
    ids=["one long value", "one long name", "few together", "no colon", "two lengths", "host", "packed"],
)
@pytest.mark.parametrize("again", [False, True])
async def test_a_browser_can_read_the_refusal_of_a_head_and_the_caller_knows_its_id(rig, lines, again):
    """CORS headers and the id, by what was read of the head. again: behind another request on the same connection."""
    first = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    bad = f"POST / HTTP/1.1\r\nx-request-id: mine-1\r\norigin: {ORIGIN}\r\n".encode() + lines + b"\r\n\r\n"
    before: list[bytes | float] = [first, 0.3] if again else []
    raw = await conversation(rig, *before, bad, within=4)
    status, headers, _ = answers(raw)[-1]
    assert status in (400, 415, 431) and headers["x-request-id"] == "mine-1"
    assert headers["access-control-allow-origin"] == ORIGIN
    record = rig.records()[-1]
    assert (record["trace"], record["status"]) == ("mine-1", status)


@pytest.mark.parametrize(
    "bad",
    [
        b"POST / HTTP/1.1\r\nX-Request-Id: bad id\r\nOrigin: https://evil.example\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nno colon\r\n\r\nX-Request-Id: mine-1\r\nOrigin: %b\r\n\r\n" % ORIGIN.encode(),
        b"\x16\x03\x01X-Request-Id: mine-1",
        b"POST / HTTP/1.1\r\nX-Request-Id : mine-1\r\n Origin: %b\r\n\r\n" % ORIGIN.encode(),
        HEAD + b"Content-Length: 60\r\n\r\n" + b"x" * 60 + b"\r\nX-Request-Id: mine-1\r\n\r\n",
    ],
)
async def test_what_is_no_field_of_a_refused_head_says_nothing(rig, bad):
    for _, headers, _ in answers(await conversation(rig, bad, within=4)):
        assert headers["x-request-id"] not in ("mine-1", "bad id") and "access-control-allow-origin" not in headers


async def test_refused_heads_are_recorded(rig):
    before = len(rig.records())
    await conversation(rig, HEAD + SMUGGLING["two lengths"])
    await eventually(lambda: len(rig.records()) == before + 1)
    assert rig.records()[-1]["end"] == "GA" and rig.records()[-1]["status"] == 400


# -- connections ------------------------------------------------------------------------------------------------------------


async def test_fifty_requests_in_a_row_are_answered_in_their_order(rig):
    pieces = b"".join(
        post(BODY, f"x-request-id: p-{n}") if n % 5 else SECOND.replace(b"X-Smuggled", b"x-request-id: p-%d\r\nX" % n) for n in range(50)
    )
    raw = await ask(rig, pieces, 50)
    found = answers(raw)
    assert [headers["x-request-id"] for _, headers, _ in found] == [f"p-{n}" for n in range(50)]
    assert [status for status, _, _ in found] == [200 if n % 5 else 401 for n in range(50)]


async def test_a_request_behind_a_refused_one_is_answered_too(rig):
    raw = await ask(rig, post(b"{") + post() + post(b"[]"), 3)
    assert [status for status, _, _ in answers(raw)] == [400, 200, 400]


async def test_what_follows_a_bad_head_is_not_looked_at(rig):
    raw = await conversation(rig, post(), 0.3, HEAD + SMUGGLING["two lengths"] + post())
    assert [status for status, _, _ in answers(raw)] == [200, 400]
    assert len(reached(rig)) == 1


async def test_a_refused_body_that_comes_all_the_same_is_swallowed(rig):
    bad = HEAD.replace(KEY.encode(), b"wrong")
    raw = await conversation(rig, bad + b"Content-Length: 60\r\n\r\n", 0.2, BODY, post(BODY, "Connection: close"))
    assert [status for status, _, _ in answers(raw)] == [401, 200]


async def test_callers_of_old(rig):
    for lines in ((), ("Connection: keep-alive",)):
        raw = await conversation(rig, post(BODY, *lines, head=HEAD.replace(b"1.1", b"1.0")))
        [(status, headers, _)] = answers(raw)
        assert status == 200 and headers["connection"] == "close"
    raw = await conversation(rig, post(BODY[:-1] + b',"stream":true}', head=HEAD.replace(b"1.1", b"1.0")))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"chunked" not in head and b"Connection: close" in head
    assert body.endswith(b"data: [DONE]\n\n") and body.startswith(b"data: {")


@pytest.mark.parametrize("wish", ["websocket", "h2c", "TLS/1.0"])
async def test_a_wish_to_upgrade_is_not_granted(rig, wish):
    raw = await conversation(rig, post(BODY, "Connection: Upgrade", f"Upgrade: {wish}") + SECOND, within=4)
    status, headers, _ = answers(raw)[0]
    assert status == 200 and headers["connection"] == "close" and "upgrade" not in headers
    assert len(answers(raw)) == 1 and len(reached(rig)) == 1


async def test_idle_and_unfinished_connections_are_closed(rig):
    async def closed_after(data: bytes) -> float:
        started = time.monotonic()
        await conversation(rig, data)
        return time.monotonic() - started

    for waited in await asyncio.gather(closed_after(b""), closed_after(HEAD[:20]), closed_after(post())):
        assert 1.5 < waited < 4.5


async def test_a_reader_that_takes_nothing_is_let_go(rig):
    rig.engines["a"].script = script()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.port))
        body = {"model": "qwen", "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 20_000, "ignore_eos": True}
        await asyncio.get_running_loop().sock_sendall(sock, post(json.dumps(body).encode(), "x-request-id: slow-1"))
        record = await rig.record(trace="slow-1")
        assert record["end"] == "CD" and record["status"] == 499
        assert [attempt["reason"] for attempt in record["attempts"]] == ["abandoned"]
        await eventually(lambda: rig.engines["a"].last.aborted_at)


async def test_requests_in_a_row_of_a_slow_reader_wait_until_it_has_taken_the_answers(rig):
    """Large answers are not gathered for it: an engine is asked again only when most of what came before has been taken."""
    many, most = 16, 4
    body = json.dumps({"model": "qwen", "input": ["a", "b", "c", "d"], "dimensions": 8192}).encode()
    asked = post(body, head=HEAD.replace(b"chat/completions", b"embeddings"))
    received = bytearray()
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", rig.port))
        await loop.sock_sendall(sock, asked * many)
        await eventually(lambda: reached(rig))
        async with asyncio.timeout(20):
            while received.count(b"HTTP/1.1 200 OK") < many or not complete(bytes(received)):
                piece = await loop.sock_recv(sock, 65_536)
                assert piece, "the gateway closed"
                received += piece
                assert len(reached(rig)) - received.count(b"HTTP/1.1 200 OK") <= most
                await asyncio.sleep(0.002)
    found = answers(bytes(received))
    assert [status for status, _, _ in found] == [200] * many and len(reached(rig)) == many
    assert all(len(json.loads(body)["data"]) == 4 and len(body) > 250_000 for _, _, body in found)


async def test_a_reset_in_the_middle_of_everything_leaves_nothing(rig):
    """Callers that vanish at every point of their request: each is recorded or was never heard, and nothing is left open."""
    pid = rig.pid_of("worker-0")
    whole = post(BODY[:-1] + b',"stream":true}')
    await rig.raw(whole, within=1)

    async def vanish(cut: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.write(whole[:cut])
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.transport.abort()

    before = open_files(pid)
    for cut in [*range(0, len(whole), 11), len(whole)]:
        await vanish(cut)
    await eventually(lambda: open_files(pid) <= before + 2)
    assert "Traceback" not in rig.log() and "fault of ours" not in rig.log()


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# -- aiohttp ----------------------------------------------------------------------------------------------------------------


async def test_the_internals_of_aiohttp_that_we_touch_are_there():
    """accept/caller.py replaces `RequestHandler.start` and reads these; an upgrade of aiohttp that moves one fails here first."""
    for name in (
        "_force_close",
        "_messages",
        "_waiter",
        "_parser",
        "_buffer_paused",
        "_reading_paused",
        "_close",
        "_msg_queue_resume_size",
        "_task_handler",
        "_request_in_progress",
        "_handler_waiter",
        "_next_keepalive_close_time",
        "_keepalive_handle",
        "_keepalive_timeout",
        "_request_count",
        "_paused",
        "_upgraded",
        "_read_bufsize",
        "_max_msg_queue_size",
        "transport",
        "max_field_size",
        "max_line_size",
        "max_headers",
    ):
        assert any(name in getattr(kind, "__slots__", ()) for kind in RequestHandler.__mro__), name
    for name in (
        "_resume_reading_if_drained",
        "_process_keepalive",
        "force_close",
        "_drain_helper",
        "resume_reading",
        "pause_writing",
        "connection_lost",
    ):
        assert callable(getattr(RequestHandler, name)), name
    assert hasattr(RequestHandler, "writing_paused")
