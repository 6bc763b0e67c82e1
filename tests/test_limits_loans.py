"""Loans over lines that a test delivers one frame at a time: workers that ask often, crashes, silence, the last requests of a limit."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.config.resolved_limits import Limit
from gateway.errors import Refusal
from gateway.referee import lending
from gateway.referee.claims import GRANTED, Claim
from gateway.referee.pace import SPAN, Pace
from gateway.referee.rules import amounts
from tests.test_limits_talk import House

DAY = Limit("requests", 150, "day")
TOKENS = Limit("total_tokens", 9000, "hour")
SECOND = Limit("requests", 40, "second")
FLIGHT = Limit("concurrency", 90)
USED = {"": (TOKENS,), "tenants/t": (DAY,)}
LIMITS = {"": (TOKENS, FLIGHT), "tenants/t": (DAY,)}


def eager(patch: pytest.MonkeyPatch) -> None:
    """Lends to whoever asks, and much of what is left."""
    patch.setattr(Pace, "at", lambda self, mono: 10)
    patch.setattr(lending, "LEAST", 2)
    patch.setattr(lending, "SHARE", 2)


def lent(house: House) -> int:
    """Requests that workers may still make of what they were lent."""
    return sum(loan.left for worker in house.workers for loan in worker._loans._all.values())


def rest(house: House) -> None:
    """Until loans are over and everything is told."""
    for _ in range(3):
        house.settle_down()
        house.loop.advance(2 * SPAN)
    house.settle_down()


class Lending(RuleBasedStateMachine):
    """Every end counts once, whatever is lost on the way; no limit is ever passed, and what was lent is back in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        eager(self.patch)
        self.temporary = tempfile.TemporaryDirectory(prefix="gw-", dir="/tmp")
        self.house = House(self.patch, Path(self.temporary.name) / "limits", "refuse", LIMITS)
        self.house.settle_down()
        self.beyond = 0
        """Requests that killed workers had been lent and may have made."""
        self.away = False
        """A worker was out of reach: what it has in flight counts as over until it says so again."""

    def teardown(self) -> None:
        try:
            self.all_is_told()
            for id in list(self.house.claims):
                self.house.end(id, amounts(1, 1, 0))
            self.all_is_told()
            assert not any(self.house.referee.quotas.held.values()) and not any(worker._loans._all for worker in self.house.workers)
            assert all(gauge.lent == 0 for gauge in self.house.referee.quotas.gauges.values())
        finally:
            self.patch.undo()
            self.temporary.cleanup()

    @rule(slot=st.integers(0, 1), input=st.integers(1, 40), output=st.integers(0, 40), many=st.integers(1, 12))
    def ask(self, slot, input, output, many):
        for _ in range(many):
            self.house.ask(slot, amounts(input, output, 0))

    @rule(number=st.integers(0, 30), input=st.integers(1, 60), output=st.integers(0, 60))
    def end(self, number, input, output):
        ids = [id for id, (_, claim, _) in self.house.claims.items() if claim.state == GRANTED]
        if ids:
            self.house.end(ids[number % len(ids)], amounts(input, output, 0))

    @rule(number=st.integers(0, 30))
    def leave(self, number):
        """Who had not been let through. (`waits` is what `settle` asks.)"""
        ids = [id for id, (_, claim, _) in self.house.claims.items() if claim.waits]
        if ids:
            self.house.leave(ids[number % len(ids)])

    @rule(slot=st.integers(0, 1), up=st.booleans())
    def deliver(self, slot, up):
        self.house.deliver(slot, up=up)

    @rule()
    def turn(self):
        self.house.loop.turn()

    @rule(millis=st.sampled_from([1, 6, 60, 120, 1100]))
    def wait(self, millis):
        self.house.loop.advance(millis / 1000)

    @rule()
    def talk(self):
        self.house.settle_down()

    @rule()
    def all_is_told(self):
        house = self.house
        rest(house)
        granted = house.open_claims()
        made = len(house.journal) + len(granted)
        assert made <= house.counted("tenants/t", DAY) <= made + self.beyond
        spent = sum(used[3] for _, used, *_ in house.journal) + sum(claim.wanted[3] for claim in granted)
        assert house.counted("", TOKENS) == spent
        assert house.counted("", FLIGHT) == len(granted)

    @rule(slot=st.integers(0, 1))
    def a_worker_is_killed(self, slot):
        self.house.loop.advance(0.01)
        self.house.settle_down()
        self.beyond += sum(loan.left for loan in self.house.workers[slot]._loans._all.values())
        self.house.kill(slot)

    @rule(slot=st.integers(0, 1))
    def a_connection_is_lost(self, slot):
        self.house.loop.advance(0.01)
        self.house.settle_down()
        self.away = True
        self.house.disconnect(slot)
        self.house.loop.advance(0.01)
        self.house.connect(slot)
        self.house.settle_down()

    @rule(written=st.booleans())
    def control_is_killed(self, written):
        """What workers had sent is in the journal anyway."""
        if written:
            self.house.write()
        for slot in (0, 1):
            self.house.disconnect(slot, control=False)
        self.house.loop.advance(0.01)
        self.beyond = 0
        self.house.open()
        self.house.settle_down()

    @rule()
    def the_files_are_written(self):
        self.house.write()

    @invariant()
    def no_limit_is_passed(self):
        house = self.house
        assert len(house.journal) + len(house.open_claims()) + lent(house) <= DAY.max
        assert self.away or len(house.open_claims()) + lent(house) <= FLIGHT.max


