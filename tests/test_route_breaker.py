"""The breaker's table, row by row and as a model; the ward; the retry budget. No I/O; time is an argument."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.route.breaker import LEAST_SHARE, LONGEST, OTHERS_MOST, REST_MOST, TRIAL_MOST, TURN, Breaker, BreakerSettings
from gateway.route.budget import RESERVE, RetryBudget
from gateway.route.ward import Ward

NOW = 1000.0
SET = BreakerSettings()
QUICK = BreakerSettings(slow_start=0.0)


def fail(breaker: Breaker, now: float = NOW, times: int = SET.failures) -> list[bool]:
    return [breaker.failure(now, "reset", breaker.begin(now)) for _ in range(times)]


def broken(now: float = NOW, settings: BreakerSettings = SET, ward: Ward | None = None) -> Breaker:
    breaker = Breaker(settings, ward)
    assert fail(breaker, now) == [False] * (SET.failures - 1) + [True]
    return breaker


def served(breaker: Breaker, now: float) -> bool:
    return breaker.success(now, breaker.begin(now))


# -- closed ------------------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_eject():
    breaker = broken()
    assert not breaker.allows(NOW) and not breaker.well and not breaker.barred
    assert (breaker.state(NOW), breaker.reason, breaker.since) == ("ejected", "reset", NOW)
    assert breaker.why == "5 failures in a row: reset" and breaker.remaining(NOW + 1) == SET.cooldown - 1


def test_a_success_in_between_starts_the_count_again():
    breaker = Breaker()
    for _ in range(4):
        assert not any(fail(breaker, times=SET.failures - 1))
        assert breaker.reason == "reset"
        served(breaker, NOW)
    assert breaker.well and breaker.allows(NOW) and breaker.state(NOW) == "up" and breaker.since == 0.0 and not breaker.reason


def mixed(breaker: Breaker, now: float, pairs: int) -> list[bool]:
    """A success and a failure, in turn."""
    found = []
    for _ in range(pairs):
        served(breaker, now)
        found.append(breaker.failure(now, "timeout", breaker.begin(now)))
    return found


def test_half_of_the_windows_requests_eject_when_there_were_enough():
    breaker = Breaker()
    assert mixed(breaker, NOW, SET.least // 2) == [False] * (SET.least // 2 - 1) + [True]
    assert breaker.state(NOW) == "ejected" and breaker.why == "at least 50% of requests failed: timeout"


def test_what_is_older_than_the_window_is_forgotten():
    breaker = Breaker()
    assert not any(mixed(breaker, NOW, SET.least // 2 - 1))
    assert not any(mixed(breaker, NOW + SET.window, SET.least // 2 - 1))
    assert any(mixed(breaker, NOW + SET.window + 4, 2)), "what is not, counts"


def test_fewer_failures_than_the_share_never_eject():
    breaker = Breaker()
    for second in range(1000):
        for _ in range(3):
            served(breaker, NOW + second)
        assert not any(fail(breaker, NOW + second, 2))
    assert breaker.well


# -- open and half-open ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "allowed"), [(0, False), (SET.cooldown - 0.01, False), (SET.cooldown, True)])
def test_after_the_cooldown_one_trial_is_allowed(after, allowed):
    breaker = broken()
    assert breaker.allows(NOW + after) is allowed and breaker.state(NOW + after) == "ejected"
    assert ("a trial is due" in breaker.why) is allowed is breaker.due(NOW + after)


def test_only_one_trial_at_a_time():
    breaker = broken()
    later = NOW + SET.cooldown
    first = breaker.begin(later)
    assert not breaker.allows(later) and not breaker.due(later) and breaker.why.endswith("; on trial")
    assert breaker.begin(later) == -1, "another request, sent because nobody else could serve, is no trial"
    assert not breaker.failure(later, "reset", -1) and not breaker.success(later, -1)
    breaker.abandoned(-1)
    assert not breaker.allows(later), "that one's caller left, not the trial's"
    breaker.abandoned(first)
    assert breaker.allows(later)
    second = breaker.begin(later)
    breaker.abandoned(first)
    assert not breaker.allows(later)
    assert breaker.success(later, second) and breaker.allows(later) and not breaker.due(later) and breaker.state(later) == "up"


def test_without_tickets_an_answer_is_the_trials():
    breaker = broken()
    later = NOW + SET.cooldown
    breaker.begin(later)
    breaker.abandoned()
    assert breaker.allows(later)
    breaker.begin(later)
    assert breaker.failure(later, "connect") and not breaker.allows(later)
    later += 2 * SET.cooldown
    breaker.begin(later)
    assert breaker.success() and breaker.allows(later)


def test_each_failed_trial_doubles_the_cooldown_up_to_eight_times():
    breaker, now, length = broken(), NOW, SET.cooldown
    for _ in range(6):
        assert not breaker.allows(now + length - 0.01) and breaker.allows(now + length)
        now += length
        assert breaker.failure(now, "connect", breaker.begin(now)), "the others are to know of this one as well"
        assert breaker.why == "trial failed: connect" and breaker.since == NOW
        length = min(length * 2, SET.cooldown * LONGEST)
        assert breaker.remaining(now) == length
    assert length == SET.cooldown * LONGEST


def test_the_doubling_is_forgotten_when_it_is_fully_back():
    breaker = broken()
    back = NOW + SET.cooldown
    assert served(breaker, back)
    fail(breaker, back + 1)
    assert breaker.remaining(back + 1) == 2 * SET.cooldown, "it had hardly come back"
    back += 1 + 2 * SET.cooldown
    assert served(breaker, back) and breaker.allows(back + SET.slow_start) and breaker.well
    fail(breaker, back + SET.slow_start)
    assert breaker.remaining(back + SET.slow_start) == SET.cooldown


def test_a_trial_that_never_ends_stands_in_nobodys_way():
    breaker = broken()
    later = NOW + SET.cooldown
    lost = breaker.begin(later)
    assert not breaker.allows(later + TRIAL_MOST - 0.01) and breaker.allows(later + TRIAL_MOST)
    trial = breaker.begin(later + TRIAL_MOST)
    assert not breaker.failure(later + TRIAL_MOST, "timeout", lost), "it is late"
    assert breaker.success(later + TRIAL_MOST, trial)


def test_answers_to_requests_sent_before_the_ejection_are_late():
    breaker = Breaker()
    before = breaker.begin(NOW)
    fail(breaker)
    assert not breaker.success(NOW + 1, before) and not breaker.success(NOW + 1), "nothing was sent since"
    later = NOW + SET.cooldown
    assert not breaker.failure(later, "timeout", before) and not breaker.failure(later, "timeout")
    assert breaker.allows(later)
    trial = breaker.begin(later)
    assert not breaker.failure(later, "timeout", before) and not breaker.success(later, before)
    assert breaker.success(later, trial)
    assert not any(breaker.failure(later, "timeout", before) for _ in range(100)), "nor do they count once it is back"


def test_when_nobody_else_could_serve_a_success_during_the_cooldown_counts():
    breaker = broken()
    assert not breaker.failure(NOW + 1, "reset", breaker.begin(NOW + 1))
    assert breaker.remaining(NOW + 1) == SET.cooldown - 1, "a failure then does not make it longer"
    assert served(breaker, NOW + 2) and breaker.state(NOW + 2) == "up"


# -- coming back slowly ------------------------------------------------------------------------------------------------


def test_slow_start():
    breaker = broken()
    back = NOW + SET.cooldown
    served(breaker, back)
    shares = [breaker.share_now(back + SET.slow_start * part) for part in (0, 0.5, 1, 2)]
    assert shares == pytest.approx([LEAST_SHARE, 0.55, 1.0, 1.0])
    assert breaker.allows(back) and not breaker.well, "the hot path is to look"
    assert breaker.state(back) == "up" and breaker.why == "coming back slowly: 10% of its share" and breaker.since == back
    assert breaker.allows(back + SET.slow_start) and breaker.well and not breaker.why
    assert breaker.since == back and breaker.share_now(back) == 1.0


def test_who_is_ejected_while_coming_back_gets_a_whole_trial():
    breaker = broken()
    back = NOW + SET.cooldown
    served(breaker, back)
    fail(breaker, back + 1)
    assert breaker.share_now(back + 2) == 1.0 and breaker.allows(back + 1 + 2 * SET.cooldown)


def test_what_failed_before_it_came_back_is_forgotten():
    breaker = Breaker()
    mixed(breaker, NOW, SET.least // 2 - 1)
    fail(breaker, NOW + 6)
    back = NOW + 6 + SET.cooldown
    served(breaker, back)
    assert not any(mixed(breaker, back, 2)) and breaker.allows(back)


def test_slow_start_can_be_off():
    breaker = broken(settings=QUICK)
    served(breaker, NOW + SET.cooldown)
    assert breaker.well and breaker.share_now(NOW + SET.cooldown) == 1.0


# -- the engine's own wish ---------------------------------------------------------------------------------------------


def test_the_engines_own_wish():
    breaker = Breaker()
    breaker.rest(NOW, 5.0)
    assert not breaker.allows(NOW) and breaker.state(NOW) == "busy" and breaker.rests(NOW) == 5.0 and breaker.since == NOW
    served(breaker, NOW)  # another request, sent before, ended well: the wish stands
    assert not breaker.well and not breaker.allows(NOW + 4.9)
    breaker.rest(NOW, 2.0)
    assert breaker.rests(NOW) == 5.0, "a shorter wish does not shorten it"
    assert breaker.allows(NOW + 5) and breaker.well and breaker.rests(NOW + 5) == 0.0
    assert breaker.state(NOW + 5) == "up" and breaker.share_now(NOW + 5) == 1.0, "it was never broken"
    breaker.rest(NOW, 3600.0)
    assert breaker.rests(NOW) == REST_MOST


def test_a_trial_that_is_asked_to_wait_is_no_verdict():
    breaker = broken()
    later = NOW + SET.cooldown
    breaker.rest(later, 1.0, breaker.begin(later))
    assert not breaker.allows(later + 0.9) and breaker.state(later) == "ejected"
    assert breaker.allows(later + 1.0)


# -- what control and other workers say --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "state", "barred", "slowly"),
    [("down", "down", False, True), ("wedged", "wedged", False, True), ("draining", "draining", True, True), ("new", "down", True, False)],
)
def test_verdicts(verdict, state, barred, slowly):
    breaker = Breaker()
    breaker.adopt(verdict, "its probe says so", NOW)
    breaker.adopt(verdict, "its probe still says so", NOW + 1)
    assert (breaker.state(NOW + 2), breaker.why, breaker.since) == (state, "its probe still says so", NOW)
    assert not breaker.well and not breaker.allows(NOW + 2) and breaker.barred is barred
    assert not served(breaker, NOW + 2) and breaker.state(NOW + 2) == state, "a request's luck does not outvote it"
    breaker.adopt("", "", NOW + 3)
    assert breaker.allows(NOW + 3) and breaker.state(NOW + 3) == "up" and breaker.since == NOW + 3 and not breaker.barred
    assert breaker.share_now(NOW + 3) == (LEAST_SHARE if slowly else 1.0) and breaker.well is not slowly


def test_a_verdict_stands_above_an_ejection_and_leaves_it_as_it_was():
    breaker = broken()
    breaker.adopt("wedged", "tokens stand still", NOW + 1)
    assert breaker.state(NOW + SET.cooldown) == "wedged" and not breaker.allows(NOW + SET.cooldown)
    breaker.adopt("", "", NOW + 2)
    assert breaker.state(NOW + 2) == "ejected" and not breaker.allows(NOW + 2) and breaker.allows(NOW + SET.cooldown)
    assert breaker.share_now(NOW + 2) == 1.0, "its trial is a whole request"


def test_another_workers_ejection_and_recovery():
    ward = Ward(2)
    breaker = Breaker(SET, ward)
    breaker.adopt_ejected(NOW, 4.0, "another worker: reset")
    assert breaker.state(NOW) == "ejected" and breaker.remaining(NOW) == 4.0 and breaker.why == "another worker: reset"
    breaker.adopt_ejected(NOW + 1, 9.0, "another worker: reset")
    assert breaker.remaining(NOW + 1) == 9.0 and list(ward.out) == [breaker]
    breaker.adopt_ejected(NOW + 1, 2.0, "another worker: reset")
    assert breaker.remaining(NOW + 1) == 9.0, "an older story"
    breaker.adopt_recovered(NOW + 2)
    assert breaker.allows(NOW + 2) and breaker.share_now(NOW + 2) == LEAST_SHARE and not list(ward.out)
    assert not breaker.failure(NOW + 2, "reset", breaker.begin(NOW + 2)), "it starts afresh"


def test_another_workers_failed_trial_makes_the_own_next_one_wait_longer():
    breaker = broken()
    breaker.adopt_ejected(NOW + SET.cooldown, 20.0, "another worker: trial failed")
    later = NOW + SET.cooldown + 20
    assert not breaker.allows(later - 0.1) and breaker.allows(later)
    assert breaker.failure(later, "reset", breaker.begin(later)) and breaker.remaining(later) == 40.0


def test_the_next_trial_is_that_of_the_worker_that_ejected_it():
    breaker = Breaker(SET)
    breaker.adopt_ejected(NOW, 4.0, "another worker: reset", others=True)
    due = NOW + 4.0
    assert not breaker.allows(due) and breaker.why.endswith("on trial") and not breaker.due(due + TURN - 0.01)
    assert breaker.due(due + TURN), "nobody else made it"
    ticket = breaker.begin(due + TURN)
    assert breaker.tries(due + TURN) and not breaker.allows(due + TURN) and breaker.success(due + TURN, ticket)


def test_while_another_worker_tries_nobody_else_does():
    breaker = broken()
    due = NOW + SET.cooldown
    breaker.adopt_trial(due)
    assert not breaker.allows(due) and not breaker.allows(due + OTHERS_MOST - 0.01)
    breaker.adopt_ejected(due + 1, 20.0, "trial failed: reset", others=True)
    assert not breaker.allows(due + 21) and breaker.allows(due + 21 + TURN), "that trial is over"
    breaker.adopt_trial(due + 22)
    assert breaker.allows(due + 22 + OTHERS_MOST), "it takes too long"
    breaker.adopt_recovered(due + 23)
    assert breaker.allows(due + 23)


def test_who_is_sent_there_for_want_of_others_is_no_trial_in_another_workers_turn():
    breaker = broken()
    due = NOW + SET.cooldown
    breaker.adopt_trial(due)
    ticket = breaker.begin(due + 1)
    assert not breaker.tries(due + 1) and not breaker.failure(due + 1, "reset", ticket) and breaker.state(due + 1) == "ejected"
    assert breaker.success(due + 2, breaker.begin(due + 2)) and breaker.state(due + 2) == "up"


def test_the_own_ejection_gives_the_own_turn():
    breaker = broken()
    due = NOW + SET.cooldown
    breaker.adopt_ejected(NOW + 1, SET.cooldown - 1, "another worker: reset", others=True)
    assert not breaker.allows(due) and breaker.failure(due + TURN, "reset", breaker.begin(due + TURN))
    assert breaker.allows(due + TURN + 2 * SET.cooldown)


def test_a_trial_of_what_is_not_ejected_is_old_news():
    breaker = Breaker(SET)
    breaker.adopt_trial(NOW)
    assert breaker.well and breaker.allows(NOW) and broken().allows(NOW + SET.cooldown)


def test_news_that_come_late_or_twice_change_nothing():
    breaker = Breaker()
    breaker.adopt_ejected(NOW, 0.0, "over")
    breaker.adopt_recovered(NOW)
    breaker.adopt("", "", NOW)
    assert breaker.well and breaker.state(NOW) == "up" and breaker.since == 0.0


# -- the ward ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "most"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (7, 3), (8, 4)])
def test_at_most_half_of_a_channel_is_ejected(size, most):
    ward = Ward(size)
    breakers = [Breaker(SET, ward) for _ in range(size)]
    ejected = [breaker for breaker in breakers if any(fail(breaker))]
    assert len(ejected) == len(list(ward.out)) == min(size, most)
    for breaker in breakers:
        if breaker not in ejected:
            assert breaker.state(NOW) == "degraded" and breaker.allows(NOW) and not breaker.well
            assert breaker.why == "5 failures in a row: reset; not ejected, because half of its channel is"


def test_nobody_takes_two_places():
    ward, breaker = Ward(1), Breaker()
    assert ward.take(breaker) and ward.take(breaker) and list(ward.out) == [breaker] and not ward.take(Breaker())
    ward.leave(breaker)
    ward.leave(breaker)
    assert not list(ward.out)


def test_a_degraded_one_is_ejected_by_its_next_failure_when_there_is_room():
    ward = Ward(2)
    first, second = Breaker(SET, ward), Breaker(SET, ward)
    fail(first)
    assert not any(fail(second)) and second.state(NOW) == "degraded"
    served(first, NOW + SET.cooldown)
    assert fail(second, NOW + SET.cooldown, 1) == [True]
    assert not any(fail(first, NOW + SET.cooldown)), "now the other is the one that stays"


def test_a_degraded_one_is_up_again_after_a_success():
    ward = Ward(2)
    broken(ward=ward)
    breaker = Breaker(SET, ward)
    fail(breaker)
    served(breaker, NOW + 1)
    assert breaker.well and breaker.state(NOW + 1) == "up" and breaker.since == NOW + 1


def test_a_degraded_one_is_up_again_when_its_bad_window_is_over():
    ward = Ward(2)
    broken(ward=ward)
    breaker = Breaker(SET, ward)
    assert not any(mixed(breaker, NOW, SET.least // 2) + fail(breaker, NOW, 3))
    served(breaker, NOW + 1)
    assert breaker.state(NOW + 1) == "degraded", "one success among so many failures"
    assert breaker.why == "at least 50% of requests failed: reset; not ejected, because half of its channel is"
    assert breaker.state(NOW + SET.window + 5) == "up" and breaker.well


def test_a_ward_that_shrinks_lets_the_longest_ejected_back_in():
    ward = Ward(6)
    breakers = [broken(NOW + number, ward=ward) for number in range(3)]
    breakers[2].let_go()
    breakers[2].let_go()
    assert list(ward.out) == breakers[:2]
    ward.resize(3, NOW + 5)
    assert [breaker.state(NOW + 5) for breaker in breakers[:2]] == ["degraded", "ejected"]
    assert breakers[0].allows(NOW + 5) and breakers[0].share_now(NOW + 5) == 1.0
    served(breakers[0], NOW + 6)
    assert breakers[0].state(NOW + 6) == "up"
    ward.resize(6, NOW + 7)
    assert any(fail(breakers[0], NOW + 7)), "it grew: there is room"


# -- everything at once ------------------------------------------------------------------------------------------------


class Channel(RuleBasedStateMachine):
    """One channel's breakers in two workers that tell each other, against what anybody may count on."""

    @initialize(size=st.integers(1, 5))
    def begin(self, size: int) -> None:
        self.now = NOW
        self.wards = [Ward(size), Ward(size)]
        self.workers = [[Breaker(SET, ward) for _ in range(size)] for ward in self.wards]
        self.sent: list[tuple[int, int, int]] = []
        """worker, endpoint, ticket"""
        self.trials: dict[tuple[int, int], tuple[int, float]] = {}
        """Those under way: ticket, when. By worker and endpoint."""
        self.resting: dict[tuple[int, int], float] = {}
        self.verdicts: dict[int, str] = {}

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 10.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(worker=st.integers(0, 1), number=st.integers(0, 4))
    def send(self, worker: int, number: int) -> None:
        number %= len(self.workers[0])
        breaker = self.workers[worker][number]
        half_open = breaker in self.wards[worker].out and not breaker.remaining(self.now)
        trial = half_open and not self.on_trial(worker, number)
        ticket = breaker.begin(self.now)
        assert (ticket == -1) == (half_open and not trial), "one trial at a time"
        if trial:
            assert not breaker.allows(self.now)
            self.trials[worker, number] = ticket, self.now
        self.sent.append((worker, number, ticket))

    @rule(which=st.integers(0), end=st.sampled_from(["ok", "fail", "fail", "fail", "left", "rest"]))
    def answer(self, which: int, end: str) -> None:
        if not self.sent:
            return
        worker, number, ticket = self.sent.pop(which % len(self.sent))
        if self.trials.get((worker, number), (-2, 0.0))[0] == ticket:
            del self.trials[worker, number]
        breaker, other = self.workers[worker][number], self.workers[1 - worker][number]
        before = breaker.remaining(self.now)
        if end == "ok":
            if breaker.success(self.now, ticket):
                assert breaker.remaining(self.now) == 0.0 and breaker not in self.wards[worker].out
                other.adopt_recovered(self.now)
        elif end == "fail":
            if breaker.failure(self.now, "reset", ticket):
                assert breaker in self.wards[worker].out
                assert SET.cooldown - 1e-6 <= breaker.remaining(self.now) <= SET.cooldown * LONGEST + 1e-6
                other.adopt_ejected(self.now, breaker.remaining(self.now), "another worker")
            else:
                assert breaker.remaining(self.now) == before, "no failure but an ejecting one makes it longer"
        elif end == "left":
            breaker.abandoned(ticket)
        else:
            breaker.rest(self.now, 3.0, ticket)
            self.resting[worker, number] = self.now + 3.0

    @rule(number=st.integers(0, 4), verdict=st.sampled_from(["", "", "down", "wedged", "draining", "new"]))
    def judge(self, number: int, verdict: str) -> None:
        number %= len(self.workers[0])
        self.verdicts[number] = verdict
        for breakers in self.workers:
            breakers[number].adopt(verdict, "because", self.now)

    @rule(times=st.integers(5, 6), worker=st.integers(0, 1), number=st.integers(0, 4))
    def break_down(self, times: int, worker: int, number: int) -> None:
        for _ in range(times):
            self.send(worker, number)
            self.answer(len(self.sent) - 1, "fail")

    @invariant()
    def at_most_half_are_ejected(self) -> None:
        for ward, breakers in zip(self.wards, self.workers, strict=True):
            out = [breaker for breaker in breakers if breaker in ward.out]
            assert len(out) == len(list(ward.out)) <= max(1, len(breakers) // 2)
            for breaker in breakers:
                assert not breaker.remaining(self.now) or breaker in out

    def on_trial(self, worker: int, number: int) -> bool:
        return self.now - self.trials.get((worker, number), (0, 0.0))[1] < TRIAL_MOST

    @invariant()
    def a_trial_ends_with_the_ejection(self) -> None:
        for worker, number in list(self.trials):
            if self.workers[worker][number] not in self.wards[worker].out:
                del self.trials[worker, number]

    @invariant()
    def words_and_answers_agree(self) -> None:
        for worker, breakers in enumerate(self.workers):
            for number, breaker in enumerate(breakers):
                allowed, state, verdict = breaker.allows(self.now), breaker.state(self.now), self.verdicts.get(number, "")
                assert state in ("up", "degraded", "busy", "ejected", "wedged", "draining", "down")
                assert breaker.barred == (verdict in ("draining", "new"))
                assert bool(breaker.why) == (not breaker.well), "whatever is unusual is told"
                assert breaker.since <= self.now and LEAST_SHARE <= breaker.share_now(self.now) <= 1.0
                if verdict:
                    assert state == ("down" if verdict == "new" else verdict) and not allowed
                elif self.resting.get((worker, number), 0.0) > self.now:
                    assert state in ("busy", "ejected") and not allowed
                elif state == "ejected":
                    assert allowed == (not breaker.remaining(self.now) and not self.on_trial(worker, number))
                else:
                    assert allowed and state in ("up", "degraded")
                if breaker.well:
                    assert state == "up" and breaker.share_now(self.now) == 1.0


Channel.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestChannel = Channel.TestCase


# -- budget ------------------------------------------------------------------------------------------------------------


def spent(budget: RetryBudget, now: float) -> int:
    count = 0
    while budget.spend(now):
        count += 1
    return count


def test_a_reserve_and_a_fifth_of_the_first_tries():
    budget = RetryBudget()
    assert spent(budget, NOW) == RESERVE
    for _ in range(100):
        budget.first_try()
    assert spent(budget, NOW) in (19, 20)  # a fifth is no binary fraction


def test_who_tries_seldom_may_always_try_again():
    budget = RetryBudget()
    spent(budget, NOW)
    for minute in range(1, 100):
        budget.first_try()
        assert budget.spend(NOW + 60 * minute)


def test_time_refills_the_reserve_and_no_more():
    budget = RetryBudget()
    spent(budget, NOW)
    assert spent(budget, NOW + 3) == 3
    assert spent(budget, NOW + 10_000) == RESERVE
    for _ in range(10_000):
        budget.first_try()
    assert 90 <= spent(budget, NOW + 10_000) <= 100, "what many first tries earn has an end as well"
