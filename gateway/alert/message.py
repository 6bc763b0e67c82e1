"""Notices as one message: a title and a body that fit every chat service. Pure; holds no secret, because alerts hold none."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from gateway.alert.state import RESOLVED, Alert, Notice

LINES_MOST: Final = 12
BYTES_MOST: Final = 1800
"""WeCom takes 2048 bytes."""
TEXT_MOST: Final = 300
RANK: Final = {"critical": 0, "warning": 1, "info": 2}


class Message(NamedTuple):
    """tone: apprise's word: `failure`, `warning`, `info`, `success`."""

    title: str
    body: str
    tone: str


def message(node: str, notices: Sequence[Notice]) -> Message:
    """Of one alert only the last notice counts. The worst come first."""
    last = {notice.alert.id: notice for notice in notices}
    ordered = sorted(last.values(), key=lambda one: (one.what == RESOLVED, RANK.get(one.alert.severity, 3), one.alert.kind))
    lines: list[str] = []
    for notice in ordered:
        text = line(notice)
        if len(lines) == LINES_MOST or len("\n".join([*lines, text]).encode()) > BYTES_MOST:
            lines.append(f"… and {len(ordered) - len(lines)} more: gatewayctl alerts list")
            break
        lines.append(text)
    firing = [one for one in ordered if one.what != RESOLVED]
    return Message(_title(node, ordered, firing), "\n".join(lines), _tone(firing))


def _title(node: str, ordered: Sequence[Notice], firing: Sequence[Notice]) -> str:
    counts = (("TEST", sum(one.what == "test" for one in ordered)), ("FIRING", sum(one.what == "firing" for one in ordered)))
    said = [f"{word} {count}" for word, count in (*counts, ("RESOLVED", len(ordered) - len(firing))) if count]
    kinds = list(dict.fromkeys(one.alert.kind for one in ordered))
    return f"[{node}] {', '.join(said)}: {', '.join(kinds[:3])}{', …' if len(kinds) > 3 else ''}"


def _tone(firing: Sequence[Notice]) -> str:
    if not firing:
        return "success"
    worst = min((one.alert.severity for one in firing), key=lambda severity: RANK.get(severity, 3))
    return {"critical": "failure", "warning": "warning"}.get(worst, "info")


def line(notice: Notice) -> str:
    """`FIRING critical endpoint_down channel=gpu endpoint=http://…: down: connection refused (since 2026-11-22 18:00 UTC)`."""
    alert = notice.alert
    word = f"{notice.what.upper()}{' again' if notice.again else ''}"
    time = f"after {_lasted(alert)}" if notice.what == RESOLVED else f"since {_moment(alert.since)}"
    text = alert.text if len(alert.text) <= TEXT_MOST else alert.text[: TEXT_MOST - 1] + "…"
    return " ".join([word, alert.severity, named(alert)]) + f": {' '.join(text.split())} ({time})"


def named(alert: Alert) -> str:
    """The rule and what it is about."""
    return " ".join([alert.rule, *(f"{name}={value}" for name, value in alert.labels.items())])


def _lasted(alert: Alert) -> str:
    minutes = max(0.0, alert.resolved - alert.fired) / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