TestLending = Lending.TestCase
TestLending.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    eager(monkeypatch)
    found = House(monkeypatch, tmp_path / "limits", "local", USED)
    found.settle_down()
    yield found


def run(house: House, seed: int, asks: int) -> tuple[int, int]:
    """Both workers ask as often as they can; frames travel in any order between them. Returns the granted and the refused."""
    luck = random.Random(seed)
    ids = []
    for _ in range(asks):
        ids.append(house.ask(luck.randrange(2), amounts(5, 5, 0)))
        if luck.random() < 0.3:
            house.loop.advance(luck.choice([0.0005, 0.002, 0.03]))
        for _ in range(luck.randrange(3)):
            house.deliver(luck.randrange(2), up=luck.random() < 0.5)
    rest(house)
    claims: list[Any] = [house.claims[id][1] for id in ids]
    granted = sum(claim.state == GRANTED for claim in claims)
    refused = sum(claim.answer is not None and isinstance(claim.answer.value, Refusal) for claim in claims)
    return granted, refused


@pytest.mark.parametrize("seed", range(12))
def test_of_those_that_ask_again_and_again_exactly_n_pass_though_much_was_lent(house, seed):
    assert run(house, seed, 500) == (DAY.max, 500 - DAY.max)
    assert house.referee._lending._number < 0


@pytest.mark.parametrize("seed", range(6))
def test_exactly_n_are_in_flight_though_much_was_lent(tmp_path, monkeypatch, seed):
    eager(monkeypatch)
    house = House(monkeypatch, tmp_path / "limits", "local", {"": (FLIGHT,)})
    house.settle_down()
    assert run(house, seed, 300) == (FLIGHT.max, 300 - FLIGHT.max)
    assert house.referee._lending._number < 0


def test_who_asks_now_and_then_is_lent_nothing(tmp_path, monkeypatch):
    house = House(monkeypatch, tmp_path / "limits", "local", USED)
    house.settle_down()
    for _ in range(30):
        house.ask(0, amounts(1, 1, 0))
        house.settle_down()
        house.loop.advance(2 * SPAN)
    assert house.referee._lending._number == 0


def test_a_request_from_a_loan_is_told_what_is_left_as_if_it_had_asked(house):
    answers = []
    for _ in range(6):
        id = house.ask(0, amounts(5, 5, 0))
        house.settle_down()
        answers.append(house.claims[id][1])
    assert [claim.loan is not None for claim in answers].count(True) >= 4
    left = [dict(line.split(": ") for line in claim.lines().decode().split("\r\n") if line) for claim in answers]
    assert [int(one["x-ratelimit-remaining-requests"]) for one in left] == [149, 148, 147, 146, 145, 144]
    assert [int(one["x-ratelimit-remaining-tokens"]) for one in left] == [8990, 8980, 8970, 8960, 8950, 8940]
    assert {one["x-ratelimit-limit-tokens"] for one in left} == {"9000"}


def test_a_worker_that_does_not_give_back_holds_others_up_for_a_moment_only(house):
    house.ask(0, amounts(5, 5, 0))
    house.settle_down()
    assert lent(house) > 0
    ids = [house.ask(1, amounts(5, 5, 0)) for _ in range(200)]
    house.lines[0].up.clear()
    silent, house.lines[0].up = house.lines[0].up, []
    for _ in range(40):  # nothing that worker 0 says arrives
        house.loop.turn()
        while house.deliver(1, up=True) or house.deliver(1, up=False):
            house.loop.turn()
        house.loop.advance(0.01)
        house.lines[0].up.clear()
    assert not silent and all(house.claims[id][1].answer.done() for id in ids)


