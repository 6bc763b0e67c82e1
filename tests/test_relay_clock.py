"""Deadlines: when they are looked at, and whose fault a pause of our own is not."""

import time
from collections.abc import Callable

from gateway.exchange import Exchange
from gateway.relay.clock import TICK, Clock
from gateway.relay.whole import WholeDelivery
from gateway.wire.outlet import Outlet


class Loop:
    """Ticks when it is told to."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, seconds: float, tick: Callable[[], None]) -> None:
        assert seconds == TICK
        self.due.append(tick)

    def create_future(self) -> None: ...

    def tick(self, after: float = TICK) -> None:
        time.sleep(after)
        self.due.pop()()


class Watched:
    def __init__(self, clock: Clock, again: float = 0.0) -> None:
        self.looks: list[float] = []
        self.still = (0.0, 0.0)
        self.clock = clock
        self.again = again

    def look(self, now: float) -> float:
        self.looks.append(now)
        if not self.again:
            self.clock.forget(self)
        return now + self.again

    def stood_still(self, since: float, now: float) -> None:
        self.still = (since, now)


def test_each_is_looked_at_when_it_wants_to_be_and_the_clock_rests_without_any():
    loop = Loop()
    clock = Clock(loop)  # type: ignore[arg-type]
    now = time.monotonic()
    soon, later = Watched(clock), Watched(clock, again=60.0)
    clock.watch(soon, now)
    clock.watch(later, now + 3 * TICK)
    loop.tick()
    assert len(soon.looks) == 1 and not later.looks
    while not later.looks:
        loop.tick()
    assert later.looks[0] >= now + 3 * TICK
    loop.tick()
    assert len(later.looks) == 1  # not before it wants to be again
    clock.forget(later)
    loop.tick()
    assert not loop.due


def test_until_the_next_tick_it_is_never_later_than_soon():
    loop = Loop()
    clock = Clock(loop)  # type: ignore[arg-type]
    clock.watch(Watched(clock, again=60.0), time.monotonic())
    assert 0 < clock.soon - time.monotonic() <= TICK
    loop.tick()
    assert 0 < clock.soon - time.monotonic() <= TICK


def test_after_a_pause_of_ours_what_has_come_is_read_first_but_only_once():
    loop = Loop()
    clock = Clock(loop)  # type: ignore[arg-type]
    one = Watched(clock, again=0.001)
    clock.watch(one, time.monotonic())
    due = clock.soon
    loop.tick(after=4 * TICK)
    assert not one.looks and one.still[0] == due and one.still[1] + TICK == clock.soon
    loop.tick(after=4 * TICK)  # where each tick is late, deadlines are kept all the same
    assert len(one.looks) == 1


def test_what_is_read_after_a_pause_of_ours_and_before_the_late_tick_was_not_heard_before_the_pause():
    loop = Loop()
    clock = Clock(loop)  # type: ignore[arg-type]
    x = Exchange("1", "1", None, "POST", "/v1/chat/completions", {}, "127.0.0.1", 0.0, 0.0)
    heard, silent = (WholeDelivery(x, Outlet(lambda: b""), None, None, clock) for _ in range(2))  # type: ignore[arg-type]
    clock.watch(heard, time.monotonic() + 60.0)
    clock.watch(silent, time.monotonic() + 60.0)
    silent.last = time.monotonic()
    time.sleep(4 * TICK)
    heard.last = clock.soon  # as a stream notes it
    resumed = time.monotonic()
    loop.tick(after=0.0)
    assert heard.last >= resumed > silent.last
