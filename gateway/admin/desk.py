"""What the admin API asks of control, as an interface. The API asks, checks who asks, and formats; it decides nothing."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal, Protocol

from gateway.config.resolved import Key, Resolved
from gateway.config.wording import nearest


class NoSuch(LookupError):
    """What was asked for does not exist (a channel, a revision). Its text is the sentence that the operator reads."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "there is no such thing"

    @classmethod
    def named(cls, kind: str, name: str, known: Iterable[str]) -> "NoSuch":
        """Of a name that was perhaps mistyped. known: the names that there are."""
        near = nearest(name, known)
        return cls(f"there is no {kind} {name!r}{f'; {near}' if near else ''}")


class NotReady(Exception):
    """Nothing is live yet, so there is nothing to say. Its text is the sentence that the operator reads."""


class Failed(Exception):
    """It was tried and cannot be done now (the disk is full). Its text is the sentence that the operator reads."""


class Misasked(ValueError):
    """It cannot be answered as it was asked. Its text is the sentence that the operator reads."""


class ReportDesk(Protocol):
    """Reports, as the admin API sees them; what is asked and answered is in docs/reports.md. Misasked, or Failed when the ledger cannot
    say it."""

    async def report(self, asked: dict[str, Any]) -> dict[str, Any]:
        """{"questions": [question]} → {"reports": [report], "absent": [archive]}, all of one moment. absent: what is missing in them."""

    async def capacity(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A question → {"capacity": {"channels", "rows", "others", "idle", "total", …}}."""

    async def budgets(self) -> dict[str, Any]:
        """{"budgets": [{"scope", "owner", "budget", "spent", "left", "percent", "forecast", …}]}, the fullest first."""

    async def forecast(self, asked: dict[str, Any]) -> dict[str, Any]:
        """{"by", "where", "zone", "top", "per"} → {"forecast": {"rows", "other", "total", …}}."""

    async def reprice(self, asked: dict[str, Any], *, by: str) -> dict[str, Any]:
        """{"since", "until", "models", "dry"} → {"repriced": {"requests", "changed", "archived", "changes", …}}."""

    async def write(self, asked: dict[str, Any], form: Literal["csv", "json", "parquet"]) -> AsyncIterator[bytes]:
        """A question's whole answer as a file in pieces."""


class LedgerDesk(Protocol):
    """The ledger, as the admin API sees it. Failed when it cannot be done now."""

    def status(self) -> dict[str, Any]:
        """{"path", "state": ok, behind or failing, "trouble", "rows", "waiting", "lag", "archives", …}; see docs/ledger.md."""

    async def verify(self) -> dict[str, Any]:
        """Reads everything: {"ok", "wrong": [sentence], "rows", "seconds"}."""

    async def compact(self, *, by: str) -> dict[str, Any]:
        """Gives unused space back: {"before", "after"}, bytes."""

    async def archive(self, *, by: str) -> dict[str, Any]:
        """Archives every month that is over: {"archived": [{"name", "month", "rows", "bytes"}]}."""

    async def rebuild(self, force: bool, *, by: str) -> dict[str, Any]:
        """Everything anew from archives and the journal: {"rebuilt", "lost": month -> requests, "rows"}. What would lose
        something is not done unless forced."""

    async def export(self, form: Literal["csv", "json", "parquet"], since: float, until: float) -> AsyncIterator[bytes]:
        """Requests that began from `since` until before `until` (Unix seconds), as a file in pieces."""

    async def copy(self) -> AsyncIterator[bytes]:
        """The database, archives apart, as a file in pieces: everything of one moment."""


class TruthDesk(Protocol):
    """What engines counted against what the ledger has. Failed when the ledger cannot say now."""

    async def reconcile(self, since: float, channel: str = "") -> list[dict[str, Any]]:
        """Hours since then by channel, the newest first: {"hour", "channel", "state", "engine", "ledger", "drift", …}; see
        docs/reconciliation.md."""

    async def anomalies(self, since: float, sensitivity: str) -> list[dict[str, Any]]:
        """Hours since then that are out of the ordinary, the newest first: {"hour", "what", "by", "name", "kind", "value", "baseline",
        "times", "deviations"}."""


class Desk(Protocol):
    """Control, as the admin API sees it.

    Dictionaries are what goes over the wire: JSON types, msgspec structs and dataclasses. `by` names the caller
    (`root (uid 0, pid 4711)`), for the logs and the history. The answer of an act that is not in the audit log has
    `unaudited`, a sentence why. Any method may raise NoSuch, NotReady, Failed or
    gateway.errors.ConfigError; anything else is our bug and becomes a 500.
    """

    @property
    def books(self) -> LedgerDesk: ...

    @property
    def reports(self) -> ReportDesk: ...

    @property
    def truth(self) -> TruthDesk: ...

    def status(self) -> dict[str, Any]:
        """Version, node, state, revision, config, processes, listeners, journal and counts; see docs/cli.md."""

    async def reload(self, act: int | None = None, *, undone: bool = False, by: str) -> dict[str, Any]:
        """Read the files and swap. Returns when every worker swapped, or none did:
        {"ok", "rev", "changed", "mistakes": [Mistake], "message", "changes": [str]}. act: what was announced, and ends with this.
        undone: its edit is taken back when it is refused, so that nobody else needs to hear of it."""

    def announce(self, what: str, spare: list[str], *, by: str) -> int:
        """Files are about to be edited: until the reload with this number, the watcher of files holds still. spare: ids of keys whose open
        requests may end in peace when their key is gone."""

    async def upgrade(self, to: str, *, by: str) -> dict[str, Any]:
        """Become the version whose executable is `to` (empty: where the present one was started from). Returns when it is about to:
        {"version": the present one, "upgrades": how many there were}; `processes` in status says how it goes on."""

    def freezes(self) -> list[dict[str, Any]]:
        """What is frozen: {"kind", "name", "by", "since", "reason"}."""

    async def freeze(self, kind: str, name: str, reason: str, *, by: str) -> dict[str, Any]:
        """Stop a tenant, project, key, model, or everything. Returns when every worker was told: as in `freezes`, and {"changed", "deaf":
        slots of workers that did not answer, "unwritten": why a restart would forget it}. NoSuch for what is not configured."""

    async def unfreeze(self, kind: str, name: str, *, by: str) -> dict[str, Any]:
        """Take it back: {"kind", "name", "changed", "deaf", "frozen": what still is}."""

    async def audit(self, *, last: int, since: float = 0.0, by: str = "") -> list[dict[str, Any]]:
        """The newest lines of the audit log that match, the oldest first: {"ts", "by", "uid", "what", "before", "after", "ok", "message",
        "rev"}."""

    def alerts(self) -> dict[str, Any]:
        """{"alerts": [{"id", "rule", "kind", "severity", "labels", "state": pending | firing | resolved, "since", "fired", "resolved",
        "told", "value", "text", "to", "silenced": id of a silence}],
        "silences": [{"id", "labels", "since", "until", "by", "comment", "covers"}],
        "sinks", "rules", "unwritten": why a restart would forget it}."""

    async def silence(self, labels: dict[str, str], seconds: float, comment: str, *, by: str) -> dict[str, Any]:
        """Tell nobody of alerts with these labels (globs): the silence, and {"unwritten"}. NoSuch for labels that no alert has."""

    async def unsilence(self, id: str, *, by: str) -> dict[str, Any]:
        """Take it back: the silence that was. NoSuch."""

    async def test_alert(self, sink: str, kind: str, *, by: str) -> dict[str, Any]:
        """Send a test to one sink, or to all that hear of a kind, "" = to all: {"results": [{"sink", "ok", "said"}]}. NoSuch."""

    def history(self) -> list[dict[str, Any]]:
        """Revisions, oldest first: {"rev", "ts", "digest", "by", "running", …}."""

    def damaged(self) -> Sequence[str]:
        """Why revisions that are kept and not in the history cannot be had."""

    def back(self) -> tuple[int, str]:
        """The revision that a rollback without a number leads to, and why; 0: none, and why."""

    async def rollback(self, rev: int | None, *, by: str) -> dict[str, Any]:
        """Make `rev` (None: see `back`) current again. Answers like reload; NoSuch for an unknown one."""

    def running(self) -> tuple[Resolved, list[Key]]:
        """What is live. The API takes the secrets out before it answers."""

    def channels(self) -> list[dict[str, Any]]:
        """Channels as they are live: {"name", "engine", "detected", "model", "usage", "registry", "endpoints": as in health}."""

    def channel(self, name: str) -> dict[str, Any]:
        """One of them, with more: {…, "models", "drained", "drained_unlisted", "limits", "breaker", "wedged_after", "capacity"}; NoSuch."""

    async def drain(self, name: str, endpoint: str | None, seconds: float | None, *, by: str) -> dict[str, Any]:
        """Take a channel, or one endpoint of it, out of service, for `seconds` or until undrain. Returns when every worker was
        told: as `channel`, and {"deaf": slots of workers that did not answer, "left": models without an endpoint}."""

    async def undrain(self, name: str, endpoint: str | None, *, by: str) -> dict[str, Any]:
        """Take it back: as `channel`, and {"changed", "deaf"}."""

    async def probe(self, name: str, *, by: str) -> dict[str, Any]:
        """Ask a channel's endpoints who they are: {"name", "endpoints": [probe result]}; NoSuch for an unknown channel."""

    def models(self) -> list[dict[str, Any]]:
        """Virtual models: {"name", "aliases", "policy", "targets": [{"channel", "model", "weight"}], …}."""

    def routes(self) -> list[dict[str, Any]]:
        """Virtual models with their targets, rules and fallbacks."""

    def route(self, name: str) -> dict[str, Any]:
        """One of them, with its endpoints' states; NoSuch for an unknown one."""

    async def explain(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where a request would go and why; see `explainer.Asked` for what may be asked. NoSuch for what is not there."""

    def key(self, id: str) -> dict[str, Any]:
        """What a key may do now: see `auth.told`, and {"limits": as in `limits`, those that its requests may come under}. NoSuch."""

    def limits(self) -> list[dict[str, Any]]:
        """Every limit that is configured: {"scope", "owner", "name", "count", "max", "per", "zone", "during", "outside", "each",
        "models", "shadow", "currency"}."""

    async def counters(self, *, key: str = "", tenant: str = "", model: str = "") -> list[dict[str, Any]]:
        """The counters of those that match, the fullest first: as `limits`, and {"value": whose, "applies": now, "used", "left",
        "frees": seconds until nothing is used, "top": [{"key", "used"}], "refused", "shadow_refused"}. NoSuch for unknown names."""

    def health(self) -> dict[str, Any]:
        """{"endpoints": [{"channel", "url", "state", "since", "why", "in_flight", "ttft", "errors"}]}.

        state: `up`, `degraded`, `busy`, `ejected`, `wedged`, `draining`, `down`. since: Unix seconds. why: a short sentence when
        it is not up. ttft: milliseconds, recent average. What is not known is null. endpoint "": the channel's registry lists none.
        """

    async def records(self, *, limit: int, after: str | None = None) -> list[dict[str, Any]]:
        """The newest `limit` done-records, oldest first; only those after the id `after` when it is given."""

    async def record(self, id: str) -> dict[str, Any] | None:
        """The done-record with this id, id prefix or request id. Misasked: several ids begin so."""

    def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Done-records as they are written, until the iterator is closed."""
