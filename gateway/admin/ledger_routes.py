"""The ledger's part of the admin API. Its acts may take minutes: callers wait."""

import time
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from aiohttp import web

from gateway.admin.desk import LedgerDesk
from gateway.admin.pieces import in_pieces
from gateway.admin.said import Wrong, body_of

FORMATS: Final = {"csv": "text/csv", "json": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


class LedgerCalls:
    """One method per route."""

    def __init__(self, desk: LedgerDesk, answer: Any, peer: web.RequestKey[Any]) -> None:
        """answer: makes a response of a JSON object. peer: where a request has its caller."""
        self._desk, self._answer, self._peer = desk, answer, peer

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/ledger", self.status),
            web.post("/v1/ledger/verify", self.verify),
            web.post("/v1/ledger/compact", self.compact),
            web.post("/v1/ledger/archive", self.archive),
            web.post("/v1/ledger/rebuild", self.rebuild),
            web.get("/v1/ledger/export", self.export),
            web.get("/v1/ledger/copy", self.copy),
        ]

    async def status(self, request: web.Request) -> web.Response:
        return cast(web.Response, self._answer({"ledger": self._desk.status()}))

    async def verify(self, request: web.Request) -> web.Response:
        return cast(web.Response, self._answer({"verified": await self._desk.verify()}))

    async def compact(self, request: web.Request) -> web.Response:
        return cast(web.Response, self._answer({"ledger": await self._desk.compact(by=str(request[self._peer]))}))

    async def archive(self, request: web.Request) -> web.Response:
        return cast(web.Response, self._answer({"ledger": await self._desk.archive(by=str(request[self._peer]))}))

    async def rebuild(self, request: web.Request) -> web.Response:
        force = (await body_of(request)).get("force", False)
        if not isinstance(force, bool):
            raise Wrong(400, "bad_request", '"force" must be true or false')
        return cast(web.Response, self._answer({"ledger": await self._desk.rebuild(force, by=str(request[self._peer]))}))

    async def export(self, request: web.Request) -> web.StreamResponse:
        form, since, until = said_of_export(request.query)
        return await in_pieces(request, FORMATS[form], await self._desk.export(form, since, until))

    async def copy(self, request: web.Request) -> web.StreamResponse:
        return await in_pieces(request, "application/octet-stream", await self._desk.copy())


def said_of_export(query: Mapping[str, str]) -> tuple[Literal["csv", "json", "parquet"], float, float]:
    """Format, since, until (Unix seconds)."""
    form = query.get("format", "csv")
    if form not in FORMATS:
        raise Wrong(400, "bad_request", f'"format" must be one of {", ".join(FORMATS)}')
    try:
        since, until = float(query.get("since", "0")), float(query.get("until", str(time.time() + 86400)))
    except ValueError:
        raise Wrong(400, "bad_request", '"since" and "until" must be times in seconds since 1970') from None
    if not 0 <= since <= until <= 253_402_300_799:
        raise Wrong(400, "bad_request", '"since" must not be after "until"')
    return cast(Literal["csv", "json", "parquet"], form), since, until
