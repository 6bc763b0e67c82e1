"""The reports' part of the admin API: questions come as JSON, and so do answers; a file comes in pieces."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

import msgspec
from aiohttp import web

from gateway.admin.desk import ReportDesk
from gateway.admin.ledger_routes import FORMATS
from gateway.admin.pieces import in_pieces
from gateway.admin.said import Wrong, body_of

ASKED_MOST = 256 * 1024
"""Bytes of a question."""


class ReportCalls:
    """One method per route."""

    def __init__(self, desk: ReportDesk, answer: Any, peer: web.RequestKey[Any]) -> None:
        """answer: makes a response of a JSON object. peer: where a request has its caller."""
        self._desk, self._answer, self._peer = desk, answer, peer

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/report", self._asking(self._desk.report)),
            web.get("/v1/report/file", self.file),
            web.post("/v1/cost/capacity", self._asking(self._desk.capacity)),
            web.get("/v1/cost/budgets", self.budgets),
            web.post("/v1/cost/forecast", self._asking(self._desk.forecast)),
            web.post("/v1/cost/reprice", self.reprice),
        ]

    def _asking(self, ask: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def asking(request: web.Request) -> web.Response:
            return cast(web.Response, self._answer(await ask(await body_of(request, ASKED_MOST))))

        return asking

    async def budgets(self, request: web.Request) -> web.Response:
        return cast(web.Response, self._answer(await self._desk.budgets()))

    async def reprice(self, request: web.Request) -> web.Response:
        return cast(web.Response, self._answer(await self._desk.reprice(await body_of(request), by=str(request[self._peer]))))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """question: JSON, in the query."""
        form = request.query.get("format", "csv")
        if form not in FORMATS:
            raise Wrong(400, "bad_request", f'"format" must be one of {", ".join(FORMATS)}')
        try:
            asked = msgspec.json.decode(request.query.get("question", ""), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Wrong(400, "bad_request", f'"question" is not a JSON object: {error}') from error
        pieces = await self._desk.write(asked, cast(Literal["csv", "json", "parquet"], form))
        return await in_pieces(request, FORMATS[form], pieces)
