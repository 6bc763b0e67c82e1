"""Control's answers to gatewayctl (admin.desk.Desk): views of the rollout, the workers' health and the journal.

What changes something is in `acts`."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

from gateway import __version__
from gateway.admin.announced import Announced
from gateway.admin.audit import Audit
from gateway.admin.desk import Failed, NoSuch
from gateway.admin.server import AdminServer
from gateway.auth.told import told as told_of_key
from gateway.bus.server import BusServer
from gateway.config.resolved import Channel, Key, Resolved
from gateway.config.revisions import Revisions
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import DOWN
from gateway.govern.agreement import Agreement
from gateway.govern.alerting import Alerting
from gateway.govern.explainer import Asked, Explainer
from gateway.govern.freezing import Freezing
from gateway.govern.recount import names
from gateway.govern.rollout import Outcome, Rollout
from gateway.govern.survey import survey
from gateway.ledger.keeper import Ledger
from gateway.meter.exposition import process_facts
from gateway.meter.records import Records
from gateway.referee.desk import Desk
from gateway.referee.referee import Referee
from gateway.referee.rules import Placed
from gateway.referee.view import of_model, told
from gateway.report.books import Books
from gateway.report.reports import Reports
from gateway.report.truth import Truth
from gateway.route.schedule import compile_schedule


class Control(Protocol):
    """The control process, as far as it is asked about."""

    rollout: Rollout
    bus: BusServer
    endpoints: Endpoints
    agreement: Agreement
    freezing: Freezing
    announced: Announced
    audit: Audit
    limits: Referee
    ledger: Ledger
    truth: Truth
    records: Records
    alerting: Alerting
    processes: list[dict[str, Any]]
    stopping: bool
    seats: Desk
    admin: AdminServer

    async def reload(self, *, by: str, why: str, what: str = "reload", undone: bool = False) -> Outcome: ...
    async def upgrade(self, to: str) -> tuple[str, int]: ...


class Office:
    """What a sysadmin may ask of a running gateway."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._explainer = Explainer(
            control.rollout, self.endpoint_states, self._lengths, control.freezing.all, self._tiers, lambda: control.seats.queued()
        )
        self.books = Books(control.ledger, self._note)
        self.reports = Reports(control.ledger, self._config, lambda: control.rollout.keys, self._note)
        self.truth = control.truth
        self._started = time.time()

    # -- status -----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        control, rollout = self._control, self._control.rollout
        config = self._config()
        segments, size = control.records.size()
        links = control.bus.links
        journal = [link.health.get("journal", {}) for link in links.values()]
        uncounted = any(link.health.get("metrics", {}).get("failing") for link in links.values())
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
            "ledger": control.ledger.told(),
            "frozen": self.freezes(),
            "metrics": {"failing": uncounted},
            "unsafe": [
                *filter(None, (control.admin.trouble, control.freezing.trouble, control.freezing.unwritten)),
                *filter(None, (control.audit.failing, control.alerting.unwritten)),
                *(["metrics/ has no room or may not be written: new ones are counted in memory until it takes them"] if uncounted else []),
            ],
            "channels": len(config.channels),
            "models": len(config.models),
            "keys": len(rollout.keys),
            "in_flight": sum(link.health.get("in_flight", 0) for link in links.values()),
        }

    async def _note(self, what: str, **more: Any) -> str:
        return await self._control.audit.note(what, rev=self._control.rollout.rev, **more)

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

    def history(self) -> list[dict[str, Any]]:
        return self._control.rollout.history()

    def damaged(self) -> Sequence[str]:
        return Revisions(self._config().data_dir).unusable()

    def back(self) -> tuple[int, str]:
        return self._control.rollout.back()

    def running(self) -> tuple[Resolved, list[Key]]:
        return self._config(), self._control.rollout.keys

    def freezes(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(one) for one in self._control.freezing.all()]

    def alerts(self) -> dict[str, Any]:
        return self._control.alerting.told()

    async def audit(self, *, last: int, since: float = 0.0, by: str = "") -> list[dict[str, Any]]:
        try:
            return await self._control.audit.read(last=last, since=since, by=by)
        except OSError as error:
            raise Failed(f"{self._control.audit.path} cannot be read: {error.strerror or error}") from error

    # -- channels, models, health -------------------------------------------------------------------------------------

    def channels(self) -> list[dict[str, Any]]:
        states: dict[str, list[dict[str, Any]]] = {}
        for one in self.endpoint_states():
            states.setdefault(one["channel"], []).append(one)
        return [self._channel(channel, states.get(channel.name, [])) for channel in self._config().channels.values()]

    @staticmethod
    def _channel(channel: Channel, endpoints: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": channel.name,
            "engine": "auto" if channel.auto else channel.engine,
            "detected": channel.engine if channel.auto else "",
            "model": channel.model or "",
            "usage": channel.usage,
            "registry": channel.registry,
            "endpoints": endpoints,
        }

    def channel(self, name: str) -> dict[str, Any]:
        """Everything that is known of one."""
        channel = self._known(name)
        drains = self._control.agreement.drains
        drain, endpoints = drains.whole(name), [one for one in self.endpoint_states() if one["channel"] == name]
        shown = {one["endpoint"] for one in endpoints}
        models = [model.name for model in self._config().models.values() if any(leaf.channel == name for leaf in model.leaves())]
        capacity: dict[str, Any] = getattr(self._control, "referee_figures", dict)()
        return {
            **self._channel(channel, endpoints),
            "models": models,
            "drained": None if drain is None else {"by": drain.by, "since": drain.since, "until": drain.until},
            "drained_unlisted": [
                {"endpoint": one.endpoint, "by": one.by, "since": one.since, "until": one.until}
                for one in drains.of_channel(name)
                if one.endpoint and one.endpoint not in shown
            ],
            "limits": {
                "max_in_flight": channel.max_in_flight or None,
                "endpoint_in_flight": channel.endpoint_in_flight or None,
                "queue": channel.queue_length,
                "queue_wait": channel.queue_wait,
            },
            "breaker": msgspec.to_builtins(channel.breaker),
            "wedged_after": channel.wedged_after,
            "registry_state": next((one for one in self._control.rollout.registries.states() if one["name"] == channel.registry), None),
            "capacity": capacity.get(name),
            "silent": max(0, self._config().workers - sum(bool(link.health) for link in self._control.bus.links.values())),
        }

    def _known(self, name: str) -> Channel:
        channel = self._config().channels.get(name)
        if channel is None:
            raise NoSuch.named("channel", name, self._config().channels)
        return channel

    def _left(self, channel: str) -> list[str]:
        """Models that go through a channel and have no endpoint left that is not drained."""
        channels, drains = self._config().channels, self._control.agreement.drains
        found = []
        for model in self._config().models.values():
            used = {leaf.channel for leaf in model.leaves()}
            if channel in used and all(drains.of(name, one.url) for name in used for one in channels[name].endpoints):
                found.append(model.name)
        return found

    def models(self) -> list[dict[str, Any]]:
        return [
            {
                "name": model.name,
                "aliases": list(model.aliases),
                "policy": model.policy,
                "sticky": model.sticky,
                "fail_back": model.fail_back,
                "targets": [msgspec.to_builtins(target) for target in model.targets],
                "retry": msgspec.to_builtins(model.retry),
            }
            for model in self._config().models.values()
        ]

    def routes(self) -> list[dict[str, Any]]:
        return self._explainer.routes()

    def route(self, name: str) -> dict[str, Any]:
        return self._explainer.route(name)

    async def explain(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._explainer.explain(msgspec.convert(asked, Asked))
        except msgspec.ValidationError as error:
            raise NoSuch(f"this cannot be explained: {error}") from None

    def _lengths(self, channel: str, url: str) -> dict[str, int]:
        """An endpoint's context lengths by the engine's model name, as far as it said."""
        look = self._control.endpoints.looks().get((channel, url))
        return {model.id: model.context_length for model in look.models if model.context_length} if look is not None else {}

    def _tiers(self) -> dict[str, Any]:
        """How workers' tiers stand, by their place; of several workers the first that has met anything there."""
        found: dict[str, Any] = {}
        for link in self._control.bus.links.values():
            found = link.health.get("tiers", {}) | found
        return found

    def health(self) -> dict[str, Any]:
        endpoints = self.endpoint_states()
        endpoints += self._without(endpoints)
        good = all(one["state"] in ("up", "busy") for one in endpoints)
        return {"ok": good, "state": self._state(), "endpoints": endpoints}

    def _without(self, endpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Channels whose registry gives them no endpoint: they serve nobody, as if the one they might have were down."""
        have = {one["channel"] for one in endpoints}
        registries = {one["name"]: one for one in self._control.rollout.registries.states()}
        found = []
        for channel in self._config().channels.values():
            known = registries.get(channel.registry)
            if channel.name not in have and known is not None:
                why = f"{channel.registry} lists no endpoint: {known['why']}" if known["why"] else f"{channel.registry} lists no endpoint"
                row = {"channel": channel.name, "endpoint": "", "state": DOWN, "why": why, "since": known["since"]}
                found.append({**row, "registry": channel.registry, "serves": False, "in_flight": 0})
        return found

    def endpoint_states(self) -> list[dict[str, Any]]:
        """Each endpoint once; see `survey`."""
        control = self._control
        return survey(control.endpoints, control.agreement, control.bus.links.values(), self._config().channels)

    # -- keys ---------------------------------------------------------------------------------------------------------

    def key(self, id: str) -> dict[str, Any]:
        config = self._config()
        key = next((one for one in self._control.rollout.keys if one.id == id), None)
        if key is None:
            raise NoSuch.named("key", id, (one.id for one in self._control.rollout.keys))
        schedules = {name: compile_schedule(schedule).open_at for name, schedule in config.schedules.items()}
        models = [
            (name, (model.name, *model.aliases))
            for model in config.models.values()
            for name in (model.name, *model.aliases)
            if not name.endswith("*")
        ]
        found = told_of_key(key, config.access, models, schedules, time.time())
        return {**found, "limits": [told(place, limit) for place, limit in self._placed(key)]}

    def _placed(self, key: Key) -> list[Placed]:
        """The limits that a key's requests come under, whatever model they are for."""
        config = self._config()
        places = ("", f"tenants/{key.tenant}", f"tenants/{key.tenant}/projects/{key.project}")
        placed = [(place, limit) for place in places for limit in config.limits.get(place, ())]
        placed += [(place, limit) for place, limits in config.limits.items() if place.startswith("models/") for limit in limits]
        return [*placed, *((f"keys/{key.id}", limit) for limit in key.limits)]

    # -- limits -------------------------------------------------------------------------------------------------------

    def limits(self) -> list[dict[str, Any]]:
        config = self._config()
        placed = [(place, limit) for place, limits in config.limits.items() for limit in limits]
        placed += [(f"keys/{key.id}", limit) for key in self._control.rollout.keys for limit in key.limits]
        return [told(place, limit) for place, limit in placed]

    async def counters(self, *, key: str = "", tenant: str = "", model: str = "") -> list[dict[str, Any]]:
        config, keys = self._config(), self._control.rollout.keys
        placed: list[Placed] = []
        if key:
            owner = next((one for one in keys if one.id == key), None)
            if owner is None:
                raise NoSuch.named("key", key, (one.id for one in keys))
            placed = self._placed(owner)
        else:
            placed = [(place, limit) for place, limits in config.limits.items() for limit in limits]
            placed += [(f"keys/{one.id}", limit) for one in keys if one.limits and tenant in ("", one.tenant) for limit in one.limits]
            if tenant:
                if tenant not in config.tenants:
                    raise NoSuch.named("tenant", tenant, config.tenants)
                placed = [one for one in placed if not one[0].startswith("tenants/") or f"{one[0]}/".startswith(f"tenants/{tenant}/")]
        if model:
            model = names(config)(model)
            if model not in config.models:
                raise NoSuch.named("model", model, config.models)
            placed = list(of_model(placed, model))
        return await self._control.limits.counters(placed, key=key, model=model)

    # -- records --------------------------------------------------------------------------------------------------------

    async def records(self, *, limit: int, after: str | None = None) -> list[dict[str, Any]]:
        found = await asyncio.to_thread(self._control.records.newest, limit)
        if len(found) < limit:
            seen = {record["id"] for record in found}
            older = await self.books.newest(limit, time.time() + 86400)
            found = [*(record for record in older if record["id"] not in seen), *found][-limit:]
        return [record for record in found if after is None or record["id"] > after]

    async def record(self, id: str) -> dict[str, Any] | None:
        return await self.books.find(id, await asyncio.to_thread(self._control.records.find, id))

    def follow(self) -> AsyncIterator[dict[str, Any]]:
        return self._control.records.follow()
