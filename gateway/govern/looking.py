"""What control knows, gathered for the alerts' rules: each thing as often as it is worth. Decides nothing."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.alert.facts import Budget, Certificate, Drift, Endpoint, Facts, KeyEnd, Ledger, Process, Series
from gateway.alert.windows import Windows
from gateway.bus.server import BusServer
from gateway.config.load import load
from gateway.config.resolved import Resolved
from gateway.config.resolved_alerts import Rule
from gateway.config.x509 import read
from gateway.discover.look import NOT_YET
from gateway.errors import ConfigError
from gateway.govern.freezing import Freezing
from gateway.govern.rollout import Rollout
from gateway.meter.counters import counters
from gateway.referee.referee import Referee
from gateway.report.truth import Truth

CERTIFICATES_EVERY: Final = 600.0
BUDGETS_EVERY: Final = 10.0
FILES_EVERY: Final = 30.0
CHAIN_MOST: Final = 5
"""Certificates in a file; one with more is a bundle of the world's CAs, whose ends are not ours to watch."""
COUNTED: Final = ("error_share", "ttft", "journal_lost")
"""Kinds that look at counters."""


class Control(Protocol):
    """The control process, as far as alerts look at it."""

    rollout: Rollout
    bus: BusServer
    freezing: Freezing
    limits: Referee
    processes: list[dict[str, Any]]


class Looking:
    """series, ledger, unpriced, usage: the ledger's; None while there is none."""

    def __init__(self, control: Control, data_dir: Path, endpoints: Callable[[], list[dict[str, Any]]]) -> None:
        self.series: Series | None = None
        self.ledger: Callable[[], Ledger | None] = lambda: None
        self.unpriced: Callable[[], dict[str, int] | None] = lambda: None
        self.usage: Callable[[], Sequence[Drift] | None] = lambda: None
        self._control = control
        self._data_dir = data_dir
        self._endpoints = endpoints
        self._windows = Windows()
        self._known: dict[str, tuple[float, Any]] = {}
        self._files: tuple[object, str] = (None, "")

    def listen(self, truth: Truth) -> None:
        """From now on what the ledger says counts."""
        self.series, self.ledger = truth.hours, truth.ledger_seen
        self.unpriced, self.usage = lambda: truth.unpriced, truth.drifts

    async def look(self, rules: Sequence[Rule]) -> Facts:
        """Everything that these rules may ask for, now."""
        control, steady = self._control, time.monotonic()
        kinds = {rule.kind for rule in rules}
        rollout, config = control.rollout, control.rollout.config
        assert config is not None
        longest = max((rule.within for rule in rules if rule.kind in COUNTED), default=0.0)
        if longest and self._windows.due(steady, longest):
            self._windows.add(steady, await asyncio.to_thread(counters, self._data_dir / "metrics"), longest)
        disk, free = await asyncio.to_thread(_disk, self._data_dir)
        journal = [link.health.get("journal") for link in control.bus.links.values()]
        return Facts(
            now=time.time(),
            endpoints=[_endpoint(one) for one in self._endpoints()],
            counted=lambda seconds: self._windows.counted(steady, seconds),
            budgets=await self._every("budgets", BUDGETS_EVERY, rollout.rev, self._budgets) if "budget" in kinds else None,
            disk=disk,
            free=free,
            ledger=self.ledger(),
            drift=await self._drift() if "drift" in kinds else None,
            usage=self.usage(),
            certificates=await self._every("certificates", CERTIFICATES_EVERY, rollout.rev, self._certificates),
            keys=await self._every("keys", float("inf"), rollout.rev, self._keys),
            refused=self._refused(),
            unpriced=self.unpriced(),
            journal_failing=any(one["failing"] for one in journal if one) if all(journal) and journal else None,
            processes=[Process(one["name"], one["restarts"], one["since"]) for one in control.processes],
            frozen=[(one.kind, one.name, one.reason) for one in control.freezing.all()],
            series=self.series,
        )

    async def _every(self, what: str, seconds: float, rev: int, find: Callable[[], Any]) -> Any:
        """What `find` gave in this revision, not older than that."""
        at, key = time.monotonic(), f"{what} {rev}"
        known = self._known.get(what)
        if known is None or known[0] < at or known[1][0] != key:
            known = self._known[what] = (at + seconds, (key, await find()))
        return known[1][1]

    def _refused(self) -> str | None:
        last = self._control.rollout.last
        if not any(self._control.rollout.counts.values()):
            return None
        if last.ok:
            return ""
        first = last.mistakes[0] if last.mistakes else None
        more = f" and {len(last.mistakes) - 1} more" if len(last.mistakes) > 1 else ""
        return f"{first.file}:{first.line}:{first.column}: {first.message}{more}" if first is not None else last.message or "it was refused"

    async def _keys(self) -> list[KeyEnd]:
        return [KeyEnd(key.id, key.tenant, key.expires) for key in self._control.rollout.keys if key.expires and key.enabled]

    async def _certificates(self) -> list[Certificate]:
        config = self._control.rollout.config
        assert config is not None
        return await asyncio.to_thread(_certificates, config)

    async def _budgets(self) -> list[Budget]:
        rollout = self._control.rollout
        config = rollout.config
        assert config is not None
        placed = [(place, limit) for place, limits in config.limits.items() for limit in limits]
        placed += [(f"keys/{key.id}", limit) for key in rollout.keys for limit in key.limits]
        placed = [(place, limit) for place, limit in placed if limit.per in ("day", "month") and not limit.shadow]
        tenants = {key.id: key.tenant for key in rollout.keys if key.limits}
        return [_budget(one, tenants) for one in await self._control.limits.counters(placed)] if placed else []

    async def _drift(self) -> list[tuple[str, str]]:
        rollout = self._control.rollout
        found = [
            (f"worker-{slot}", f"it serves revision {link.rev}, control has {rollout.rev}")
            for slot, link in self._control.bus.links.items()
            if link.rev and link.rev != rollout.rev
        ]
        said = await self._every("files", FILES_EVERY, rollout.rev, self._differ)
        return [*found, ("files", said)] if said else found

    async def _differ(self) -> str:
        """How the files differ from what is served; they are read again only when one of them has changed."""
        rollout = self._control.rollout
        watched = list(rollout.watched)
        marks = await asyncio.to_thread(lambda: (rollout.rev, tuple(_mark(path) for path in watched)))
        if marks != self._files[0]:
            try:
                digest = (await asyncio.to_thread(load, rollout.path)).digest
            except ConfigError:  # which is another alert
                digest = rollout.digest
            said = f"the files hold another configuration than revision {rollout.rev}, which is served"
            self._files = (marks, "" if digest == rollout.digest else said)
        return self._files[1]


