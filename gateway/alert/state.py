"""What becomes of what holds: pending, firing, resolved; and who is told. A table; time is an argument (Unix seconds).

    state      what holds                    next       told
    -          it holds                      pending
    pending    it has held for `for`         firing     firing
    pending    it no longer holds            -
    firing     it holds, `repeat` is over    firing     firing, again
    firing     it no longer holds            resolved   resolved, when firing was told
    resolved   it holds                      pending
    resolved   a day is over                 -

What is not sure to be known changes nothing. A silenced alert goes through its states and is told to nobody; when the silence
ends and it still fires, it is told then. A clock that is put forward or back changes nothing of how long something holds or is silent.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.alert.facts import Condition, Found, Labels
from gateway.config.globs import matches
from gateway.config.resolved_alerts import Rule

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"
REMEMBERED: Final = 86400.0
"""Seconds that a resolved alert is listed."""
ALERTS_MOST: Final = 2000
"""Alerts of one rule that are told apart."""


class Alert(msgspec.Struct, kw_only=True, omit_defaults=True):
    """since: when it began to hold. fired, resolved, told: when; 0 = not. to: sinks."""

    id: str
    rule: str
    kind: str
    severity: str
    labels: Labels
    state: str
    since: float
    value: float = 0.0
    text: str = ""
    fired: float = 0.0
    resolved: float = 0.0
    told: float = 0.0
    to: tuple[str, ...] = ()

    def known_as(self) -> Labels:
        """Everything that a silence may name."""
        return {"kind": self.kind, "rule": self.rule, "severity": self.severity, **self.labels}


class Silence(msgspec.Struct, kw_only=True, omit_defaults=True):
    """labels: globs; all must fit. since, until: Unix seconds."""

    id: str
    labels: Labels
    since: float
    until: float
    by: str = ""
    comment: str = ""

    def covers(self, alert: Alert, now: float) -> bool:
        known = alert.known_as()
        return now < self.until and all(name in known and matches(glob, known[name]) for name, glob in self.labels.items())


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something to tell. what: `firing`, `resolved` or `test`; again: it was told before."""

    what: str
    alert: Alert
    again: bool = False


def fingerprint(rule: str, labels: Mapping[str, str]) -> str:
    """The same for the same rule and labels, always."""
    text = "\0".join([rule, *(f"{name}={labels[name]}" for name in sorted(labels))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Board:
    """All alerts and silences. `changed` says that something is worth writing down."""

    def __init__(self, alerts: Iterable[Alert] = (), silences: Iterable[Silence] = ()) -> None:
        self.alerts = {alert.id: alert for alert in alerts}
        self.silences = {silence.id: silence for silence in silences}
        self.changed = False

    def update(self, seen: Iterable[tuple[Rule, Found]], now: float) -> list[Notice]:
        """Takes over what holds by each rule, and returns what is to be told. An alert whose rule is gone resolves."""
        if (begun := self._latest()) > now:  # the clock was put back while we did not run
            self.shift(now - begun)
        told: list[Notice] = []
        rules: set[str] = set()
        for rule, found in seen:
            rules.add(rule.name)
            holds = {fingerprint(rule.name, one.labels): one for one in found.conditions[:ALERTS_MOST]}
            for id, condition in holds.items():
                told += self._holds(id, rule, condition, now)
            if found.sure:
                gone = [alert for alert in self.alerts.values() if alert.rule == rule.name and alert.id not in holds]
                for alert in gone:
                    told += self._gone(alert, now)
        for alert in [alert for alert in self.alerts.values() if alert.rule not in rules]:
            told += self._gone(alert, now)
        self._forget(now)
        return told

    def shift(self, by: float) -> None:
        """The clock was put forward (or back, below 0) by so many seconds: times of before are told by the clock of now."""
        for alert in self.alerts.values():
            alert.since += by
            alert.fired += by if alert.fired else 0.0
            alert.resolved += by if alert.resolved else 0.0
            alert.told += by if alert.told else 0.0
        for silence in self.silences.values():
            silence.since += by
            silence.until += by
        self.changed = self.changed or bool(self.alerts or self.silences)

    def _latest(self) -> float:
        """When the last thing happened that is known."""
        times = [max(alert.since, alert.fired, alert.resolved, alert.told) for alert in self.alerts.values()]
        return max([*times, *(silence.since for silence in self.silences.values())], default=float("-inf"))

    def _holds(self, id: str, rule: Rule, condition: Condition, now: float) -> Iterable[Notice]:
        alert = self.alerts.get(id)
        if alert is None or alert.state == RESOLVED:
            alert = self.alerts[id] = Alert(
                id=id, rule=rule.name, kind=rule.kind, severity=rule.severity, labels=condition.labels, state=PENDING, since=now
            )
            self.changed = True
        alert.value, alert.text, alert.severity, alert.to = condition.value, condition.text, rule.severity, rule.to
        if alert.state == PENDING and now - alert.since >= rule.wait:
            alert.state, alert.fired = FIRING, now
            self.changed = True
        if alert.state == FIRING and (not alert.told or now - alert.told >= rule.repeat) and self.silence_of(alert, now) is None:
            again, alert.told = bool(alert.told), now
            self.changed = True
            yield Notice(what=FIRING, alert=_copy(alert), again=again)

    def _gone(self, alert: Alert, now: float) -> Iterable[Notice]:
        if alert.state == PENDING:
            del self.alerts[alert.id]
            self.changed = True
        elif alert.state == FIRING:
            alert.state, alert.resolved = RESOLVED, now
            self.changed = True
            if alert.told and self.silence_of(alert, now) is None:
                yield Notice(what=RESOLVED, alert=_copy(alert))

    def _forget(self, now: float) -> None:
        old = [alert.id for alert in self.alerts.values() if alert.state == RESOLVED and now - alert.resolved >= REMEMBERED]
        over = [silence.id for silence in self.silences.values() if now >= silence.until]
        for id in old:
            del self.alerts[id]
        for id in over:
            del self.silences[id]
        self.changed = self.changed or bool(old or over)

    def silence_of(self, alert: Alert, now: float) -> Silence | None:
        """The first one that covers it."""
        return next((one for one in self.silences.values() if one.covers(alert, now)), None)

    def firing(self, now: float) -> list[Alert]:
        """Those that fire and are not silenced."""
        return [alert for alert in self.alerts.values() if alert.state == FIRING and self.silence_of(alert, now) is None]


def _copy(alert: Alert) -> Alert:
    return msgspec.structs.replace(alert)
