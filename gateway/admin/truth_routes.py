"""Whether usage is true, and what of it is unusual: the admin API's part of `usage reconcile` and `cost anomalies`."""

import time
from typing import Any, Final, cast

from aiohttp import web

from gateway.admin.desk import TruthDesk
from gateway.admin.said import Wrong

SENSITIVITIES: Final = ("low", "normal", "high")


class TruthCalls:
    """One method per route."""

    def __init__(self, desk: TruthDesk, answer: Any) -> None:
        """answer: makes a response of a JSON object."""
        self._desk, self._answer = desk, answer

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/usage/reconcile", self.reconcile), web.get("/v1/cost/anomalies", self.anomalies)]

    async def reconcile(self, request: web.Request) -> web.Response:
        rows = await self._desk.reconcile(_since(request, 86_400.0), request.query.get("channel", ""))
        return cast(web.Response, self._answer({"hours": rows}))

    async def anomalies(self, request: web.Request) -> web.Response:
        sensitivity = request.query.get("sensitivity", "normal")
        if sensitivity not in SENSITIVITIES:
            raise Wrong(400, "bad_request", f'"sensitivity" must be one of {", ".join(SENSITIVITIES)}')
        return cast(web.Response, self._answer({"anomalies": await self._desk.anomalies(_since(request, 7 * 86_400.0), sensitivity)}))


def _since(request: web.Request, otherwise: float) -> float:
    """Unix seconds; at most 92 days ago."""
    now = time.time()
    try:
        since = float(request.query.get("since", now - otherwise))
    except ValueError:
        since = -1.0
    if not now - 92 * 86_400.0 <= since <= now + 86_400.0:
        raise Wrong(400, "bad_request", '"since" must be a time in seconds since 1970, at most 92 days ago')
    return since
