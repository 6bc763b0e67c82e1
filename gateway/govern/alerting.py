"""Control's alerts: looks every few seconds, remembers in `alerts.json`, and hands over what is to be told. Decides nothing itself:
what holds is said by gateway/alert/kinds, what becomes of it by gateway/alert/state."""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.admin.desk import NoSuch
from gateway.alert import file
from gateway.alert.deliver import Delivery
from gateway.alert.facts import Facts, Found
from gateway.alert.kinds import KINDS
from gateway.alert.state import FIRING, Alert, Board, Notice, Silence
from gateway.config.resolved_alerts import Alerts, Rule, rule_of
from gateway.config.wording import nearest
from gateway.govern.looking import Control, Looking
from gateway.moment import comes, until_stroke
from gateway.steady import Pace

log = logging.getLogger("gateway.alerts")

EVERY: Final = 2.0
SETTLED: Final = 15.0
"""Seconds after control's start in which nothing resolves: workers and probes have not said everything yet."""
SLOW: Final = {
    "key_expiry": 60.0,
    "certificate_expiry": 60.0,
    "unpriced": 60.0,
    "usage_anomaly": 300.0,
    "cost_anomaly": 300.0,
}
"""Seconds between two judgements of what changes slowly or costs much; the others are judged at every look."""
TEST_KIND: Final = "endpoint_down"
LABELS: Final = "address by channel endpoint file frozen key limit model owner process project scope tenant warn where".split()
"""What alerts are about, whatever their kinds."""


