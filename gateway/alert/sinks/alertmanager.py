"""Alertmanager's API v2. It groups, repeats and silences by itself, so it gets every alert with its labels, and is told again each
minute of those that fire: one that is not told again ends there by itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp

from gateway.alert.sinks.sending import PATIENCE, covered
from gateway.alert.state import RESOLVED, Notice
from gateway.config.resolved_alerts import Sink

EVERY: Final = 60.0
"""Seconds between two tellings of what fires."""
LASTS: Final = 5 * 60.0
"""Seconds after which an alert ends that is not told again."""


async def send(node: str, sink: Sink, notices: Sequence[Notice], now: float) -> str:
    last = {notice.alert.id: notice for notice in notices}
    headers = {"Authorization": f"Bearer {sink.credential}"} if sink.credential else {}
    url = sink.alertmanager.rstrip("/") + "/api/v2/alerts"
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(url, json=[alert(node, notice, now) for notice in last.values()], allow_redirects=False) as answer,
        ):
            if answer.status < 300:
                return ""
            said = (await answer.content.read(2048)).decode(errors="replace")
            return covered(f"status {answer.status}: {said}", sink)
    except TimeoutError:
        return f"no answer within {PATIENCE:.0f} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return covered(str(error) or type(error).__name__, sink)


def alert(node: str, notice: Notice, now: float) -> dict[str, Any]:
    """One alert as Alertmanager takes it."""
    it = notice.alert
    labels = {"alertname": it.kind, "rule": it.rule, "severity": it.severity, "node": node, **it.labels}
    ends = it.resolved if notice.what == RESOLVED else now + LASTS
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": it.text, "value": f"{it.value:g}"},
        "startsAt": _time(it.fired or it.since),
        "endsAt": _time(ends),
    }


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
