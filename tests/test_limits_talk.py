"""Two workers and control talk about limits over lines that a test delivers one frame at a time: crashes, silence, callers who leave."""

import heapq
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.bus.frames import _decoder, frame
from gateway.config.resolved_limits import Limit, Limits
from gateway.errors import Refusal
from gateway.referee import limits as limits_module
from gateway.referee import referee as referee_module
from gateway.referee import store as store_module
from gateway.referee.claims import ENDED, GRANTED, Claim
from gateway.referee.limits import Limiter
from gateway.referee.referee import Referee
from gateway.referee.rules import NONE, Amounts, amounts, rule_id
from gateway.referee.store import Store, write
from gateway.referee.terms import Table, Terms

DAY = Limit("requests", 12, "day")
TOKENS = Limit("total_tokens", 300, "hour")
FLIGHT = Limit("concurrency", 4)
MONEY = Limit("money", 900, "day", "budget", currency="CNY", budget=900, warn=(1, 50), stop=100)
LIMITS = {"": (FLIGHT,), "tenants/t": (DAY, TOKENS, MONEY)}


def priced(input: int, output: int, most: Amounts | None = None) -> Amounts:
    """With what these tokens cost, in two currencies of which one is limited. most: what was set aside, which is never passed."""
    yuan = 2 * input + 3 * output
    if most is not None:
        told = most[4]
        yuan = min(yuan, 0 if isinstance(told, int) else told["CNY"])
    return amounts(input, output, {"CNY": yuan, "USD": 7} if yuan else 0)


def yuan(of: Amounts) -> int:
    told = of[4]
    return 0 if isinstance(told, int) else told["CNY"]


class Later:
    """A future, as far as limits use one."""

    def __init__(self) -> None:
        self.value: Any = None
        self.finished = False

    def done(self) -> bool:
        return self.finished

    def set_result(self, value: Any) -> None:
        assert not self.finished
        self.value, self.finished = value, True


class Timer:
    def __init__(self, when: float, do: Callable[[], object]) -> None:
        self.when, self.do, self.off = when, do, False

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.off = True


class Loop:
    """A loop whose clock a test moves. Its clock on the wall may jump."""

    def __init__(self) -> None:
        self.now, self.wall = 1000.0, 1_800_000_000.0
        self.soon: list[Callable[[], object]] = []
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def create_future(self) -> Later:
        return Later()

    def call_soon(self, do: Callable[[], object]) -> None:
        self.soon.append(do)

    def call_later(self, seconds: float, do: Callable[[], object]) -> Timer:
        timer = Timer(self.now + seconds, do)
        heapq.heappush(self.timers, timer)
        return timer

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for do in soon:
            do()

    def advance(self, seconds: float) -> None:
        end, begun = self.now + seconds, self.now
        while self.timers and self.timers[0].when <= end:
            timer = heapq.heappop(self.timers)
            self.wall += max(0.0, timer.when - self.now)
            self.now = max(self.now, timer.when)
            if not timer.off:
                timer.do()
            self.turn()
        self.wall += end - self.now if self.now > begun else seconds
        self.now = end


class Line:
    """One worker's connection: frames that are on their way, encoded, in their order."""

    def __init__(self) -> None:
        self.up: list[bytes] = []
        self.down: list[bytes] = []


