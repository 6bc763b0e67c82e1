"""The admin API, version 1: paths, answers, errors. One JSON shape for all errors; each call that changes something is logged with who."""

import asyncio
import contextlib
import dataclasses
import logging
import os
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.compare import pending
from gateway.admin.desk import Desk, Failed, Misasked, NoSuch, NotReady
from gateway.admin.ledger_routes import LedgerCalls
from gateway.admin.peer import Peer, may_ask_at, peer_of
from gateway.admin.redact import running
from gateway.admin.report_routes import ReportCalls
from gateway.admin.said import (
    Wrong,
    body_of,
    count_in,
    number_in,
    said_of_act,
    said_of_audit,
    said_of_drain,
    said_of_endpoint,
    said_of_freeze,
    said_of_silence,
    said_of_test,
    said_of_upgrade,
)
from gateway.admin.truth_routes import TruthCalls
from gateway.errors import ConfigError

log = logging.getLogger("gateway.admin")

API: Final = 1
SPEAKS: Final = f"this gateway speaks admin API v{API}"
EXPLAINED_MOST: Final = 64 * 1024 * 1024
"""Bytes: a request that is to be explained may be as long as one that is sent."""
STILL_THERE_EVERY: Final = 1.0
"""Seconds between two looks whether the reader of a stream is still there."""

PEER: Final = web.RequestKey("peer", Peer)
STREAMS: Final[web.AppKey[set[asyncio.Task[None]]]] = web.AppKey("streams")


def application(desk: Desk, socket_path: Path) -> web.Application:
    """The whole API before one desk."""
    app = web.Application(middlewares=[_errors, _guarded(socket_path)], client_max_size=EXPLAINED_MOST)
    app[STREAMS] = set()
    app.on_shutdown.append(_end_streams)
    calls = Calls(desk)
    app.add_routes(
        [
            web.get("/v1/status", calls.status),
            web.post("/v1/reload", calls.reload),
            web.post("/v1/acts", calls.act),
            web.post("/v1/upgrade", calls.upgrade),
            web.get("/v1/freezes", calls.freezes),
            web.post("/v1/freeze", calls.freeze),
            web.post("/v1/unfreeze", calls.unfreeze),
            web.get("/v1/audit", calls.audit),
            web.get("/v1/alerts", calls.alerts),
            web.post("/v1/alerts/silence", calls.silence),
            web.post("/v1/alerts/unsilence", calls.unsilence),
            web.post("/v1/alerts/test", calls.test_alert),
            web.get("/v1/config/history", calls.history),
            web.post("/v1/config/rollback", calls.rollback),
            web.get("/v1/config/running", calls.running),
            web.get("/v1/config/diff", calls.diff),
            web.get("/v1/channels", calls.channels),
            web.get("/v1/channels/{name}", calls.channel),
            web.post("/v1/channels/{name}/probe", calls.probe),
            web.post("/v1/channels/{name}/drain", calls.drain),
            web.post("/v1/channels/{name}/undrain", calls.undrain),
            web.get("/v1/models", calls.models),
            web.get("/v1/routes", calls.routes),
            web.get("/v1/routes/{name:.+}", calls.route),
            web.post("/v1/explain", calls.explain),
            web.get("/v1/keys/{id}", calls.key),
            web.get("/v1/limits", calls.limits),
            web.get("/v1/limits/counters", calls.counters),
            web.get("/v1/health", calls.health),
            web.get("/v1/requests", calls.requests),
            web.get("/v1/requests/follow", calls.follow),
            web.get("/v1/requests/{id}", calls.request),
            *LedgerCalls(desk.books, _answer, PEER).routes(),
            *ReportCalls(desk.reports, _answer, PEER).routes(),
            *TruthCalls(desk.truth, _answer).routes(),
        ]
    )
    return app


