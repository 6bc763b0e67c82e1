"""Control's answers to gatewayctl (admin.desk.Desk): views of the rollout, the workers' health and the journal."""

import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from gateway import __version__
from gateway.admin.desk import NoSuch
from gateway.bus.server import BusServer
from gateway.config.resolved import Key, Resolved
from gateway.discover.endpoints import Endpoints
from gateway.meter.exposition import process_facts
from gateway.meter.records import Records
from gateway.rollout import Outcome, Rollout

WORST = ("up", "half-open", "busy", "degraded", "ejected", "down")
"""States from best to worst: workers and the probe may see an endpoint differently, the worst is shown."""


class Control(Protocol):
    """The control process, as far as it is asked about."""

    rollout: Rollout
    bus: BusServer
    endpoints: Endpoints
    records: Records
    processes: list[dict[str, Any]]
    stopping: bool

    async def reload(self, *, by: str, why: str) -> Outcome: ...


class Office:
    """What a sysadmin may ask of a running gateway."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._started = time.time()

    # -- status -----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        control, rollout = self._control, self._control.rollout
        config = self._config()
        segments, size = control.records.size()
        links = control.bus.links
        journal = [link.health.get("journal", {}) for link in links.values()]
        return {
            "version": __version__,
            "python": sys.version.split()[0],
            "node": config.node,
            "pid": os.getppid(),
            "started": control.processes[0]["since"] if control.processes else self._started,
            "state": self._state(),
            "revision": {"rev": rollout.rev, "ts": rollout.ts, "digest": rollout.digest},
            "config": {"path": str(rollout.path), "last_reload": rollout.last.told(), "reloads": dict(rollout.counts)},
            "processes": [self._process(one) for one in control.processes],
            "listeners": [
                {
                    "name": one.name,
                    "bind": f"[{one.host}]:{one.port}" if ":" in one.host else f"{one.host}:{one.port}",
                    "serves": one.serves,
                    "tls": one.tls is not None,
                }
                for one in config.listeners
            ],
            "journal": {
                "segments": segments,
                "bytes": size,
                "failing": any(one.get("failing") for one in journal),
                "lost": sum(one.get("lost", 0) for one in journal),
            },
            "channels": len(config.channels),
            "models": len(config.models),
            "keys": len(rollout.keys),
            "in_flight": sum(link.health.get("in_flight", 0) for link in links.values()),
        }

    def _state(self) -> str:
        if self._control.stopping:
            return "draining"
        workers = [one for one in self._control.processes if one["name"].startswith("worker-")]
        return "serving" if workers and any(one["state"] == "up" for one in workers) else "starting"

    def _process(self, one: dict[str, Any]) -> dict[str, Any]:
        rev = 0
        if one["name"].startswith("worker-"):
            link = self._control.bus.links.get(int(one["name"].removeprefix("worker-")))
            rev = link.rev if link is not None else 0
        return {**one, "rev": rev or self._control.rollout.rev, "rss_bytes": int(process_facts(one["pid"]).get("rss_bytes", 0))}

    def _config(self) -> Resolved:
        assert self._control.rollout.config is not None
        return self._control.rollout.config

    # -- configuration ------------------------------------------------------------------------------------------------

    async def reload(self, *, by: str) -> dict[str, Any]:
        return (await self._control.reload(by=by, why="gatewayctl reload")).told()

    def history(self) -> list[dict[str, Any]]:
        return self._control.rollout.history()

    async def rollback(self, rev: int | None, *, by: str) -> dict[str, Any]:
        restored = self._control.rollout.restore(rev)
        outcome = await self._control.reload(by=by, why=f"rollback to revision {restored}")
        return outcome.told()

    def running(self) -> tuple[Resolved, list[Key]]:
        return self._config(), self._control.rollout.keys

    # -- channels, models, health -------------------------------------------------------------------------------------

    def channels(self) -> list[dict[str, Any]]:
        states: dict[str, list[dict[str, Any]]] = {}
        for one in self.endpoint_states():
            states.setdefault(one["channel"], []).append(one)
        return [
            {
                "name": channel.name,
                "engine": "auto" if channel.auto else channel.engine,
                "detected": channel.engine if channel.auto else "",
                "model": channel.model or "",
                "usage": channel.usage,
                "endpoints": states.get(channel.name, []),
            }
            for channel in self._config().channels.values()
        ]

    async def probe(self, name: str) -> dict[str, Any]:
        if name not in self._config().channels:
            raise NoSuch(f"there is no channel {name!r}")
        return await self._control.endpoints.probe_channel(name)

    def models(self) -> list[dict[str, Any]]:
        return [
            {
                "name": model.name,
                "aliases": list(model.aliases),
                "policy": model.policy,
                "targets": [msgspec.to_builtins(target) for target in model.targets],
                "retry": msgspec.to_builtins(model.retry),
            }
            for model in self._config().models.values()
        ]

    def health(self) -> dict[str, Any]:
        endpoints = self.endpoint_states()
        good = all(one["state"] in ("up", "busy") for one in endpoints)
        return {"ok": good, "state": self._state(), "endpoints": endpoints}

    def endpoint_states(self) -> list[dict[str, Any]]:
        """Each endpoint once: what probes say, what workers met, what is in flight."""
        seen = {
            (one["channel"], one["endpoint"]): {**one, "in_flight": 0, "handshakes": 0, "errors": 0, "ttft": None}
            for one in self._control.endpoints.states()
        }
        for link in self._control.bus.links.values():
            for met in link.health.get("endpoints", ()):
                one = seen.get((met["channel"], met["endpoint"]))
                if one is None:
                    continue
                one["in_flight"] += met["in_flight"]
                one["handshakes"] += met["handshakes"]
                one["errors"] += met["errors"]
                if met["ttft"]:
                    one["ttft"] = max(one["ttft"] or 0.0, round(met["ttft"] * 1000, 1))
                if WORST.index(met["state"]) > WORST.index(one["state"]):
                    one["state"], one["why"] = met["state"], met["reason"] or one.get("why", "")
                    one["since"] = time.time() - met["for"]
        return list(seen.values())

    # -- records --------------------------------------------------------------------------------------------------------

    def records(self, *, limit: int, after: str | None = None) -> list[dict[str, Any]]:
        found = self._control.records.newest(limit)
        return [record for record in found if after is None or record["id"] > after]

    def record(self, id: str) -> dict[str, Any] | None:
        return self._control.records.find(id)

    def follow(self) -> AsyncIterator[dict[str, Any]]:
        return self._control.records.follow()
