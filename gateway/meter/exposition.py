"""/metrics: the workers' counts from their shared files, and what control knows itself, as Prometheus text.

prometheus-client's multiprocess mode, keyed by worker slot instead of process id: counters go on when a worker is
replaced, and a scrape reads one file set per slot however often workers died.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
STATES = ("up", "degraded", "busy", "ejected", "wedged", "draining", "down")
SERVE = ("up", "degraded", "busy")


Pairs = Mapping[tuple[str, str], int]
"""Counts by two labels."""


class Facts:
    """What control adds at each scrape: gauges of the processes, of the configuration, of the endpoints."""

    def __init__(
        self,
        status: Callable[[], dict[str, Any]],
        endpoints: Callable[[], list[dict[str, Any]]],
        capacity: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        refusals: Callable[[], Mapping[tuple[str, str, bool], int]] = dict,
        ledger: Callable[[], Mapping[str, Any]] = dict,
        alerts: Callable[[], tuple[Pairs, Pairs]] = lambda: ({}, {}),
        drift: Callable[[], Mapping[str, float]] = dict,
        unpriced: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """capacity: of each limited channel, see `referee.line.Line.figures`. refusals: see `Referee.refusals`. ledger: see
        `ledger.keeper.Ledger.told`. alerts: firing by kind and severity, messages by sink and outcome. drift: of each channel, see
        `truth.Truth.ratios`. unpriced: of each model, see `truth.Truth.without_price`."""
        self._status = status
        self._endpoints = endpoints
        self._capacity = capacity
        self._refusals = refusals
        self._ledger = ledger
        self._alerts = alerts
        self._drift = drift
        self._unpriced = unpriced

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        yield from _configuration(status)
        yield from _unwritten(status)
        yield from _frozen(status["frozen"])
        yield from _processes(status["processes"])
        yield from _endpoints(self._endpoints())
        yield from _channels(self._capacity())
        yield from _limits(self._refusals())
        yield from _ledger(self._ledger())
        yield from _alerts(*self._alerts())
        yield from _drift(self._drift())
        yield from _unpriced(self._unpriced())


def _configuration(status: dict[str, Any]) -> Iterable[Metric]:
    info = GaugeMetricFamily("gateway_build_info", "Version of this gateway.", labels=["version", "node"])
    info.add_metric([status["version"], status["node"]], 1)
    yield info
    last = status["config"]["last_reload"]
    yield GaugeMetricFamily(
        "gateway_config_last_reload_successful", "1 when the last load of the configuration was accepted.", value=float(last["ok"])
    )
    yield GaugeMetricFamily(
        "gateway_config_last_reload_success_timestamp_seconds", "When a configuration was last accepted.", value=status["revision"]["ts"]
    )
    reloads = CounterMetricFamily("gateway_config_reloads", "Loads of the configuration, by result.", labels=["result"])
    for result, count in status["config"]["reloads"].items():
        reloads.add_metric([result], count)
    yield reloads
    digest = GaugeMetricFamily("gateway_config_hash_info", "Digest of the configuration that is served.", labels=["hash", "revision"])
    digest.add_metric([status["revision"]["digest"][:16], str(status["revision"]["rev"])], 1)
    yield digest


def _unwritten(status: dict[str, Any]) -> Iterable[Metric]:
    failing = float(status["metrics"]["failing"])
    yield GaugeMetricFamily("gateway_metrics_failing", "1 while the disk has no room for a worker's new metrics.", value=failing)


def _frozen(freezes: list[dict[str, Any]]) -> Iterable[Metric]:
    frozen = GaugeMetricFamily("gateway_frozen", "How many of this kind an operator has frozen.", labels=["kind"])
    for kind in ("tenant", "project", "key", "model", "all"):
        frozen.add_metric([kind], sum(one["kind"] == kind for one in freezes))
    yield frozen


def _endpoints(endpoints: list[dict[str, Any]]) -> Iterable[Metric]:
    at = ["channel", "endpoint"]
    up = GaugeMetricFamily("gateway_endpoint_up", "1 when the endpoint serves, 0 when it does not.", labels=at)
    state = GaugeMetricFamily("gateway_endpoint_state", "1 for the state that the endpoint is in, 0 for the others.", labels=[*at, "state"])
    ejections = CounterMetricFamily("gateway_endpoint_ejections", "How often it was ejected, by reason.", labels=[*at, "reason"])
    wedged = CounterMetricFamily("gateway_endpoint_wedged", "How often it was found wedged.", labels=at)
    figures = {
        "running": GaugeMetricFamily("gateway_endpoint_running", "Requests that the engine says it works on.", labels=at),
        "waiting": GaugeMetricFamily("gateway_endpoint_waiting", "Requests that the engine says wait in it.", labels=at),
        "kv_use": GaugeMetricFamily("gateway_endpoint_kv_use", "Share of its KV cache that the engine says is in use.", labels=at),
        "in_flight": GaugeMetricFamily("gateway_endpoint_in_flight", "Requests of this gateway that are there now.", labels=at),
    }
    for one in endpoints:
        name = [one["channel"], one["endpoint"]]
        up.add_metric(name, float(one["serves"] and one["state"] in SERVE))
        for word in STATES:
            state.add_metric([*name, word], float(one["state"] == word))
        for reason, count in one["ejections"].items():
            ejections.add_metric([*name, reason], count)
        wedged.add_metric(name, one["wedgings"])
        for figure, family in figures.items():
            if one[figure] is not None:
                family.add_metric(name, one[figure])
    yield from (up, state, ejections, wedged, *figures.values())


def _channels(capacity: Mapping[str, Mapping[str, Any]]) -> Iterable[Metric]:
    figures: dict[str, Metric] = {
        "in_flight": GaugeMetricFamily("gateway_channel_seats_taken", "Requests at a limited channel's engines.", labels=["channel"]),
        "max_in_flight": GaugeMetricFamily(
            "gateway_channel_seats", "Requests that may be there at once, 0 for any number.", labels=["channel"]
        ),
        "queued": GaugeMetricFamily("gateway_channel_queue", "Requests that wait for a seat.", labels=["channel"]),
        "oldest": GaugeMetricFamily("gateway_channel_queue_oldest_seconds", "How long the first of them has waited.", labels=["channel"]),
        "shed": CounterMetricFamily("gateway_channel_shed", "Requests refused because waiting was of no use.", labels=["channel"]),
    }
    for channel, known in capacity.items():
        for figure, family in figures.items():
            family.add_metric([channel], known[figure])  # type: ignore[attr-defined]
    yield from figures.values()


def _limits(refusals: Mapping[tuple[str, str, bool], int]) -> Iterable[Metric]:
    by = ["scope", "count"]
    refused = CounterMetricFamily("gateway_limit_refused", "Requests that a limit refused.", labels=by)
    shadows = CounterMetricFamily("gateway_limit_shadow_refused", "Requests that a shadow would have refused.", labels=by)
    for (scope, count, shadow), number in refusals.items():
        (shadows if shadow else refused).add_metric([scope, count], number)
    yield from (refused, shadows)


def _ledger(told: Mapping[str, Any]) -> Iterable[Metric]:
    if not told:
        return
    yield CounterMetricFamily("gateway_ledger_rows", "Requests that control has loaded since it began.", value=told["loaded"])
    yield GaugeMetricFamily("gateway_ledger_lag_seconds", "How long the oldest sealed segment has waited.", value=told["lag"])
    yield GaugeMetricFamily("gateway_ledger_segments_waiting", "Sealed segments that are not loaded.", value=told["waiting"])
    yield CounterMetricFamily("gateway_ledger_quarantined", "Lines of the journal that are no records.", value=told["quarantined"])
    yield GaugeMetricFamily("gateway_ledger_failing", "1 while the ledger is not well.", value=float(bool(told["trouble"])))
    yield CounterMetricFamily("gateway_ledger_repairs", "How often it was damaged or missing and built anew.", value=told["repairs"])
    yield GaugeMetricFamily("gateway_ledger_bytes", "Disk space of the database, without archives.", value=told["bytes"])


def _drift(ratios: Mapping[str, float]) -> Iterable[Metric]:
    drift = GaugeMetricFamily(
        "gateway_drift_ratio", "Tokens that a channel's engines generated beyond the ledger in the last whole hour.", labels=["channel"]
    )
    for channel, ratio in ratios.items():
        drift.add_metric([channel], ratio)
    yield drift


def _unpriced(requests: Mapping[str, int]) -> Iterable[Metric]:
    unpriced = GaugeMetricFamily("gateway_ledger_unpriced_requests", "Requests of the last day whose price is unknown.", labels=["model"])
    for model, count in requests.items():
        unpriced.add_metric([model], count)
    yield unpriced


def _alerts(firing: Pairs, messages: Pairs) -> Iterable[Metric]:
    fires = GaugeMetricFamily("gateway_alerts_firing", "Alerts that fire, silenced ones too.", labels=["kind", "severity"])
    sent = CounterMetricFamily("gateway_alert_deliveries", "Messages to sinks, by what came of them.", labels=["sink", "outcome"])
    for labels, count in firing.items():
        fires.add_metric(labels, count)
    for labels, count in messages.items():
        sent.add_metric(labels, count)
    yield from (fires, sent)


def _processes(processes: list[dict[str, Any]]) -> Iterable[Metric]:
    restarts = CounterMetricFamily("gateway_process_restarts", "How often a process had to be started again.", labels=["process"])
    up = GaugeMetricFamily("gateway_process_up", "1 while a process runs and beats.", labels=["process"])
    memory = GaugeMetricFamily("gateway_process_resident_memory_bytes", "Resident memory.", labels=["process"])
    cpu = CounterMetricFamily("gateway_process_cpu_seconds", "User and system CPU time.", labels=["process"])
    files = GaugeMetricFamily("gateway_process_open_fds", "Open file descriptors.", labels=["process"])
    for one in processes:
        name = [one["name"]]
        restarts.add_metric(name, one["restarts"])
        up.add_metric(name, 1.0 if one["state"] == "up" else 0.0)
        facts = process_facts(one["pid"])
        if facts:
            memory.add_metric(name, facts["rss_bytes"])
            cpu.add_metric(name, facts["cpu_seconds"])
            files.add_metric(name, facts["open_fds"])
    yield from (restarts, up, memory, cpu, files)


def process_facts(pid: int) -> dict[str, float]:
    """Memory, CPU and descriptors of a process from /proc; empty when it is gone."""
    if not pid:
        return {}
    try:
        statm = Path(f"/proc/{pid}/statm").read_text().split()
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return {
            "rss_bytes": int(statm[1]) * PAGE,
            "cpu_seconds": (int(stat[11]) + int(stat[12])) / TICKS,
            "open_fds": len(os.listdir(f"/proc/{pid}/fd")),
        }
    except (OSError, IndexError):
        return {}


class Exposition:
    """Serves /metrics on the sockets that the supervisor made for it."""

    def __init__(self, directory: Path, facts: Facts) -> None:
        self._directory = directory
        self._facts = facts
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        self._runner = web.AppRunner(app, access_log=None)
        self._sites: dict[str, web.SockSite] = {}

    async def open(self) -> None:
        await self._runner.setup()

    async def listen_on(self, places: set[str], new: dict[str, socket.socket]) -> None:
        """Answers on `new` sockets (by place, ours from now on) and no longer on those that `places` does not name."""
        for place in self._sites.keys() - places:
            await self._sites.pop(place).stop()
        for place, sock in new.items():
            self._sites[place] = web.SockSite(self._runner, sock)
            await self._sites[place].start()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    def text(self) -> bytes:
        """The whole exposition."""
        registry = CollectorRegistry()
        registry.register(self._facts)
        if self._directory.is_dir():
            MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        return generate_latest(registry)
