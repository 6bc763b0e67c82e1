"""A worker's end of the agreement on endpoints: tells control at once what its breakers did, and does as control says of all workers.

What control says outlives a snapshot, so it is kept here, and applied anew where a swap or a registry brings other endpoints.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.bus.client import BusClient
from gateway.bus.frames import frame
from gateway.moment import comes
from gateway.serve.live import ChannelLive, EndpointLive

Key = tuple[str, str]
"""Channel's name, endpoint's URL."""
NOBODY: Final = -1
"""The ticket of no request of ours."""
A_MOMENT: Final = 0.001
"""Seconds: an ejection whose cooldown is over still wants a trial first, so it is not taken over as none at all."""


@dataclass(slots=True)
class Told:
    """What control says of an endpoint. since and until: monotonic; until: when it may be tried, None = not ejected."""

    verdict: str = ""
    why: str = ""
    since: float = 0.0
    until: float | None = None
    reason: str = ""
    turn: int = -1
    """The slot of the worker whose trial comes first; -1 = nobody's."""


@dataclass(slots=True)
class Event:
    """What control was to hear and did not: `ejected` or `recovered`."""

    event: str
    reason: str


@dataclass(slots=True)
class Watch:
    """channels: those of the present snapshot."""

    channels: Callable[[], Mapping[str, ChannelLive]]
    measured: Callable[[], None] = lambda: None
    """Called when context lengths became known."""
    changed: Callable[[], None] = lambda: None
    """Called when endpoints may have been taken out of service."""
    now: Callable[[], float] = time.monotonic
    _say: Callable[[bytes], bool] = lambda data: False
    _slot: int = -1
    _told: dict[Key, Told] = field(default_factory=dict)
    _lengths: dict[Key, dict[str, int]] = field(default_factory=dict)
    _obey: dict[Key, Any] = field(default_factory=dict)
    """The breakers that act as `_told` says."""
    _unheard: dict[Key, Event] = field(default_factory=dict)
    _greeted: asyncio.Event = field(default_factory=asyncio.Event)

    def connect(self, bus: BusClient) -> None:
        """Before the bus runs."""
        self._say, self._slot = bus.say, bus.slot
        bus.on("states", self._states)
        bus.on("vitals", self._vitals)
        bus.on("stays", self._stays)
        bus.on("trial", self._trial)
        bus.on("rests", self._rests)

    async def greeted(self, patience: float) -> None:
        """Until control has said what there is to know, for so many seconds at most: it may be down."""
        await comes(self._greeted, patience)

    # -- to control -----------------------------------------------------------------------------------------------------

    def notice(self, channel: str, url: str, event: str, reason: str, remaining: float) -> None:
        """A breaker of ours ejected (`remaining` seconds of it are left) or recovered an endpoint, begins a trial of it, or lets it rest
        for `remaining` seconds, as its engine asked."""
        if event in ("trial", "rests"):  # of no use when control is away
            self._say(frame(event, channel=channel, endpoint=url, remaining=remaining))
        elif self._say(frame("state", channel=channel, endpoint=url, event=event, reason=reason, remaining=remaining)):
            self._unheard.pop((channel, url), None)
        else:
            self._unheard[channel, url] = Event(event, reason)

    # -- from control ---------------------------------------------------------------------------------------------------

    def adopt(self, channels: Mapping[str, ChannelLive]) -> None:
        """Other endpoints are about to serve: those that control has spoken of begin as it said."""
        now = self.now()
        here = {key: at for key, at in _endpoints(channels)}
        for key, at in here.items():
            if (told := self._told.get(key)) is not None and self._obey.get(key) is not at.breaker:
                self._apply(at, told, Told(), now)
                self._obey[key] = at.breaker
            if (lengths := self._lengths.get(key)) is not None:
                _fill(at.lengths, lengths)
        for key in self._obey.keys() - here.keys():
            del self._obey[key]

    def _states(self, message: dict[str, Any]) -> None:
        """Entries: channel, URL, verdict, why, its age, seconds until the ejected one may be tried (None = not ejected), reason.

        turns: of ejected ones, whose trial comes first.

        A whole list comes when we (re)connect. What it does not name, control has not looked at yet: there the old word counts,
        unless nobody serves there any more. gone: endpoints that control knows no longer.
        """
        now = self.now()
        told = {
            (channel, url): Told(verdict, why, now - age, None if left is None else now + left, reason)
            for channel, url, verdict, why, age, left, reason in message["entries"]
        }
        for channel, url, slot in message.get("turns", ()):
            told[channel, url].turn = slot
        if message["whole"]:
            self._speak_up(told, now - message["age"], now)
            for key in self._told.keys() - told.keys() - dict(_endpoints(self.channels())).keys():
                self._forget(key)
        for channel, url in message["gone"]:
            self._forget((channel, url))
        for key, one in told.items():
            before, self._told[key] = self._told.get(key, Told()), one
            if (at := self._at(*key)) is not None:
                self._apply(at, one, before, now)
                self._obey[key] = at.breaker
        self.changed()
        self._say(frame("heard", number=message["number"]))
        self._greeted.set()

    def _stays(self, message: dict[str, Any]) -> None:
        """What we ejected stays in: other workers have ejected half of the channel already."""
        if (at := self._at(message["channel"], message["endpoint"])) is not None:
            at.breaker.readmit(self.now())

    def _trial(self, message: dict[str, Any]) -> None:
        """A worker has begun one."""
        at = self._at(message["channel"], message["endpoint"])
        if at is not None and message["slot"] != self._slot:
            at.breaker.adopt_trial(self.now())

    def _rests(self, message: dict[str, Any]) -> None:
        """A worker was asked by an engine to leave it alone."""
        at = self._at(message["channel"], message["endpoint"])
        if at is not None and message["slot"] != self._slot:
            at.breaker.rest(self.now(), message["remaining"], ticket=NOBODY)

    def _forget(self, key: Key) -> None:
        self._told.pop(key, None)
        self._lengths.pop(key, None)
        self._unheard.pop(key, None)

    def _speak_up(self, told: dict[Key, Told], born: float, now: float) -> None:
        """Control has not heard what happened while it was away, or before it was started (`born`): our word counts then.

        Of everything else its word counts: somebody else's trial may have succeeded while we were not connected.
        """
        for key, at in _endpoints(self.channels()):
            breaker = at.breaker
            ejected = breaker.state(now) == "ejected" or breaker.remaining(now) > 0
            known = told.get(key)
            unheard = self._unheard.pop(key, None)
            if ejected and (known is None or known.until is None):
                if unheard is not None or breaker.since < born:
                    left = breaker.remaining(now)
                    self.notice(*key, "ejected", unheard.reason if unheard else breaker.why, left)
                    if known is not None:
                        known.until, known.reason = now + left, breaker.why
                else:
                    breaker.adopt_recovered(now)
            elif known is not None and known.until is not None and unheard is not None and unheard.event == "recovered":
                self.notice(*key, "recovered", "", 0.0)
                known.until = None

    def _apply(self, at: EndpointLive, told: Told, before: Told, now: float) -> None:
        breaker = at.breaker
        if (told.verdict, told.why) != (before.verdict, before.why):
            breaker.adopt(told.verdict, told.why, told.since)
        if told.until is not None:
            others = told.until > now and told.turn not in (-1, self._slot)
            breaker.adopt_ejected(now, max(told.until - now, A_MOMENT), told.reason, others=others)
        elif before.until is not None:
            breaker.adopt_recovered(now)

    def _at(self, channel: str, url: str) -> EndpointLive | None:
        live = self.channels().get(channel)
        return next((at for at in live.endpoints if at.url == url), None) if live is not None else None

    def _vitals(self, message: dict[str, Any]) -> None:
        """Figures: channel, URL, running, waiting, KV use, their age. Lengths: channel, URL, context length by model."""
        now = self.now()
        for channel, url, running, waiting, kv_use, age in message["figures"]:
            if (at := self._at(channel, url)) is not None:
                at.load.figures(now - age, running, waiting, kv_use)
        for channel, url, lengths in message["lengths"]:
            self._lengths[channel, url] = lengths
            if (at := self._at(channel, url)) is not None:
                _fill(at.lengths, lengths)
        if message["lengths"]:
            self.measured()


def _endpoints(channels: Mapping[str, ChannelLive]) -> Iterator[tuple[Key, EndpointLive]]:
    for name, channel in channels.items():
        for at in channel.endpoints:
            yield (name, at.url), at


def _fill(lengths: dict[str, int], told: Mapping[str, int]) -> None:
    """In place: plans hold this very dict."""
    lengths.clear()
    lengths.update(told)