class Alerting:
    """All alerts of this gateway."""

    def __init__(self, control: Control, data_dir: Path, endpoints: Callable[[], list[dict[str, Any]]]) -> None:
        self._control = control
        self._data_dir = data_dir
        self.looking = Looking(control, data_dir, endpoints)
        kept = file.read(data_dir)
        self._board = Board(kept.alerts, kept.silences)
        self._left = kept.waiting
        self._delivery = Delivery(self._node(), self._save_soon, self._firing_for)
        self._judged: dict[Rule, tuple[float, Found]] = {}
        self._started = time.monotonic()
        self._pace = Pace(time.time(), time.monotonic())
        self._wake = asyncio.Event()
        self._saving = asyncio.Lock()
        self.unwritten = ""
        """Why what is known of alerts is not on the disk; "" = it is."""

    def _config(self) -> Alerts:
        config = self._control.rollout.config
        return config.alerts if config is not None else Alerts()

    def _node(self) -> str:
        config = self._control.rollout.config
        return config.node if config is not None else ""

    # -- every few seconds ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Looks, judges and remembers until cancelled. A look that fails is said and tried again: alerts stop no gateway."""
        following = 0.0
        try:
            while True:
                if (now := time.monotonic()) >= following:
                    following = now + until_stroke(EVERY, now)
                    try:
                        await self._look()
                    except Exception:
                        log.exception("alerts could not be judged")
                self._wake.clear()
                if self._board.changed:
                    await self._save()
                await comes(self._wake, max(0.0, following - time.monotonic()))
        finally:
            await self._delivery.close()

    async def _look(self) -> None:
        alerts = self._config()
        left, self._left = self._left, []
        self._delivery.node = self._node()
        self._delivery.adopt(alerts.sinks, left)
        facts = await self.looking.look(alerts.rules)
        settled = time.monotonic() - self._started >= SETTLED
        seen = [(rule, await self._judge(rule, facts)) for rule in alerts.rules]
        self._judged = {rule: known for rule, known in self._judged.items() if rule in alerts.rules}
        now = self._now()
        notices = self._board.update([(rule, found if settled else found._replace(sure=False)) for rule, found in seen], now)
        self._delivery.tell(notices, now)

    def _now(self) -> float:
        """Unix seconds. When the clock was put forward or back since the last look, so is what the board knows."""
        now = time.time()
        if jump := self._pace.jump(now, time.monotonic()):
            self._board.shift(jump)
        return now

    async def _judge(self, rule: Rule, facts: Facts) -> Found:
        pause, now = SLOW.get(rule.kind, 0.0), time.monotonic()
        known = self._judged.get(rule)
        if known is None or now >= known[0] or not known[1].sure:
            judge = KINDS[rule.kind]
            found = await asyncio.to_thread(judge, rule, facts) if pause > 60 else judge(rule, facts)
            known = self._judged[rule] = (now + pause, found)
        return known[1]

    def _save_soon(self) -> None:
        self._board.changed = True
        self._wake.set()

    async def _save(self) -> None:
        """Writes down what is now; one at a time, so that nothing older comes last."""
        async with self._saving:
            await self._write()

    async def _write(self) -> None:
        board = self._board
        board.changed = False
        data = file.encoded(list(board.alerts.values()), list(board.silences.values()), [*self._left, *self._delivery.waiting()])
        try:
            await asyncio.to_thread(file.write, self._data_dir, data)
        except OSError as error:
            board.changed = True
            said = f"what is known of alerts cannot be written down: {error.strerror or error}"
            if said != self.unwritten:
                log.error("%s", said)
            self.unwritten = said
        else:
            self.unwritten = ""

    def _firing_for(self, sink: str) -> list[Alert]:
        return [alert for alert in self._board.firing(time.time()) if sink in alert.to]

    # -- for people -----------------------------------------------------------------------------------------------------

    def told(self) -> dict[str, Any]:
        """Alerts, silences, sinks, rules."""
        now, board = time.time(), self._board
        alerts = []
        for alert in board.alerts.values():
            silence = board.silence_of(alert, now) if alert.state != "resolved" else None
            one = {"value": 0.0, "text": "", "fired": 0.0, "resolved": 0.0, "told": 0.0, "to": [], **msgspec.to_builtins(alert)}
            alerts.append({**one, "silenced": silence.id if silence is not None else ""})
        silences = [self._silence(one, now) for one in board.silences.values()]
        return {"alerts": alerts, "silences": silences, "sinks": self._delivery.told(), "rules": self._rules(), "unwritten": self.unwritten}

    def _silence(self, silence: Silence, now: float) -> dict[str, Any]:
        covers = sum(silence.covers(alert, now) for alert in self._board.alerts.values() if alert.state != "resolved")
        return {"by": "", "comment": "", **msgspec.to_builtins(silence), "covers": covers}

    def _rules(self) -> list[dict[str, Any]]:
        """sure: all that it needs is known; otherwise it waits for it."""
        known = {rule: found for rule, (_, found) in self._judged.items()}
        return [
            {
                "name": rule.name,
                "kind": rule.kind,
                "severity": rule.severity,
                "to": list(rule.to),
                "holds": len(known[rule].conditions) if rule in known else 0,
                "sure": known[rule].sure if rule in known else False,
            }
            for rule in self._config().rules
        ]

    def figures(self) -> tuple[Counter[tuple[str, str]], Mapping[tuple[str, str], int]]:
        """For /metrics: firing alerts by kind and severity, and messages by sink and outcome."""
        counts: Counter[tuple[str, str]] = Counter({(rule.kind, rule.severity): 0 for rule in self._config().rules})
        counts.update((alert.kind, alert.severity) for alert in self._board.alerts.values() if alert.state == FIRING)
        return counts, self._delivery.counts

    async def silence(self, labels: Mapping[str, str], seconds: float, comment: str, *, by: str) -> dict[str, Any]:
        """Raises NoSuch when nothing could ever be covered."""
        self._must_mean_something(labels)
        now = time.time()
        made = Silence(
            id=secrets.token_hex(3), labels=dict(labels), since=round(now, 3), until=round(now + seconds, 3), by=by, comment=comment
        )
        self._board.silences[made.id] = made
        await self._save()
        return {**self._silence(made, now), "unwritten": self.unwritten}

    async def unsilence(self, id: str) -> dict[str, Any]:
        """Raises NoSuch."""
        gone = self._board.silences.pop(id, None)
        if gone is None:
            raise NoSuch(f"there is no silence {id!r}")
        await self._save()
        return {**self._silence(gone, time.time()), "unwritten": self.unwritten}

    def find(self, id: str) -> Silence | None:
        return self._board.silences.get(id)

    def _must_mean_something(self, labels: Mapping[str, str]) -> None:
        """A silence that has a slip in it silences nobody, and somebody counts on it."""
        rules = self._config().rules
        known: dict[str, Sequence[str]] = {
            "kind": list(dict.fromkeys(rule.kind for rule in rules)),
            "rule": [rule.name for rule in rules],
            "severity": ["info", "warning", "critical"],
        }
        names = [*known, *LABELS]
        for name, value in labels.items():
            if name not in names:
                raise NoSuch(f"no alert has a label {name!r}; {nearest(name, names) or 'known are: ' + ', '.join(names)}")
            if name in known and "*" not in value and value not in known[name]:
                raise NoSuch(f"no rule has the {name} {value!r}; {nearest(value, known[name]) or 'known are: ' + ', '.join(known[name])}")

    async def test(self, sink: str, kind: str) -> list[dict[str, Any]]:
        """A message through the real way to one sink, or to all that hear of the kind, "" = to all. Raises NoSuch."""
        if kind and kind not in KINDS:
            raise NoSuch(f"no rule could be on {kind!r}; {nearest(kind, KINDS) or 'known are: ' + ', '.join(KINDS)}")
        alerts = self._config()
        self._delivery.adopt(alerts.sinks)
        names = self._delivery.names()
        if sink and sink not in names:
            raise NoSuch(f"there is no sink {sink!r}; {nearest(sink, names) or 'known are: ' + (', '.join(names) or 'none')}")
        hears = [name for name in names if not kind or any(rule.kind == kind and name in rule.to for rule in alerts.rules)]
        rule = next((one for one in alerts.rules if one.kind == kind), rule_of(kind or TEST_KIND))
        now = time.time()
        alert = Alert(
            id="test", rule=rule.name, kind=rule.kind, severity=rule.severity, labels={"test": "yes"}, state=FIRING, since=now, fired=now,
            text="a test by gatewayctl alerts test; nothing is wrong",
        )  # fmt: skip
        notice = Notice(what="test", alert=alert)
        self._delivery.tell([notice], now)  # into the log, where all of them go
        chosen = [sink] if sink else hears
        said = await asyncio.gather(*(self._delivery.send_now(name, notice) for name in chosen))
        return [{"sink": name, "ok": not why, "said": why} for name, why in zip(chosen, said, strict=True)]
