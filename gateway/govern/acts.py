"""What an operator may change in a running gateway, and the line in the audit log for each of these acts, however it went."""

import time
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway import __version__
from gateway.admin.audit import Audit, sides
from gateway.admin.desk import Failed, NoSuch
from gateway.auth.freezes import ALL, KEY, MODEL, PROJECT, TENANT, Freeze
from gateway.govern.office import Office
from gateway.govern.recount import names
from gateway.govern.rollout import Outcome

Done = tuple[dict[str, Any], Any, str]
"""The answer, what is after, and what else is to be said."""


class Acts(Office):
    """Control's whole desk: what may be looked at, and what may be changed."""

    # -- the configuration ------------------------------------------------------------------------------------------

    async def reload(self, act: int | None = None, *, undone: bool = False, by: str) -> dict[str, Any]:
        """act: the number of the announced act that ends with this. undone: gatewayctl takes its edit back when it is refused."""
        announced = self._control.announced
        known = announced.begin(act) if act is not None else None
        if act is None or known is None:
            return (await self._control.reload(by=by, why="gatewayctl reload")).told()
        served = False
        try:
            outcome = await self._control.reload(by=by, why=f"gatewayctl {known.what}", what=known.what, undone=undone)
            served = outcome.ok
        finally:
            announced.end(act, undone=not served)
        return outcome.told()

    def announce(self, what: str, spare: list[str], *, by: str) -> int:
        return self._control.announced.announce(what, spare, by=by)

    async def rollback(self, rev: int | None, *, by: str) -> dict[str, Any]:
        try:
            restored, said = self._control.rollout.restore(rev)
        except Exception as error:
            what = "rollback" if rev is None else f"rollback {rev}"
            await self._control.audit.note(what, by=by, ok=False, message=str(error), rev=self._control.rollout.rev)
            if isinstance(error, OSError):
                why = f"the gateway's user cannot write {error.filename}: {error.strerror}"
                raise Failed(f"{why}. Who may write it can: sudo gatewayctl config rollback") from error
            raise
        outcome = await self._control.reload(by=by, why=f"rollback to revision {restored}", what=f"rollback {restored}")
        return {**outcome.told(), "restored": said}

    # -- channels -----------------------------------------------------------------------------------------------------

    async def probe(self, name: str, *, by: str) -> dict[str, Any]:
        async def doing() -> Done:
            self._known(name)
            found = await self._control.endpoints.probe_channel(name)
            return found, {one["url"]: bool(one.get("reachable")) for one in found.get("endpoints", ())}, ""

        return await self._noted(f"channels probe {name}", by, None, doing())

    async def drain(self, name: str, endpoint: str | None, seconds: float | None, *, by: str) -> dict[str, Any]:
        async def doing() -> Done:
            try:
                deaf = await self._control.agreement.drain(self._known(name), endpoint, by=by, seconds=seconds)
            except OSError as error:
                raise Failed(f"the drain cannot be written down, so nothing was changed: {error.strerror or error}") from error
            url = self._control.agreement.named(self._known(name), endpoint)
            return {**self.channel(name), "endpoint": url, "deaf": deaf, "left": self._left(name)}, self._drained(name), _deaf(deaf)

        return await self._noted(_named("channels drain", name, endpoint), by, self._drained(name), doing())

    async def undrain(self, name: str, endpoint: str | None, *, by: str) -> dict[str, Any]:
        async def doing() -> Done:
            try:
                changed, deaf = await self._control.agreement.undrain(self._known(name), endpoint, by=by)
            except OSError as error:
                raise Failed(f"this cannot be written down, so nothing was changed: {error.strerror or error}") from error
            told = _deaf(deaf) if changed else "it was not drained"
            return {**self.channel(name), "changed": changed, "deaf": deaf}, self._drained(name), told

        return await self._noted(_named("channels undrain", name, endpoint), by, self._drained(name), doing())

    def _drained(self, channel: str) -> Any:
        return [msgspec.to_builtins(one) for one in self._control.agreement.drains.of_channel(channel)] or None

    # -- another version ------------------------------------------------------------------------------------------------

    async def upgrade(self, to: str, *, by: str) -> dict[str, Any]:
        async def doing() -> Done:
            trouble, upgrades = await self._control.upgrade(to)
            if trouble:
                raise Failed(trouble)
            return {"version": __version__, "upgrades": upgrades}, None, to

        return await self._noted("upgrade", by, __version__, doing())

    # -- the kill switch ------------------------------------------------------------------------------------------------

    async def freeze(self, kind: str, name: str, reason: str, *, by: str) -> dict[str, Any]:
        name = self._own(kind, name)
        was = self._control.freezing.find(kind, name)

        async def doing() -> Done:
            self._must_exist(kind, name)
            wanted = Freeze(kind=kind, name=name, by=by, since=round(time.time(), 3), reason=reason)
            frozen, deaf = await self._control.freezing.freeze(wanted)
            after, unwritten = msgspec.to_builtins(frozen), self._control.freezing.unwritten
            answer = {**after, "changed": was is None, "deaf": deaf, "unwritten": unwritten}
            return answer, after, "; ".join(filter(None, (_deaf(deaf), unwritten)))

        return await self._noted(f"freeze {kind} {name}".rstrip(), by, msgspec.to_builtins(was), doing())

    async def unfreeze(self, kind: str, name: str, *, by: str) -> dict[str, Any]:
        freezing = self._control.freezing
        name = name if freezing.find(kind, name) is not None else self._own(kind, name)
        before = msgspec.to_builtins(freezing.find(kind, name))

        async def doing() -> Done:
            try:
                was, deaf = await freezing.unfreeze(kind, name, by=by)
            except OSError as error:
                why = f"{error.filename or 'freezes.json'} cannot be written, and a restart would freeze it again, so it stays frozen"
                raise Failed(f"{why}: {error.strerror or error}") from error
            answer = {"kind": kind, "name": name, "changed": was is not None, "deaf": deaf, "frozen": self.freezes()}
            return answer, None, _deaf(deaf) if was is not None else "it was not frozen"

        return await self._noted(f"unfreeze {kind} {name}".rstrip(), by, before, doing())

    def _own(self, kind: str, name: str) -> str:
        """The name; of a model its own, which callers may know by another; of everything none."""
        return names(self._config())(name) if kind == MODEL else "" if kind == ALL else name

    def _must_exist(self, kind: str, name: str) -> None:
        """Raises NoSuch when the configuration has nothing of it: a switch that stops nobody is none."""
        config = self._config()
        known: dict[str, Iterable[str]] = {
            TENANT: config.tenants,
            PROJECT: [f"{tenant}/{project}" for tenant, projects in config.tenants.items() for project in projects],
            KEY: [key.id for key in self._control.rollout.keys],
            MODEL: config.models,
            ALL: [""],
        }
        if name not in known[kind]:
            raise NoSuch.named(kind, name, known[kind])

    # -- alerts -------------------------------------------------------------------------------------------------------

    async def silence(self, labels: dict[str, str], seconds: float, comment: str, *, by: str) -> dict[str, Any]:
        async def doing() -> Done:
            made = await self._control.alerting.silence(labels, seconds, comment, by=by)
            return made, _told_silence(made), made["unwritten"]

        return await self._noted(f"alerts silence {_pairs(labels)}", by, None, doing())

    async def unsilence(self, id: str, *, by: str) -> dict[str, Any]:
        before = _told_silence(msgspec.to_builtins(self._control.alerting.find(id)))

        async def doing() -> Done:
            gone = await self._control.alerting.unsilence(id)
            return gone, None, gone["unwritten"]

        return await self._noted(f"alerts unsilence {id}", by, before, doing())

    async def test_alert(self, sink: str, kind: str, *, by: str) -> dict[str, Any]:
        async def doing() -> Done:
            results = await self._control.alerting.test(sink, kind)
            return {"results": results}, None, "; ".join(f"{one['sink']}: {one['said'] or 'ok'}" for one in results)

        return await self._noted(f"alerts test {sink} {kind}".rstrip(), by, None, doing())

    # -- the audit log --------------------------------------------------------------------------------------------------

    async def _noted(self, what: str, by: str, before: Any, doing: Awaitable[Done]) -> dict[str, Any]:
        """Does it and writes its line. The answer says so, when that could not be written."""
        audit, rev = self._control.audit, self._control.rollout.rev
        try:
            answer, after, message = await doing
        except Exception as error:
            await audit.note(what, by=by, before=before, after=before, ok=False, message=str(error), rev=rev)
            raise
        unaudited = await audit.note(what, by=by, before=before, after=after, message=message, rev=rev)
        return {**answer, "unaudited": unaudited} if unaudited else answer


async def note_reload(audit: Audit, outcome: Outcome, what: str, *, by: str) -> None:
    """The line of a change of the configuration, whoever began it. That nothing changed is said only of people."""
    if outcome.ok and not outcome.changed and by == "gateway":
        return
    before, after = sides(outcome.changes)
    outcome.unaudited = await audit.note(what, by=by, before=before, after=after, ok=outcome.ok, message=outcome.message, rev=outcome.rev)


def _named(what: str, channel: str, endpoint: str | None) -> str:
    return f"{what} {channel}{f' --endpoint {endpoint}' if endpoint else ''}"


def _pairs(labels: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())


def _told_silence(silence: dict[str, Any] | None) -> dict[str, Any] | None:
    if silence is None:
        return None
    until = datetime.fromtimestamp(silence["until"], UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"silence": silence["id"], "labels": _pairs(silence["labels"]), "until": until, "comment": silence.get("comment", "")}


def _deaf(slots: list[int]) -> str:
    return f"no answer from {', '.join(f'worker-{slot}' for slot in slots)}" if slots else ""