def _mark(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _disk(folder: Path) -> tuple[float | None, int]:
    """Percent used as `df` says it, and bytes that are free."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None, 0
    used = stat.f_blocks - stat.f_bfree
    return 100 * used / ((used + stat.f_bavail) or 1), stat.f_bavail * stat.f_frsize


def _endpoint(one: dict[str, Any]) -> Endpoint:
    ends = (one.get("tls") or {}).get("not_after") or ""
    return Endpoint(
        channel=one["channel"],
        url=one["endpoint"],
        state=one["state"],
        why=one["why"],
        seen=one["why"] != NOT_YET,
        drained=one["drained"] is not None,
        not_after=datetime.fromisoformat(ends).timestamp() if ends else 0.0,
    )


def _certificates(config: Resolved) -> list[Certificate]:
    tls = [*(one.tls for one in config.listeners), *(one.tls for one in config.channels.values())]
    tls += [plane for channel in config.channels.values() for plane in channel.plane_tls.values()]
    files = dict.fromkeys(file for one in tls if one is not None for file in (one.cert, one.ca) if file)
    return [Certificate(file, min(ends)) for file in files if (ends := list(_ends(file)))]


def _ends(file: str) -> Iterator[float]:
    """When the certificates of a PEM file end; of a bundle nothing."""
    try:
        text = Path(file).read_text("ascii", errors="replace")
    except OSError:
        return
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    blocks = text.split(begin)[1:]
    for block in blocks if len(blocks) <= CHAIN_MOST else ():
        try:
            yield read(ssl.PEM_cert_to_DER_cert(begin + block.partition(end)[0] + end)).not_after.timestamp()
        except ValueError:
            continue


def _budget(one: dict[str, Any], tenants: dict[str, str]) -> Budget:
    """tenants: of each key."""
    whole = one.get("budget", one["max"])
    most, used = float(whole), float(one["used"])
    scope, owner = one["scope"], one["owner"]
    labels = {"scope": scope, "owner": owner, "limit": one["name"] or f"{one['count']} per {one['per']}"}
    if one["each"]:
        labels[one["each"]] = one["value"]
    tenant = owner.partition("/")[0] if scope in ("tenant", "project") else tenants.get(owner, "") if scope == "key" else ""
    unit = one["currency"] if one["count"] == "money" else one["count"]
    share = 100 * used / most if most else 0.0
    said = f"{one['used']} of {whole} {unit} per {one['per']}"
    return Budget({name: value for name, value in labels.items() if value}, tenant, share, said, tuple(one.get("warn", ())))
