"""Windows of limits against plain lists of what was used: never more than N in any stretch, periods by the calendar of a zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.referee.moment import Moment
from gateway.referee.windows import window_of
from gateway.referee.windows.calendar import KEPT, Calendar, calendar_of
from gateway.referee.windows.flight import Flight
from gateway.referee.windows.rolling import PARTS, SECONDS, Rolling


def at(mono: float, wall: float | None = None) -> Moment:
    return Moment(mono, mono + 1_800_000_000 if wall is None else wall)


STEPS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 5)), max_size=120)


@given(per=st.sampled_from(sorted(SECONDS)), most=st.integers(1, 20), steps=STEPS)
def test_never_more_than_n_in_any_stretch_and_nothing_is_kept_for_longer_than_a_part_more(per, most, steps):
    """steps: time since the last one in 64ths of the window, and an amount."""
    length = SECONDS[per]
    taken: list[tuple[float, int]] = []
    window, now = Rolling(length), 1000.0 * length
    for wait, amount in steps:
        now += wait * length / 64
        used = window.used(at(now))
        assert used >= sum(n for t, n in taken if t > now - length)
        assert used <= sum(n for t, n in taken if t >= now - length * (PARTS + 1) / PARTS)
        if used + amount <= most:
            window.add(amount, at(now))
            taken.append((now, amount))
    for begin, _ in taken:  # a stretch that holds the most begins with some use
        assert sum(n for t, n in taken if begin <= t < begin + length) <= most


@given(per=st.sampled_from(sorted(SECONDS)), steps=STEPS.filter(bool), wanted=st.integers(1, 30))
def test_what_is_said_to_be_free_then_is_free_then_and_not_before(per, steps, wanted):
    length = SECONDS[per]
    window, now, total = Rolling(length), 1000.0 * length, 0
    for wait, amount in steps:
        now += wait * length / 64
        window.used(at(now))
        window.add(amount, at(now))
    total = window.used(at(now))
    wanted = min(wanted, total)
    wait = window.frees(wanted, at(now))
    assert 0 < wait <= length * (PARTS + 1) / PARTS + 1e-6
    assert window.used(at(now + wait * 0.999 - 1e-6)) > total - wanted
    assert window.used(at(now + wait + 1e-6)) <= total - wanted
    assert window.used(at(now + max(wait, window.reset(at(now))) + 1e-6)) == 0


def test_what_comes_back_goes_to_where_it_was_taken_even_when_that_is_over():
    window = Rolling(60)
    first = window.add(10, at(100))
    second = window.add(10, at(150))
    window.change(first, -4)
    assert window.used(at(150)) == 16
    assert window.used(at(162)) == 10
    window.change(first, -6)
    assert window.used(at(162)) == 10
    window.change(second, -10)
    assert window.used(at(162)) == 0 and window.reset(at(162)) == 0.0, "where nothing is used, nothing has to be waited for"


def test_use_that_is_told_late_ends_when_it_should():
    window = Rolling(60)
    window.add(1, at(100))
    window.add(2, at(70))
    assert window.used(at(130.5)) == 3
    assert window.used(at(132)) == 1
    assert window.frees(1, at(132)) == pytest.approx(29)


def test_a_rolling_window_does_not_look_at_the_clock_on_the_wall():
    window = Rolling(60)
    window.add(5, at(100, wall=1e9))
    for wall in (0.0, 1e9 - 86_400, 2e9):
        assert window.used(at(110, wall)) == 5
    assert window.used(at(161, wall=0.0)) == 0


@given(per=st.sampled_from(sorted(SECONDS)), steps=STEPS)
def test_what_was_kept_on_disk_counts_as_long_as_it_would_have(per, steps):
    length = SECONDS[per]
    kept: dict[int, int] = {}
    window, now = Rolling(length), 1000.0 * length
    for wait, amount in steps:
        now += wait * length / 64
        window.used(at(now))
        window.add(amount, at(now))
        place = window.place(at(now).wall) or 0
        kept[place] = kept.get(place, 0) + amount
    again = Rolling(length)
    again.seed(kept, at(now))
    assert again.used(at(now)) >= window.used(at(now)) - sum(kept[p] for p in sorted(kept)[:1])  # the part that runs out just now
    assert again.used(at(now + length * (PARTS + 2) / PARTS)) == 0


def test_what_was_used_while_the_clock_was_a_day_ahead_does_not_count_again_at_each_start():
    wall, length = 1_800_000_000.0, SECONDS["hour"]
    window = Rolling(length)
    kept = {window.place(wall + seconds) or 0: amount for seconds, amount in ((-600, 5), (86_400, 100), (0, 3))}
    window.seed(kept, at(1000, wall + 60))
    assert window.used(at(1000, wall + 60)) == 8


def test_what_was_used_just_before_the_clock_was_put_back_counts_for_as_long_as_it_would_have():
    """Also when it stands at 1970 after a start."""
    for back in (30, 7200, 1_700_000_000):
        wall, length = 1_800_000_000.0, SECONDS["hour"]
        window = Rolling(length)
        window.seed({int((wall - 3000) // 60): 5, int(wall // 60): 3}, at(10_000, wall - back))
        assert window.used(at(10_000, wall - back)) == 8
        assert window.used(at(10_000 + 900, 0)) == 3
        assert window.used(at(10_000 + 3700, 0)) == 0


# -- the calendar --------------------------------------------------------------------------------------------------------


def unix(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


DAYS = [
    ("UTC", "2027-03-01T00:00", 24), ("Asia/Shanghai", "2027-03-01T00:00", 24), ("Europe/Berlin", "2027-03-28T00:00", 23),
    ("Europe/Berlin", "2027-10-31T00:00", 25), ("America/New_York", "2027-03-14T00:00", 23), ("America/New_York", "2027-11-07T00:00", 25),
    ("Asia/Beirut", "2027-03-28T01:00", 23), ("Australia/Lord_Howe", "2027-04-04T00:00", 24.5),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "begin", "hours"), DAYS)
def test_a_day_is_as_long_as_its_zone_says(zone, begin, hours):
    begins = unix(begin, zone)
    window = window_of("day", zone)
    window.add(1, at(0, begins))
    assert window.reset(at(0, begins)) == hours * 3600
    assert window.used(at(0, begins + hours * 3600 - 1)) == 1
    assert window.used(at(0, begins + hours * 3600)) == 0
    assert window.used(at(0, begins - 1)) == 0


@pytest.mark.parametrize(("month", "days"), [("2027-02-01", 28), ("2028-02-01", 29), ("2027-04-01", 30), ("2027-12-01", 31)])
def test_a_month_is_as_long_as_the_calendar_says(month, days):
    begins = unix(month, "Asia/Shanghai")
    window = window_of("month", "Asia/Shanghai")
    window.add(7, at(0, begins + 3600))
    assert window.frees(1, at(0, begins)) == days * 86_400
    assert window.used(at(0, begins + days * 86_400 - 1)) == 7 and window.used(at(0, begins + days * 86_400)) == 0


def test_a_midnight_that_comes_twice_begins_one_day():
    """In Havana the clocks go from 01:00 back to 00:00."""
    first, second = unix("2027-11-07T00:00", "America/Havana"), unix("2027-11-07T00:00", "America/Havana", fold=1)
    assert second - first == 3600
    window = window_of("day", "America/Havana")
    window.add(1, at(0, first))
    assert window.used(at(0, second)) == 1 and window.reset(at(0, first)) == 25 * 3600


@settings(max_examples=200)
@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe"]),
    per=st.sampled_from(["day", "month"]),
    wall=st.floats(1e9, 3e9),
    steps=st.lists(st.floats(0, 40 * 86_400), max_size=20),
)
def test_periods_follow_each_other_without_a_gap(zone, per, wall, steps):
    periods = calendar_of(per, zone)
    number = periods.at(wall)
    for step in steps:
        wall += step
        later = periods.at(wall)
        assert later >= number
        number = later
        end = periods.end(wall)
        assert end > wall and periods.at(end) == number + 1 and periods.at(end - 1) == number


def test_a_clock_that_jumps_a_day_and_back_finds_what_it_left():
    window = Calendar(calendar_of("day", "UTC"))
    noon = 1_800_000_000.0
    window.add(5, at(0, noon))
    assert window.used(at(1, noon + 86_400)) == 0
    window.add(2, at(1, noon + 86_400))
    assert window.used(at(2, noon)) == 5
    assert window.used(at(3, noon - 86_400)) == 0
    window.add(1, at(3, noon - 86_400))
    assert window.used(at(3, noon - 86_400)) == 1


def test_the_present_day_is_found_again_on_disk_whatever_the_clock_has_shown_since():
    periods = calendar_of("day", "UTC")
    noon = 1_800_000_000.0
    kept = {periods.at(noon + day * 86_400): 5 + day for day in (0, 3, 20, 300, 301)}
    window = Calendar(periods)
    window.seed(kept, at(0, noon))
    assert window.used(at(0, noon)) == 5 and len(window._used) <= KEPT
    window.add(1, at(1, noon + 900 * 86_400))
    assert window.used(at(2, noon)) == 5


@given(st.lists(st.tuples(st.integers(-40, 40), st.integers(1, 3)), max_size=60))
def test_however_the_clock_jumps_the_present_day_counts_what_was_just_used(jumps):
    window = Calendar(calendar_of("day", "UTC"))
    for days, amount in jumps:
        now = at(0, 1_800_000_000 + days * 86_400)
        before = window.used(now)
        window.add(amount, now)
        assert window.used(now) == before + amount
        assert len(window._used) <= KEPT


def test_what_is_in_flight_is_a_number():
    window = Flight()
    mark = window.add(1, at(0))
    window.add(1, at(0))
    assert window.used(at(1e6)) == 2 and window.place(0.0) is None
    window.change(mark, -1)
    assert window.used(at(0)) == 1
