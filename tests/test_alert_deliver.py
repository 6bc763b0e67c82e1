"""Messages and their way out: grouped, bounded, retried, covered. Real HTTP on the loopback, sinks that are dead or hang."""

import asyncio
import contextlib
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from json import loads
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.alert import deliver
from gateway.alert.deliver import WAITING_MOST, Delivery, Waiting
from gateway.alert.message import BYTES_MOST, message
from gateway.alert.sinks import alertmanager, sending, service
from gateway.alert.sinks.sending import covered
from gateway.alert.state import Alert, Notice
from gateway.config.resolved_alerts import Sink
from tests.harness import eventually, free_port

NOW = 1_800_000_000.0


def notice(number: int = 1, what: str = "firing", severity: str = "critical", to: Sequence[str] = ("ops",), **more: Any) -> Notice:
    alert = Alert(
        id=f"a{number}", rule="endpoint_down", kind="endpoint_down", severity=severity, labels={"channel": "gpu", "endpoint": f"http://h:{number}"},
        state="firing", since=NOW, fired=NOW + 60, value=1.0, text="down: connection refused", to=tuple(to), **more,
    )  # fmt: skip
    return Notice(what=what, alert=alert)


class Ears:
    """An HTTP server that hears what sinks are told. status: what it answers; pause: seconds before."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any, dict[str, str]]] = []
        self.status = 200
        self.pause = 0.0
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.heard.append((request.path, await request.json(), dict(request.headers)))
        if self.pause:
            await asyncio.sleep(self.pause)
        return web.Response(status=self.status, text="no: canarycanary")

    def bodies(self, path: str = "/canarycanary") -> list[Any]:
        return [body for where, body, _ in self.heard if where == path]


@pytest_asyncio.fixture
async def ears() -> AsyncIterator[Ears]:
    ears = Ears()
    app = web.Application()
    app.router.add_post("/{tail:.*}", ears.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    ears.port = free_port()
    await web.TCPSite(runner, "127.0.0.1", ears.port).start()
    yield ears
    await runner.cleanup()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "GATHER", 0.05)
    monkeypatch.setattr(deliver, "APART", 0.3)


def hook(ears: Ears, name: str = "ops") -> Sink:
    return Sink(name=name, url=f"json://127.0.0.1:{ears.port}/canarycanary")


@contextlib.asynccontextmanager
async def delivering(*sinks: Sink, firing: Sequence[Alert] = ()) -> AsyncIterator[Delivery]:
    made = Delivery("gw-a", lambda: None, lambda sink: firing)
    made.pauses = (0.05, 0.05)
    made.adopt({sink.name: sink for sink in sinks})
    try:
        yield made
    finally:
        await made.close()


async def test_fifty_endpoints_are_one_message(ears):
    async with delivering(hook(ears)) as delivery:
        delivery.tell([notice(number) for number in range(50)], NOW)
        await eventually(lambda: not delivery.waiting())
        (body,) = ears.bodies()
        assert body["title"] == "[gw-a] FIRING 50: endpoint_down" and body["type"] == "failure"
        assert body["message"].count("\n") == 12 and body["message"].endswith("… and 38 more: gatewayctl alerts list")
        assert delivery.counts["ops", "ok"] == 1


async def test_messages_are_apart_and_what_comes_meanwhile_joins(ears):
    async with delivering(hook(ears)) as delivery:
        delivery.tell([notice(0)], NOW)
        await eventually(lambda: not delivery.waiting())
        for number in range(1, 6):
            delivery.tell([notice(number)], NOW)
            await asyncio.sleep(0.04)
        await eventually(lambda: not delivery.waiting())
        assert ["FIRING 1" in body["title"] for body in ears.bodies()] == [True, False] and "FIRING 5" in ears.bodies()[1]["title"]


async def test_the_log_always_has_a_line_whatever_sinks_there_are(caplog):
    caplog.set_level(logging.INFO)
    async with delivering() as delivery:
        delivery.tell([notice(1), notice(2, severity="info"), notice(3, what="resolved")], NOW)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["ERROR", "INFO", "INFO"] and "FIRING critical endpoint_down channel=gpu endpoint=http://h:1: down" in caplog.text


async def test_a_sink_that_is_down_is_tried_again_with_bounds_and_holds_nobody_up(caplog):
    sink = Sink(name="ops", url=f"json://127.0.0.1:{free_port()}/canarycanary")
    async with delivering(sink) as delivery:
        began = asyncio.get_running_loop().time()
        delivery.tell([notice()], NOW)
        assert asyncio.get_running_loop().time() - began < 1.0
        await eventually(lambda: delivery.counts["ops", "given_up"])
        assert delivery.counts["ops", "failed"] == 3 and delivery.waiting() == []
        assert "given up" in caplog.text and "Connection error" in caplog.text and "canarycanary" not in caplog.text
        assert "Connection error" in str(delivery.told()[0]["trouble"])


async def test_what_comes_while_a_sink_is_away_is_told_when_it_is_back(ears):
    ears.status = 500
    async with delivering(hook(ears)) as delivery:
        delivery.pauses = [0.2] * 20
        delivery.tell([notice(1)], NOW)
        await eventually(lambda: ears.heard)
        delivery.tell([notice(2)], NOW)
        ears.status = 200
        await eventually(lambda: not delivery.waiting())
        assert "FIRING 2" in ears.bodies()[-1]["title"] and delivery.counts["ops", "given_up"] == 0


async def test_one_sink_does_not_wait_for_another(ears):
    dead = Sink(name="dead", url=f"json://127.0.0.1:{free_port()}/x")
    async with delivering(dead, hook(ears)) as delivery:
        delivery.tell([notice(to=["dead", "ops"])], NOW)
        await eventually(lambda: delivery.counts["ops", "ok"])


async def test_a_service_that_hangs_is_left_behind_and_not_asked_twice_at_once(ears, monkeypatch):
    monkeypatch.setattr(service, "PATIENCE", 0.2)
    ears.pause = 1.0
    async with delivering(hook(ears)) as delivery:
        assert await delivery.send_now("ops", notice()) == "no answer within 0 s"
        assert await delivery.send_now("ops", notice()) == "the attempt before still hangs"
        await eventually(lambda: not service._hanging["ops"].is_alive())


@pytest.mark.parametrize("way", ["json", "xml", "slack", "mailto"])
async def test_a_service_that_accepts_and_never_answers_is_a_timeout(way, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and nobody ever reads
        port = silent.getsockname()[1]
        monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"http://127.0.0.1:{port}")
        url = {
            "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIcanarycanarycanarycana/?",
            "mailto": f"mailto://127.0.0.1:{port}?from=gateway@example.com&to=ops@example.com&format=text&",
        }.get(way, f"{way}://127.0.0.1:{port}/canarycanary?")
        async with delivering(Sink(name="ops", url=url + "rto=0.3&cto=0.3")) as delivery:
            delivery.tell([notice()], NOW)
            await eventually(lambda: delivery.counts["ops", "given_up"])
            assert re.fullmatch(r"no answer within 0\.\d+ s", str(delivery.told()[0]["trouble"])), delivery.told()
            assert delivery.counts["ops", "failed"] == 3
    ours = [record.getMessage() for record in caplog.records if record.name == "gateway.alerts"]
    assert sum("no answer within 0." in line for line in ours) == 3 and not any("onnection error" in line for line in ours)


async def test_only_so_many_wait():
    async with delivering(Sink(name="ops", url="json://127.0.0.1:9/x")) as delivery:
        delivery.tell([notice(number) for number in range(WAITING_MOST + 10)], NOW)
        waiting = delivery.waiting()
        assert len(waiting) == WAITING_MOST and waiting[0].notice.alert.id == "a10"


async def test_what_waited_at_a_restart_is_told_afterwards_if_its_sink_is_still_there(ears):
    async with delivering() as delivery:
        delivery.adopt({"ops": hook(ears)}, [Waiting("ops", notice(1), NOW), Waiting("gone", notice(2), NOW)])
        await eventually(lambda: ears.bodies())
        assert "http://h:1" in ears.bodies()[0]["message"]


async def test_a_changed_sink_takes_over_what_waits(ears):
    async with delivering(Sink(name="ops", url=f"json://127.0.0.1:{free_port()}/x")) as delivery:
        delivery.tell([notice()], NOW)
        delivery.adopt({"ops": hook(ears)})
        await eventually(lambda: ears.bodies())
        delivery.adopt({})
        assert delivery.told() == []


async def test_an_attempt_that_is_cancelled_as_its_answer_comes_is_cancelled(ears, monkeypatch):
    """`asyncio.wait_for` of Python 3.11 would return the answer: whoever closes the delivery would wait for ever."""
    let = threading.Event()
    monkeypatch.setattr(service, "notify", lambda sink, text: "" if let.wait(10) else "never")
    attempt = asyncio.create_task(service.send("gw-a", hook(ears, "last"), [notice()], NOW))
    await eventually(lambda: "last" in service._hanging)
    let.set()
    service._hanging["last"].join(10)
    await asyncio.sleep(0)  # the answer is there, and nobody has woken to take it
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


# -- Alertmanager ----------------------------------------------------------------------------------------------------------


async def test_alertmanager_gets_each_alert_by_itself(ears):
    sink = Sink(name="am", alertmanager=f"http://127.0.0.1:{ears.port}/am/", credential="t0ken")
    assert await alertmanager.send("gw-a", sink, [notice(1), notice(2, what="resolved", resolved=NOW + 120)], NOW) == ""
    path, body, headers = ears.heard[0]
    assert path == "/am/api/v2/alerts" and headers["Authorization"] == "Bearer t0ken"
    assert body[0] == {
        "labels": {
            "alertname": "endpoint_down", "rule": "endpoint_down", "severity": "critical", "node": "gw-a", "channel": "gpu",
            "endpoint": "http://h:1",
        },
        "annotations": {"summary": "down: connection refused", "value": "1"},
        "startsAt": "2027-01-15T08:01:00.000Z",
        "endsAt": "2027-01-15T08:05:00.000Z",
    }  # fmt: skip
    assert body[1]["endsAt"] == "2027-01-15T08:02:00.000Z"


async def test_alertmanager_is_told_again_of_what_fires(ears, monkeypatch):
    monkeypatch.setattr(deliver, "EVERY", 0.05)
    sink = Sink(name="am", alertmanager=f"http://127.0.0.1:{ears.port}")
    async with delivering(sink, firing=[notice().alert]):
        await eventually(lambda: len(ears.heard) >= 3)
    bodies = ears.bodies("/api/v2/alerts")
    assert len({(str(body[0]["labels"]), body[0]["startsAt"]) for body in bodies}) == 1


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_what_alertmanager_refuses_is_said(ears, status):
    ears.status = status
    sink = Sink(name="am", alertmanager=f"http://127.0.0.1:{ears.port}", credential="canarycanary")
    said = await alertmanager.send("gw-a", sink, [notice()], NOW)
    assert said == f"status {status}: no: ***" and len(ears.heard) == 1


async def test_alertmanager_that_is_away():
    sink = Sink(name="am", alertmanager=f"http://127.0.0.1:{free_port()}")
    assert "Cannot connect" in await alertmanager.send("gw-a", sink, [notice()], NOW)


# -- words -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIcanary", "bad token TIcanary at slack://T1JJ3T3L2/A1BRTD4JD/TIcanary", "bad token *** at ***"),
        ("json://h.example:80/canary?x=canary2", "to h.example: /canary canary2", "to h.example: /*** ***"),
        ("json://user:canary@h.example/p", "user canary h.example", "*** *** h.example"),
        ("dingtalk://SECcanary@tokcanary", "tokcanary SECcanary", "*** ***"),
    ],
)
def test_what_a_service_says_is_covered(url, said, shown):
    assert covered(said, Sink(name="x", url=url)) == shown


def test_what_a_service_says_is_short_and_one_line():
    assert len(covered("x\ny" * 1000, Sink(name="x"))) == sending.SAID_MOST and "\n" not in covered("x\ny", Sink(name="x"))


@pytest.mark.parametrize(
    ("notices", "title", "tone"),
    [
        ([notice()], "[n] FIRING 1: endpoint_down", "failure"),
        ([notice(severity="warning")], "[n] FIRING 1: endpoint_down", "warning"),
        ([notice(severity="info")], "[n] FIRING 1: endpoint_down", "info"),
        ([notice(what="resolved", resolved=NOW + 120)], "[n] RESOLVED 1: endpoint_down", "success"),
        ([notice(1), notice(2, what="resolved")], "[n] FIRING 1, RESOLVED 1: endpoint_down", "failure"),
        ([notice(1), notice(1, what="resolved")], "[n] RESOLVED 1: endpoint_down", "success"),
        ([notice(what="test")], "[n] TEST 1: endpoint_down", "failure"),
    ],
)
def test_titles(notices, title, tone):
    made = message("n", notices)
    assert (made.title, made.tone) == (title, tone)


def test_a_message_fits_every_service():
    long = [Notice(what="firing", alert=Alert(id=str(n), rule="r" * 60, kind="k", severity="info", labels={"a": "é" * 200}, state="firing",
                                              since=NOW, text="ü\n" * 5000)) for n in range(9)]  # fmt: skip
    body = message("n", long).body
    assert len(body.encode()) <= BYTES_MOST + 60 and body.endswith("more: gatewayctl alerts list")


def test_lines():
    body = message("n", [notice(1), notice(2, what="resolved", resolved=NOW + 60 + 300)]).body
    assert body == (
        "FIRING critical endpoint_down channel=gpu endpoint=http://h:1: down: connection refused (since 2027-01-15 08:00 UTC)\n"
        "RESOLVED critical endpoint_down channel=gpu endpoint=http://h:2: down: connection refused (after 5 min)"
    )


# -- services --------------------------------------------------------------------------------------------------------------


class Post:
    """In place of requests' sessions: what was sent, and an answer that each service takes for a yes."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def request(self, method: str, url: str, data: Any = None, json: Any = None, **more: Any) -> Any:
        self.sent.append((url, str(data or json)))
        body = b"ok" if "slack" in url else b'{"errcode": 0, "code": 0, "StatusCode": 0, "ok": true}'
        return SimpleNamespace(status_code=200, content=body, text=body.decode(), headers={}, json=lambda: loads(body))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("dingtalk://SECabcdef0123456789@0123456789abcdef0123456789abcdef", "oapi.dingtalk.com"),
        ("feishu://0123456789abcdef0123456789abcdef", "open.feishu.cn"),
        ("wecombot://0123456789abcdef0123456789abcdef", "qyapi.weixin.qq.com"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts", "hooks.slack.com"),
    ],
)
def test_chat_services_get_the_whole_message(url, host, monkeypatch):
    post = Post()
    monkeypatch.setattr("requests.sessions.Session.request", lambda session, *given, **more: post.request(*given, **more))
    assert service.notify(Sink(name="ops", url=url), message("gw-a", [notice(1), notice(2, what="resolved", resolved=NOW)])) == ""
    ((where, sent),) = post.sent
    assert where.startswith(f"https://{host}/")
    for said in ("[gw-a] FIRING 1, RESOLVED 1: endpoint_down", "connection refused", "RESOLVED critical endpoint_down"):
        assert said in sent
    assert "github" not in sent, "no pictures from elsewhere"


async def test_mail_arrives():
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        data = False
        while line := await reader.readline():
            heard.append(line.decode())
            word = line[:4].upper().strip()
            if data:
                if line == b".\r\n":
                    data = False
                    writer.write(b"250 ok\r\n")
            elif word == b"DATA":
                data = True
                writer.write(b"354 go on\r\n")
            else:
                writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sink = Sink(name="mail", url=f"mailto://127.0.0.1:{port}?from=gateway@example.com&to=ops@example.com&format=text")
    async with delivering(sink) as delivery:
        assert await delivery.send_now("mail", notice()) == ""
    server.close()
    text = "".join(heard)
    assert "RCPT TO:<ops@example.com>" in text.upper().replace("OPS@EXAMPLE.COM", "ops@example.com") and "Subject:" in text