def asks(house: House, slot: int, model: str, many: int) -> list[Claim]:
    """Of another model's limits."""
    worker = house.workers[slot]
    assert worker._table is not None
    terms = worker._table.terms("k", "t", "p", (), model, "")
    assert terms is not None
    return [worker.claim(terms, amounts(1, 1, 0)) for _ in range(many)]


def test_whoever_waits_for_a_loan_is_counted_as_refused_once(house):
    granted, refused = run(house, 1, 500)
    house.settle_down()
    rules = house.referee._rules.values()
    assert (granted, refused) == (DAY.max, 500 - DAY.max) and sum(rule.refused for rule in rules) == refused


def test_who_is_refused_by_a_limit_of_which_nothing_is_lent_takes_no_loan_from_others(tmp_path, monkeypatch):
    eager(monkeypatch)
    three = Limit("requests", 3, "day", models=("other",))
    house = House(monkeypatch, tmp_path / "limits", "local", {"": (TOKENS,), "tenants/t": (three,)})
    house.settle_down()
    house.ask(0, amounts(5, 5, 0))
    house.settle_down()
    before = lent(house)
    answers: list[Any] = [claim.answer for claim in asks(house, 1, "other", 10)]
    house.loop.turn()
    while house.deliver(1, up=True) or house.deliver(1, up=False):
        house.loop.turn()
    assert [isinstance(answer.value, Refusal) for answer in answers if answer.done()] == [False] * 3 + [True] * 7
    assert lent(house) == before > 0


def test_who_waits_behind_another_has_its_own_loan_called_back_too(tmp_path, monkeypatch):
    """Worker 0 holds up the first one; what the second one waits for is with worker 1, which answers at once."""
    eager(monkeypatch)
    few = [Limit("requests", 20, "day", "one", models=("m",)), Limit("requests", 20, "day", "two", models=("other",))]
    house = House(monkeypatch, tmp_path / "limits", "local", {"tenants/t": tuple(few)})
    house.settle_down()
    called: list[int] = []
    monkeypatch.setattr(house.referee._lending, "_recall", called.append)
    asks(house, 0, "m", 1)
    asks(house, 1, "other", 1)
    house.settle_down()
    assert lent(house) > 4
    monkeypatch.setattr(lending, "LEAST", 1000)  # nothing more is lent
    asks(house, 1, "m", 20)
    asks(house, 0, "other", 20)
    house.loop.turn()
    assert house.deliver(1, up=True) and called == [0]
    assert house.deliver(0, up=True) and called == [0, 1]


def test_a_worker_that_ends_in_order_tells_and_gives_back_everything(house):
    ids = []
    for _ in range(4):
        ids.append(house.ask(0, amounts(5, 5, 0)))
        house.settle_down()
    assert lent(house) > 0
    for id in ids:
        house.end(id, amounts(5, 3, 0))
    house.workers[0].close()
    while house.deliver(0, up=True):
        pass
    house.disconnect(0)
    assert (house.counted("tenants/t", DAY), house.counted("", TOKENS)) == (4, 32)
    assert not any(house.referee.quotas.held.values())


def test_no_second_holds_more_than_its_limit(tmp_path, monkeypatch):
    """What is lent counts from the end of its loan: what is used late of it does not fall out of the window too early."""
    eager(monkeypatch)
    house = House(monkeypatch, tmp_path / "limits", "local", {"": (SECOND,)})
    house.settle_down()
    luck, made = random.Random(7), []
    for _ in range(3000):
        ids = [house.ask(luck.randrange(2), amounts(1, 1, 0)) for _ in range(luck.randrange(4))]
        house.settle_down()
        for id in ids:
            claim = house.claims[id][1]
            if claim.state == GRANTED:
                made.append(house.loop.now)
                house.end(id, amounts(1, 1, 0))
        house.loop.advance(luck.choice([0.001, 0.004, 0.02, 0.09]))
    assert house.referee._lending._number < -20
    for number, begin in enumerate(made):
        assert sum(begin <= at < begin + 1 for at in made[number : number + SECOND.max + 5]) <= SECOND.max


def test_pace():
    pace = Pace()
    for number in range(30):
        pace.note(1, 5.001 + number / 1000)
    assert pace.at(5.05) == 30 and pace.at(5.15) == 30 and pace.at(5.25) == 0