class House:
    """Control and two workers."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, on_loss: str, limits: Mapping[str, tuple[Limit, ...]] | None = None
    ) -> None:
        self.loop = Loop()
        for module in (limits_module, referee_module):
            monkeypatch.setattr(module.time, "time", lambda: self.loop.wall)
        monkeypatch.setattr(store_module, "SHELVES", 2)
        self.folder = folder
        self.limits = Limits(by=dict(limits or LIMITS), on_loss=on_loss, workers=2)
        self.journal: list[tuple[str, Amounts, Amounts, float, float]] = []
        self.lines: dict[int, Line | None] = {0: None, 1: None}
        self.workers = [self.worker(0), self.worker(1)]
        self.claims: dict[str, tuple[int, Claim, float]] = {}
        self.records = 0
        self.pids = [10, 20]
        self.open()

    def worker(self, slot: int) -> Limiter:
        def say(message: dict[str, Any]) -> bool:
            line = self.lines[slot]
            if line is not None:
                line.up.append(frame("limits", **message))
            return line is not None

        made = Limiter(say, self.loop)  # type: ignore[arg-type]
        made.adopt(Table(self.limits), self.folder)
        return made

    def open(self) -> None:
        """Control begins."""
        store = Store(self.folder)
        since = store.load(self.loop.wall)
        self.store = store
        self.referee = Referee(self.say, self.loop, store, 2)  # type: ignore[arg-type]
        self.referee.adopt(self.limits, lambda id: ("t", "p", ()), limited=True)
        for record, used, reserved, begun, ended in self.journal:
            if ended > since:
                self.referee.recount(record, "k", "m", "", used, reserved, begun, ended)
        for slot in (0, 1):
            self.connect(slot)

    def say(self, slot: int, message: dict[str, Any]) -> None:
        line = self.lines[slot]
        if line is not None:
            line.down.append(frame("limits", **message))

    def connect(self, slot: int) -> None:
        self.lines[slot] = Line()
        self.referee.greet(slot, self.pids[slot])

    def disconnect(self, slot: int, *, control: bool = True) -> None:
        if self.lines[slot] is not None:
            self.lines[slot] = None
            if control:
                self.referee.lost(slot)
            self.workers[slot].lost()

    def deliver(self, slot: int, *, up: bool) -> bool:
        line = self.lines[slot]
        frames = [] if line is None else line.up if up else line.down
        if not frames:
            return False
        message = _decoder.decode(frames.pop(0)[4:])
        if up:
            self.referee.heard(slot, message)
        else:
            self.workers[slot].heard(message)
        return True

    def settle_down(self) -> None:
        """Until nobody has anything to say."""
        for slot in (0, 1):
            if self.lines[slot] is None:
                self.connect(slot)
        for _ in range(100):
            self.loop.turn()
            moved = [self.deliver(slot, up=up) for slot in (0, 1) for up in (True, False)]
            if not any(moved) and not self.loop.soon:
                self.loop.advance(0.002)
                if not any(line and (line.up or line.down) for line in self.lines.values()):
                    if self.referee._early is None:
                        return
                    self.loop.advance(1.0)
        raise AssertionError("they never stop talking")

    # -- requests -----------------------------------------------------------------------------------------------------

    def terms(self, slot: int) -> Terms:
        table = self.workers[slot]._table
        assert table is not None
        found = table.terms("k", "t", "p", (), "m", "")
        assert found is not None
        return found

    def ask(self, slot: int, wanted: Amounts) -> str:
        self.records += 1
        id = f"record-{self.records}"
        self.claims[id] = (slot, self.workers[slot].claim(self.terms(slot), wanted), self.loop.wall)
        return id

    def end(self, id: str, used: Amounts) -> None:
        """In the journal and told, in this order."""
        slot, claim, begun = self.claims.pop(id)
        if claim.state == GRANTED:
            claim.state = ENDED
            self.journal.append((id, used, claim.wanted, begun, self.loop.wall))
            self.workers[slot].end(claim, used, self.loop.wall, id)

    def leave(self, id: str) -> None:
        """Its caller leaves, before its task has run again: even when the answer came in this very turn."""
        slot, claim, _ = self.claims.pop(id)
        self.workers[slot]._leave(claim)

    def kill(self, slot: int) -> None:
        """What it had open is closed in the journal, with no tokens."""
        self.disconnect(slot)
        for id in [id for id, (of, _, _) in self.claims.items() if of == slot]:
            _, claim, begun = self.claims.pop(id)
            if claim.state == GRANTED:
                self.journal.append((id, amounts(0, 0, 0), claim.wanted, begun, self.loop.wall))
                self.referee.killed("k", "m", "", amounts(0, 0, 0), begun)
        self.workers[slot] = self.worker(slot)
        self.pids[slot] += 1
        self.connect(slot)

    def write(self) -> None:
        """Control never counts on having heard of what ended more than a second ago: by then it has read it."""
        self.loop.turn()
        for slot in (0, 1):
            while self.deliver(slot, up=True):
                pass
        while not self.referee.fold():
            pass
        for path, data in self.store.pages():
            write(path, data)

    def counted(self, place: str, limit: Limit) -> int:
        name = rule_id(place, limit)
        self.referee.quotas.look_up(self.referee._rule(name), name, self.referee._now())
        return self.referee.quotas.gauges[name].window.used(self.referee._now())

    def open_claims(self) -> list[Claim]:
        return [claim for _, claim, _ in self.claims.values() if claim.state == GRANTED]


AMOUNTS = st.tuples(st.integers(1, 60), st.integers(0, 60))
SLOTS = st.integers(0, 1)


class Talking(RuleBasedStateMachine):
    """Every end counts once, whatever is lost on the way; while control counts, no limit is ever passed."""

    on_loss = "refuse"

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.temporary = tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp")
        self.house = House(self.patch, Path(self.temporary.name) / "limits", self.on_loss)
        self.house.settle_down()

    def teardown(self) -> None:
        try:
            self.house.settle_down()
            self.everything_adds_up()
            for id in list(self.house.claims):
                self.house.end(id, amounts(1, 1, 0))
            self.house.settle_down()
            assert self.house.counted("", FLIGHT) == 0 and not any(self.house.referee.quotas.held.values())
            self.everything_adds_up()
        finally:
            self.patch.undo()
            self.temporary.cleanup()

    def everything_adds_up(self) -> None:
        """When all is told: what is in flight, and what the journal and the open requests say."""
        house = self.house
        now = house.loop.wall
        granted = house.open_claims()
        assert house.counted("", FLIGHT) == len(granted)
        assert sum(len(held) for held in house.referee.quotas.held.values()) == len(granted)
        if not self.jumped:
            assert house.counted("tenants/t", DAY) == len(house.journal) + len(granted)
        spent = sum(used[3] for _, used, _, begun, ended in house.journal) + sum(claim.wanted[3] for claim in granted)
        if now - 1_800_000_000 < 3000 and not self.jumped:
            assert house.counted("tenants/t", TOKENS) == spent
            assert house.counted("tenants/t", MONEY) == self.money()

    def money(self) -> int:
        """What the journal and the open requests say."""
        house = self.house
        return sum(yuan(used) for _, used, *_ in house.journal) + sum(yuan(claim.wanted) for claim in house.open_claims())

    jumped = False

    @rule(days=st.sampled_from([-1, 1]))
    def the_clock_jumps(self, days):
        """What is in flight does not care, and the hour goes by the other clock."""
        self.jumped = True
        self.house.loop.wall += days * 86_400

    @rule(slot=SLOTS, wanted=AMOUNTS)
    def ask(self, slot, wanted):
        self.house.ask(slot, priced(*wanted))

    @rule(number=st.integers(0, 30), used=AMOUNTS)
    def end(self, number, used):
        ids = [id for id, (_, claim, _) in self.house.claims.items() if claim.answer is None or claim.answer.done()]
        if ids:
            id = ids[number % len(ids)]
            self.house.end(id, priced(used[0], used[1], self.house.claims[id][1].wanted))

    @rule(number=st.integers(0, 30))
    def leave(self, number):
        """Whether it has its answer already or not."""
        ids = list(self.house.claims)
        if ids:
            self.house.leave(ids[number % len(ids)])

    @rule(slot=SLOTS, up=st.booleans())
    def deliver(self, slot, up):
        self.house.deliver(slot, up=up)

    @rule()
    def turn(self):
        self.house.loop.turn()

    @rule(millis=st.sampled_from([1, 2, 50, 700, 1100, 5000]))
    def wait(self, millis):
        self.house.loop.advance(millis / 1000)

    @rule()
    def all_is_told(self):
        self.house.settle_down()
        self.everything_adds_up()

    @rule(slot=SLOTS)
    def a_worker_is_killed(self, slot):
        self.house.loop.turn()
        self.house.settle_down()
        self.house.kill(slot)

    @rule(written=st.booleans())
    def control_is_killed(self, written):
        """What workers had sent is in the journal anyway."""
        if written:
            self.house.write()
        for slot in (0, 1):
            self.house.disconnect(slot, control=False)
        self.house.loop.advance(0.01)

        self.house.open()

    @rule()
    def the_files_are_written(self):
        self.house.write()

    @invariant()
    def no_limit_is_passed(self):
        if self.on_loss == "refuse":
            assert len(self.house.open_claims()) <= (FLIGHT.max)
            granted = len(self.house.journal) + len(self.house.open_claims())
            assert self.jumped or granted <= DAY.max
            assert self.jumped or self.money() <= MONEY.max


TestTalking = Talking.TestCase
TestTalking.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TalkingAlone(Talking):
    """Workers that go on by themselves."""

    on_loss = "local"


TestTalkingAlone = TalkingAlone.TestCase
TestTalkingAlone.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    found = House(monkeypatch, tmp_path / "limits", "local")
    found.settle_down()
    return found


def test_everything_of_one_turn_is_one_frame_and_one_answer(house):
    ids = [house.ask(0, amounts(1, 1, 0)) for _ in range(6)]
    house.loop.turn()
    line = house.lines[0]
    assert line is not None and len(line.up) == 1
    house.deliver(0, up=True)
    assert len(line.down) == 1
    house.deliver(0, up=False)
    answers = [house.claims[id][1].answer.value for id in ids]
    assert answers[:4] == [None] * 4 and all(isinstance(no, Refusal) and no.code == "rate_limit_exceeded" for no in answers[4:])


def test_who_leaves_in_the_turn_of_its_answer_uses_nothing(house):
    id = house.ask(0, amounts(5, 5, 0))
    house.loop.turn()
    house.deliver(0, up=True)
    house.deliver(0, up=False)
    house.leave(id)
    house.settle_down()
    assert (house.counted("", FLIGHT), house.counted("tenants/t", DAY), house.counted("tenants/t", TOKENS)) == (0, 0, 0)


def test_silence_of_a_second_means_alone_and_the_answer_that_comes_too_late_is_not_taken(house):
    id = house.ask(0, amounts(5, 5, 0))
    house.loop.turn()
    house.loop.advance(1.1)
    assert house.claims[id][1].answer.value is None and house.workers[0]._talk.alone
    house.settle_down()
    assert not house.workers[0]._talk.alone
    assert house.counted("", FLIGHT) == 1 and house.counted("tenants/t", DAY) == 1


def test_alone_each_has_its_share(house):
    house.disconnect(0)
    ids = [house.ask(0, amounts(1, 1, 0)) for _ in range(4)]
    assert [house.claims[id][1].answer.value is None for id in ids] == [True, True, False, False]


def test_control_asks_for_terms_it_cannot_keep_for_ever(house, monkeypatch):
    monkeypatch.setattr(limits_module, "REMEMBERED", 3)
    table = Table(Limits(by={"": (Limit("requests", 5, "hour", each="address"),)}))
    house.workers[0].adopt(table, house.folder)
    house.referee.adopt(Limits(by={"": (Limit("requests", 5, "hour", each="address"),)}), lambda id: ("t", "p", ()), limited=True)
    for number in range(10):
        terms = table.terms("k", "t", "p", (), "m", f"10.0.0.{number}")
        assert terms is not None
        house.workers[0].claim(terms, amounts(1, 1, 0))
        house.settle_down()
    assert len(house.referee._plans[0]) <= 3
    assert len([name for name in house.referee.quotas.gauges if "=10.0.0." in name]) == 10
    assert NONE == (0, 0, 0, 0, 0)


def test_whoever_warns_of_budgets_hears_how_far_each_is_spent(house):
    id = house.ask(0, priced(10, 20))
    house.settle_down()
    house.end(id, priced(5, 10, house.claims[id][1].wanted))
    house.settle_down()
    (found,) = house.referee.budgets([("tenants/t", MONEY), ("tenants/t", TOKENS)])
    assert (found.place, found.used, found.budget, found.warned, found.percent, found.stop) == ("tenants/t", 40, 900, (1,), 4, 100)
    assert found.ahead >= 40 and found.begin <= house.loop.wall < found.end
