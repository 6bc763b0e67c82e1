"""What is known of one registry: its last good answer, kept for as long as there is no other, and since when and why it is old."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.config.fields import url_of
from gateway.config.resolved import Endpoint
from gateway.config.resolved_registries import Registry

log = logging.getLogger("gateway.registries")

MOST: Final = 256
"""Endpoints of one registry that are used. Whoever lists more has made a mistake, or means harm."""
QUIET: Final = 60.0
"""Seconds between two complaints about one registry: a flapping one would fill the log."""
NOT_YET: Final = "not looked at yet"
Found = Endpoint
"""What a registry finds: an endpoint with its weight and priority."""


class Known:
    """Filled by the registry's watcher: `found` and `failed`. `endpoints` is sorted, so that equal lists compare equal."""

    def __init__(self, config: Registry, changed: Callable[[str], None]) -> None:
        """changed: called with the name when `endpoints` became another list."""
        self.config = config
        self.endpoints: tuple[Found, ...] = ()
        self.why = NOT_YET
        self.since = time.time()
        self.succeeded: float | None = None
        self.answered = asyncio.Event()
        """Set once it was asked, whatever came of it."""
        self._changed = changed
        self._cut = 0
        self._complained = float("-inf")
        self._amiss = ""
        """What was complained of, and has not been put right since."""

    def found(self, endpoints: Iterable[Found], why: str = "") -> None:
        """A good answer. why: what is wrong with a part of it, for which the last good one still stands."""
        now = time.time()
        self.succeeded = now
        self._say(why, now)
        ordered = self._bounded(endpoints)
        self.answered.set()
        if ordered != self.endpoints:
            before, self.endpoints = self.endpoints, ordered
            self._tell(before)
            self._changed(self.config.name)

    def failed(self, why: str) -> None:
        """No answer, or none that can be used: what was known stays."""
        self._say(why, time.time())
        self.answered.set()

    def inherit(self, other: "Known") -> None:
        """Takes over what another one knows that looks at the same place in another way."""
        self.endpoints, self.succeeded = other.endpoints, other.succeeded
        self.why, self.since = other.why, other.since
        self._complained, self._amiss = other._complained, other._amiss
        if other.answered.is_set():
            self.answered.set()

    def told(self) -> dict[str, Any]:
        """For gatewayctl. since: when `why` began, wall clock. success: the last good answer, None = never."""
        return {
            "name": self.config.name,
            "type": self.config.type,
            "endpoints": len(self.endpoints),
            "left_out": self._cut,
            "state": "up" if not self.why else "degraded" if self.endpoints else "down",
            "since": self.since,
            "success": self.succeeded,
            "why": self.why,
        }

    def remind(self) -> None:
        """Says what is wrong if that is still to be said: a complaint that came too soon after another waits, and is not forgotten."""
        self._complain()

    def _say(self, why: str, now: float) -> None:
        if why != self.why:
            if bool(why) != bool(self.why) or self.why == NOT_YET:
                self.since = now
            self.why = why
        self._complain()

    def _complain(self) -> None:
        now = time.monotonic()
        if self.why and self.why != self._amiss and now - self._complained >= QUIET:
            kept = f"; the last {len(self.endpoints)} endpoint(s) stay" if self.endpoints else ""
            log.warning("registry %s: %s%s", self.config.name, self.why, kept)
            self._complained, self._amiss = now, self.why
        elif not self.why and self._amiss:
            log.info("registry %s answers again", self.config.name)
            self._amiss = ""

    def _bounded(self, endpoints: Iterable[Found]) -> tuple[Found, ...]:
        """Each address once, however its URL is written, the best first, at most `MOST`."""
        once: dict[tuple[object, ...], Found] = {}
        for one in sorted(endpoints, key=_order):
            once.setdefault((one.scheme, one.host, one.port, one.base), one)
        cut = max(0, len(once) - MOST)
        if cut and not self._cut:
            log.warning("registry %s lists %d endpoints; the first %d are used", self.config.name, len(once), MOST)
        self._cut = cut
        return tuple(once.values())[:MOST]

    def _tell(self, before: tuple[Found, ...]) -> None:
        was, now = {one.url for one in before}, {one.url for one in self.endpoints}
        log.info("registry %s: %d endpoint(s), %d new, %d gone", self.config.name, len(now), len(now - was), len(was - now))


def _order(one: Found) -> tuple[int, int, str, int, str]:
    return (one.priority, -one.weight, one.host, one.port, one.url)


def endpoint(scheme: str, host: str, port: int, base: str = "", *, weight: int = 1, priority: int = 0) -> Found:
    """Made from its parts; the URL is written as a person would."""
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(
        url=f"{scheme}://{shown}:{port}{base}", scheme=scheme, host=host, port=port, base=base, weight=weight, priority=priority
    )


def endpoint_at(url: str, *, weight: int = 1, priority: int = 0) -> Found:
    """From a URL as written. Raises ValueError with what is wrong with it."""
    scheme, host, port, base = url_of(url)
    return Endpoint(url=url, scheme=scheme, host=host, port=port, base=base, weight=weight, priority=priority)