class Calls:
    """One method per route."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def status(self, request: web.Request) -> web.Response:
        return _answer(self._desk.status())

    async def reload(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        act = number_in(body, "act", "the number of an announced act, or null")
        return _answer(await self._desk.reload(act, undone=body.get("undone") is True, by=str(request[PEER])))

    async def act(self, request: web.Request) -> web.Response:
        return _answer({"act": self._desk.announce(*said_of_act(await body_of(request)), by=str(request[PEER]))})

    async def upgrade(self, request: web.Request) -> web.Response:
        return _answer({"upgrade": await self._desk.upgrade(said_of_upgrade(await body_of(request)), by=str(request[PEER]))})

    async def freezes(self, request: web.Request) -> web.Response:
        return _answer({"freezes": self._desk.freezes()})

    async def freeze(self, request: web.Request) -> web.Response:
        kind, name, reason = said_of_freeze(await body_of(request))
        return _answer({"freeze": await self._desk.freeze(kind, name, reason, by=str(request[PEER]))})

    async def unfreeze(self, request: web.Request) -> web.Response:
        kind, name, _ = said_of_freeze(await body_of(request))
        return _answer({"freeze": await self._desk.unfreeze(kind, name, by=str(request[PEER]))})

    async def audit(self, request: web.Request) -> web.Response:
        last, since = said_of_audit(request.query)
        return _answer({"audit": await self._desk.audit(last=last, since=since, by=request.query.get("by", ""))})

    async def alerts(self, request: web.Request) -> web.Response:
        return _answer(self._desk.alerts())

    async def silence(self, request: web.Request) -> web.Response:
        labels, seconds, comment = said_of_silence(await body_of(request))
        return _answer({"silence": await self._desk.silence(labels, seconds, comment, by=str(request[PEER]))})

    async def unsilence(self, request: web.Request) -> web.Response:
        id = (await body_of(request)).get("id")
        return _answer({"silence": await self._desk.unsilence(str(id or ""), by=str(request[PEER]))})

    async def test_alert(self, request: web.Request) -> web.Response:
        sink, kind = said_of_test(await body_of(request))
        return _answer(await self._desk.test_alert(sink, kind, by=str(request[PEER])))

    async def history(self, request: web.Request) -> web.Response:
        rev, why = await asyncio.to_thread(self._desk.back)
        return _answer({"revisions": self._desk.history(), "back": {"rev": rev, "why": why}, "damaged": self._desk.damaged()})

    async def rollback(self, request: web.Request) -> web.Response:
        rev = number_in(await body_of(request), "rev", "a revision's number, or null for the one that history calls `back`")
        return _answer(await self._desk.rollback(rev, by=str(request[PEER])))

    async def running(self, request: web.Request) -> web.Response:
        return _answer(running(*self._desk.running()))

    async def diff(self, request: web.Request) -> web.Response:
        """Reading a large configuration takes a second, so a thread does it."""
        path = self._desk.status()["config"]["path"]
        changes = await asyncio.to_thread(pending, path, self._desk.running())
        return _answer({"path": path, "changes": changes})

    async def channels(self, request: web.Request) -> web.Response:
        return _answer({"channels": self._desk.channels()})

    async def probe(self, request: web.Request) -> web.Response:
        return _answer(await self._desk.probe(request.match_info["name"], by=str(request[PEER])))

    async def channel(self, request: web.Request) -> web.Response:
        return _answer({"channel": self._desk.channel(request.match_info["name"])})

    async def drain(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        name, endpoint = request.match_info["name"], said_of_endpoint(body)
        return _answer({"channel": await self._desk.drain(name, endpoint, said_of_drain(body), by=str(request[PEER]))})

    async def undrain(self, request: web.Request) -> web.Response:
        endpoint = said_of_endpoint(await body_of(request))
        return _answer({"channel": await self._desk.undrain(request.match_info["name"], endpoint, by=str(request[PEER]))})

    async def models(self, request: web.Request) -> web.Response:
        return _answer({"models": self._desk.models()})

    async def routes(self, request: web.Request) -> web.Response:
        return _answer({"routes": self._desk.routes()})

    async def route(self, request: web.Request) -> web.Response:
        return _answer({"route": self._desk.route(request.match_info["name"])})

    async def explain(self, request: web.Request) -> web.Response:
        return _answer({"explained": await self._desk.explain(await body_of(request, EXPLAINED_MOST))})

    async def key(self, request: web.Request) -> web.Response:
        return _answer({"key": self._desk.key(request.match_info["id"])})

    async def limits(self, request: web.Request) -> web.Response:
        return _answer({"limits": self._desk.limits()})

    async def counters(self, request: web.Request) -> web.Response:
        wanted = {word: request.query.get(word, "") for word in ("key", "tenant", "model")}
        return _answer({"counters": await self._desk.counters(**wanted)})

    async def health(self, request: web.Request) -> web.Response:
        return _answer(self._desk.health())

    async def requests(self, request: web.Request) -> web.Response:
        return _answer({"requests": await self._desk.records(limit=count_in(request.query, "limit"), after=request.query.get("after"))})

    async def request(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        found = await self._desk.record(id)
        if found is None:
            raise Wrong(404, "no_such_request", f"no request {id!r} is known: the id may be wrong, or the record no longer at hand")
        return _answer({"request": found})

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """NDJSON, one record a line, until the reader leaves or the gateway stops."""
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await stream.prepare(request)
        pump = asyncio.create_task(self._pump(stream))
        await asyncio.sleep(0)  # it looks now; what is settled from here on will come
        await stream.write(b"\n")
        streams = request.app[STREAMS]
        streams.add(pump)
        try:
            while not pump.done() and request.transport is not None:
                await asyncio.wait({pump}, timeout=STILL_THERE_EVERY)
        finally:
            streams.discard(pump)
            pump.cancel()
            await asyncio.wait({pump})
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            pump.result()
        return stream

    async def _pump(self, stream: web.StreamResponse) -> None:
        records = self._desk.follow()
        try:
            async for record in records:
                await stream.write(_encode(record) + b"\n")
        finally:
            close = getattr(records, "aclose", None)
            if close is not None:
                await close()


def _guarded(socket_path: Path) -> Middleware:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who is it, may they, and, when something is about to change, a line in the log."""
        connection = request.get_extra_info("socket")
        if connection is None:
            raise Wrong(403, "forbidden", "the caller is gone")
        peer = peer_of(connection)
        if not may_ask_at(peer, socket_path):
            log.warning("%s may not use the admin socket", peer)
            group = os.stat(socket_path).st_gid
            raise Wrong(403, "forbidden", f"{peer} may not: only root, the gateway's user and members of group {group} may")
        request[PEER] = peer
        if request.method != "GET":
            log.info("%s %s by %s", request.method, request.path, peer)
        return await handler(request)

    return guarded


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Each failure becomes {"api", "error": {"code", "message"}}, here and nowhere else."""
    try:
        return await handler(request)
    except Wrong as wrong:
        return _refusal(wrong)
    except NoSuch as no:
        return _refusal(Wrong(404, "no_such_thing", str(no)))
    except Misasked as no:
        return _refusal(Wrong(400, "bad_request", str(no)))
    except NotReady as no:
        return _refusal(Wrong(503, "not_ready", str(no)))
    except Failed as no:
        return _refusal(Wrong(500, "failed", str(no)))
    except ConfigError as error:
        return _refusal(Wrong(422, "bad_configuration", str(error), mistakes=error.mistakes))
    except web.HTTPNotFound:
        return _refusal(Wrong(404, "no_such_path", f"{request.path} is not known here: {SPEAKS}, and gatewayctl may be older or newer"))
    except web.HTTPMethodNotAllowed as no:
        methods = ", ".join(sorted(no.allowed_methods - {"HEAD"}))
        return _refusal(Wrong(405, "wrong_method", f"{request.path} wants {methods}, not {request.method}"))
    except web.HTTPException as error:
        return _refusal(Wrong(error.status, "bad_request", error.reason))
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return _refusal(Wrong(500, "bug", f"{type(error).__name__} inside the gateway; its log says more"))


async def _end_streams(app: web.Application) -> None:
    streams = app[STREAMS]
    for stream in streams:
        stream.cancel()
    if streams:
        await asyncio.wait(set(streams))


def _answer(data: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode({"api": API, **data}), content_type="application/json")


def _refusal(wrong: Wrong) -> web.Response:
    return _answer({"error": {"code": wrong.code, "message": wrong.message, **wrong.more}}, wrong.status)


def _encode(data: Any) -> bytes:
    return msgspec.json.encode(data, enc_hook=_otherwise)


def _otherwise(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
