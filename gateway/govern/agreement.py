"""Control's end of the agreement on endpoints: one word on each, out of what its looks find, what operators drain and what
workers meet; told to all workers at once. Decides nothing about requests.

A worker's event goes to every worker, back to itself too: so all end with what control heard last, whoever spoke first.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.admin.desk import NoSuch
from gateway.bus.frames import frame
from gateway.bus.hearing import Hearing
from gateway.bus.server import BusServer, Link
from gateway.config import fields
from gateway.config.resolved import Channel
from gateway.discover.drains import WHOLE, Drain, Drains
from gateway.discover.endpoints import Endpoints
from gateway.discover.look import BUSY, DEGRADED, DOWN, DRAINING, EJECTED, NEW, UP, WEDGED, Look
from gateway.moment import stroke
from gateway.route.breaker import BARRED
from gateway.steady import Pace

log = logging.getLogger("gateway.agreement")

Key = tuple[str, str]
"""Channel's name, endpoint's URL."""
FORGOTTEN: Final = 5.0
"""Seconds after its cooldown in which workers must have reported an ejected endpoint as such."""
TOGETHER: Final = 0.05
"""Seconds that figures wait for others, to go in one frame."""
UNREACHED: Final = frozenset({"connect", "tls", "timeout_connect"})
"""Reasons of an ejection that a look disproves as well as a request."""
VERDICTS: Final = ("", NEW, WEDGED, DOWN, DRAINING)
"""The last one counts. Who is down is still tried when nobody else is left, who is drained is not, down or not."""


@dataclass(slots=True)
class Ejection:
    """since: wall clock. until: monotonic, when the endpoint may have its trial. slot: of the worker whose trial comes first."""

    since: float
    until: float
    reason: str
    slot: int


@dataclass(frozen=True, slots=True)
class Word:
    """What workers are told of an endpoint. since: monotonic. down: its looks say so, whatever workers are told."""

    verdict: str
    why: str
    since: float
    down: bool = False


class Agreement:
    """What all workers act on."""

    def __init__(
        self, endpoints: Endpoints, drains: Drains, bus: BusServer, workers: Callable[[], int], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """workers: how many there should be."""
        self.drains = drains
        self._endpoints = endpoints
        self._bus = bus
        self._now = now
        self._born = now()
        self._pace = Pace(time.time(), now())
        self._words: dict[Key, Word] = {}
        self._ejections: dict[Key, Ejection] = {}
        self._lengths: dict[Key, dict[str, int]] = {}
        self._soon: set[Key] = set()
        self._measured: set[Key] = set()
        self._flushing: asyncio.TimerHandle | None = None
        self._number = 0
        self._hearing = Hearing(bus, "heard", workers, now=now)
        self._draining = asyncio.Lock()
        self._bar: Callable[[str, str, bool], None] = lambda channel, url, barred: None
        self._ejected: dict[Key, Counter[str]] = {}
        """How often since control was started, by reason."""
        endpoints.on_seen = self._seen
        endpoints.on_adopted = self.refresh
        bus.on("state", self._event)
        bus.on("trial", self._pass_on)
        bus.on("rests", self._pass_on)
        bus.greet(self._greet)
        self.refresh()

    # -- what is known --------------------------------------------------------------------------------------------------

    def ejection(self, channel: str, url: str) -> Ejection | None:
        return self._ejections.get((channel, url))

    def tell_barred(self, bar: Callable[[str, str, bool], None]) -> None:
        """`bar` is called with each endpoint to which nothing may be sent, and when that changes."""
        self._bar = bar
        for key, word in self._words.items():
            bar(*key, word.verdict in BARRED)

    def ejections(self, channel: str, url: str) -> dict[str, int]:
        """How often it was ejected since control was started, by reason."""
        return dict(self._ejected.get((channel, url), ()))

    def _word(self, key: Key, look: Look, now: float) -> Word | None:
        """None: there is nothing to say yet."""
        drain = self.drains.of(*key)
        found = [(look.verdict, look.why)] if look.known else []
        if drain is not None:
            found.append((DRAINING, told(drain)))
        if not found:
            return None
        verdict, why = max(found, key=lambda one: VERDICTS.index(one[0]))
        before = self._words.get(key)
        if before is not None and before.verdict == verdict:
            since = before.since
        else:
            since = now
        return Word(verdict, why if verdict else "", since, look.verdict == DOWN)

    # -- from looks and operators -----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Other endpoints, or other drains: what changed by that is told."""
        now, looks = self._now(), self._endpoints.looks()
        gone = set()
        for kept in (self._words, self._ejections, self._lengths, self._ejected):
            for key in kept.keys() - looks.keys():
                del kept[key]
                gone.add(key)
        for key, look in looks.items():
            self._lengths.setdefault(key, look.context_lengths)
        self._tell([key for key, look in looks.items() if self._changes(key, look, now)], gone)

    def _seen(self, look: Look, figures: bool) -> None:
        key = (look.channel.name, look.endpoint.url)
        if self._endpoints.looks().get(key) is not look:
            return
        now = self._now()
        if self._changes(key, look, now) or self._reached(key, look):
            self._tell([key])
        lengths = look.context_lengths
        if lengths != self._lengths.get(key, {}):
            self._lengths[key] = lengths
            self._soon.add(key)
        if figures:
            self._measured.add(key)
        if (self._soon or self._measured) and self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(TOGETHER, self._flush)

    def _flush(self) -> None:
        """What was measured in the last moment goes in one frame."""
        self._flushing = None
        now, looks = self._now(), self._endpoints.looks()
        figures = [self._figures(key, looks[key], now) for key in self._measured if key in looks]
        lengths = [[*key, self._lengths[key]] for key in self._soon if key in self._lengths]
        self._measured.clear()
        self._soon.clear()
        self._bus.broadcast(frame("vitals", figures=figures, lengths=lengths))

    def _changes(self, key: Key, look: Look, now: float) -> bool:
        word, before = self._word(key, look, now), self._words.get(key)
        if word is None and before is not None:
            word = Word("", "", now)  # its drain is over, and no look was there yet
        if word is None or (before is not None and (word.verdict, word.why, word.down) == (before.verdict, before.why, before.down)):
            return False
        if before is not None and before.down and not word.down and self._ejections.pop(key, None) is not None:
            log.info("channel %s: %s begins anew: it was down since it was ejected", *key)
        self._words[key] = word
        return True

    def _reached(self, key: Key, look: Look) -> bool:
        """Whether it is ejected no more: nobody could connect, and after its cooldown a look did. In a quiet hour no request tries it."""
        out = self._ejections.get(key)
        if out is None or out.reason not in UNREACHED or look.reached < out.until or look.verdict:
            return False
        del self._ejections[key]
        log.info("channel %s: %s serves again, a look has reached it", *key)
        return True

    @staticmethod
    def _figures(key: Key, look: Look, now: float) -> list[Any]:
        load = look.vitals.load
        return [*key, load.running, load.waiting, load.kv_use, round(max(0.0, now - look.vitals.at), 3)]

    # -- from and to workers ----------------------------------------------------------------------------------------------

    def _event(self, link: Link, message: dict[str, Any]) -> None:
        key = (message["channel"], message["endpoint"])
        if key not in self._endpoints.looks():
            return  # of a revision that is gone
        before = self._ejections.get(key)
        if message["event"] == "ejected" and before is None and self._half_out(key):
            log.info("channel %s: %s stays in, half of its channel is ejected already", *key)
            link.send(frame("stays", channel=key[0], endpoint=key[1]))
            link.send(self._states([other for other in self._ejections if other[0] == key[0]], whole=False))  # for them there is room now
            return
        elif message["event"] == "ejected":
            reason, now = message["reason"], self._now()
            since = before.since if before is not None else time.time()
            slot = link.slot if before is None or before.until <= now else before.slot
            self._ejections[key] = Ejection(since, now + message["remaining"], reason, slot)
            if before is None or before.until <= now:  # else two workers met the same
                self._ejected.setdefault(key, Counter())[reason] += 1
                seconds = message["remaining"]
                log.warning("channel %s: %s is ejected for %.0f s by worker-%d: %s", *key, seconds, link.slot, reason)
        elif before is not None:
            del self._ejections[key]
            log.info("channel %s: %s serves again, says worker-%d", *key, link.slot)
        self._tell([key])

    def _pass_on(self, link: Link, message: dict[str, Any]) -> None:
        """A trial: one is enough, the other workers wait for what comes of it. An engine that asked for rest: it asked all of them."""
        self._bus.broadcast(frame(**message, slot=link.slot))

    def _half_out(self, key: Key) -> bool:
        """Whether as many of a channel's endpoints are ejected as may be at once. Each worker sees to that for itself; two that
        eject different ones in the same moment are told here which of them stays in."""
        size = sum(channel == key[0] for channel, _ in self._endpoints.looks())
        return sum(channel == key[0] for channel, _ in self._ejections) >= max(1, size // 2)

    def _tell(self, keys: Iterable[Key], gone: Iterable[Key] = ()) -> None:
        for key in (*keys, *gone):
            word = self._words.get(key)
            self._bar(*key, word is not None and word.verdict in BARRED)
        if keys or gone:
            self._number += 1
            self._bus.broadcast(self._states(keys, gone, whole=False))

    def _states(self, keys: Iterable[Key], gone: Iterable[Key] = (), *, whole: bool) -> bytes:
        now, entries, turns = self._now(), [], []
        for key in keys:
            word = self._words.get(key) or Word("", "", now)
            out = self._ejections.get(key)
            left = None if out is None else round(max(0.0, out.until - now), 3)
            if out is not None:
                turns.append([*key, out.slot])
            entries.append([*key, word.verdict, word.why, round(now - word.since, 3), left, out.reason if out else ""])
        age = round(now - self._born, 3)
        return frame("states", number=self._number, whole=whole, age=age, entries=entries, turns=turns, gone=[*gone])

    def _greet(self, link: Link) -> None:
        """All that there is to say, for a worker that (re)connects."""
        now, looks = self._now(), self._endpoints.looks()
        link.send(self._states(self._words.keys() | self._ejections.keys(), whole=True))
        figures = [self._figures(key, look, now) for key, look in looks.items() if look.vitals.figures(now).running is not None]
        lengths = [[*key, found] for key, found in self._lengths.items() if found]
        link.send(frame("vitals", figures=figures, lengths=lengths))

    # -- drains -----------------------------------------------------------------------------------------------------------

    async def drain(self, channel: Channel, endpoint: str | None, *, by: str, seconds: float | None) -> list[int]:
        """Takes a channel or one endpoint of it out of service. Returns when every worker was told: the slots of those that did
        not answer. Raises NoSuch, OSError."""
        now = time.time()
        url = self.named(channel, endpoint)
        drain = Drain(channel=channel.name, endpoint=url, by=by, since=now, until=None if seconds is None else now + seconds)
        async with self._draining:
            await asyncio.to_thread(self.drains.add, drain)
        log.warning("channel %s: %s is drained %s", channel.name, url or "all of it", told(drain).removeprefix("drained "))
        self.refresh()
        return await self._hearing.all_heard(self._number)

    async def undrain(self, channel: Channel, endpoint: str | None, *, by: str) -> tuple[bool, list[int]]:
        """Takes a drain back. Returns whether there was one, and as `drain`. Raises NoSuch, also when the whole channel is drained
        and an endpoint was named; and OSError."""
        url = self.named(channel, endpoint)
        if url != WHOLE and self.drains.whole(channel.name):
            raise NoSuch(f"the whole channel {channel.name} is drained: it is taken back as a whole, without --endpoint")
        async with self._draining:
            changed = await asyncio.to_thread(self.drains.remove, channel.name, url)
        if changed:
            log.warning("channel %s: %s is no longer drained (%s)", channel.name, url or "all of it", by)
        self.refresh()
        return changed, await self._hearing.all_heard(self._number)

    def named(self, channel: Channel, endpoint: str | None) -> str:
        """As `url_of`; all that `channels show` has may be meant: what a registry only lists, what it lists no more and is drained
        or still has requests. Raises NoSuch."""
        others = [url for name, url in self._endpoints.looks() if name == channel.name]
        others += [one.endpoint for one in self.drains.of_channel(channel.name) if one.endpoint]
        met = (seen for link in self._bus.links.values() for seen in link.health.get("endpoints", ()))
        return url_of(channel, endpoint, [*others, *(seen["endpoint"] for seen in met if seen["channel"] == channel.name)])

    async def keep(self) -> None:
        """Takes back, for ever, the drains whose time is over, and ejections that nobody knows of."""
        while True:
            await self.keep_pace(time.time())
            if self.drains.over(time.time()):
                async with self._draining:
                    over = await asyncio.to_thread(self.drains.expire, time.time())
                for drain in over:
                    log.warning("channel %s: %s is no longer drained: its time is over", drain.channel, drain.endpoint or "all of it")
                self.refresh()
            self.settle()
            await stroke(1.0)

    async def keep_pace(self, wall: float) -> None:
        """When the clock was put forward or back, no state of an endpoint is older or younger for it, and no drain's time is over sooner
        or later. wall: Unix seconds."""
        if jump := self._pace.jump(wall, self._now()):
            for look in self._endpoints.looks().values():
                look.since += jump
            for out in self._ejections.values():
                out.since += jump
            async with self._draining:
                await asyncio.to_thread(self.drains.shift, jump)
            self.refresh()

    def settle(self) -> None:
        """Forgets ejections that no worker has any more, though none reported a recovery: half of a channel was out already, say."""
        now, links = self._now(), self._bus.links.values()
        late = [key for key, out in self._ejections.items() if now - out.until > FORGOTTEN]
        if not late or not all(link.health for link in links) or not links:
            return
        met = ((seen["channel"], seen["endpoint"], seen["state"]) for link in links for seen in link.health.get("endpoints", ()))
        out = {(channel, url) for channel, url, state in met if state not in (UP, DEGRADED, BUSY)}
        over = [key for key in late if key not in out]
        for key in over:
            del self._ejections[key]
        self._tell(over)

    def state(self, channel: str, url: str) -> list[tuple[str, str, float]]:
        """What is known here beside the look: state, why, since (wall clock)."""
        found = []
        out, drain = self.ejection(channel, url), self.drains.of(channel, url)
        if out is not None:
            trial = "" if out.until > self._now() else "; on trial"
            found.append((EJECTED, out.reason + trial, out.since))
        if drain is not None:
            found.append((DRAINING, told(drain), drain.since))
        return found


def url_of(channel: Channel, endpoint: str | None, others: Iterable[str] = ()) -> str:
    """The endpoint that is meant, by its URL or its host and port; WHOLE for none. others: URLs that may be meant beside the
    channel's own. Raises NoSuch."""
    if endpoint is None:
        return WHOLE
    asked = endpoint.rstrip("/")
    for url in (*(one.url for one in channel.endpoints), *others):
        at = fields.url_of(url)
        if asked in (url.rstrip("/"), f"{at.host}:{at.port}", f"[{at.host}]:{at.port}"):
            return url
    known = ", ".join(one.url for one in channel.endpoints[:5]) or "none"
    raise NoSuch(f"channel {channel.name} has no endpoint {endpoint!r}; it has {known}")


def told(drain: Drain) -> str:
    """One sentence: by whom, and until when, with the zone: who reads it may live in another one than the service."""
    if drain.until is None:
        return f"drained by {drain.by}"
    return f"drained by {drain.by} until {datetime.fromtimestamp(drain.until).astimezone().isoformat(sep=' ', timespec='seconds')}"
