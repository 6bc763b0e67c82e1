"""What own hardware costs, shared out to the last nano; and what will have been spent when a month is over."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.resolved_prices import NANO
from gateway.price.capacity import HOUR, Shares, Used, busy_time, shares, split
from gateway.price.forecast import EVEN, by_hours, forecast, hours_of, weigh

USES = st.lists(st.builds(Used, st.integers(0, HOUR), st.integers(0, 10**7)), max_size=30)


@given(st.integers(0, 10**14), st.integers(0, 800 * HOUR), st.integers(0, 800 * HOUR), USES)
def test_the_parts_and_the_idle_line_are_the_whole(per_hour, micros, busy, uses):
    found = shares(per_hour, micros, busy, uses)
    assert sum(found.parts) + found.idle == found.whole and found.idle >= 0 and all(part >= 0 for part in found.parts)
    assert len(found.parts) == len(uses)


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any))
def test_a_split_is_fair_to_within_one(whole, weights):
    parts = split(whole, weights)
    assert sum(parts) == whole
    assert all(abs(part * sum(weights) - whole * weight) < sum(weights) for part, weight in zip(parts, weights, strict=True))


def test_by_engine_time():
    found = shares(12 * NANO, 2 * HOUR, HOUR // 2, [Used(HOUR, 3_000_000), Used(HOUR // 2, 1_000_000)])
    assert found == Shares(24 * NANO, [4 * NANO, 2 * NANO], 18 * NANO, 6 * NANO, 1_500_000_000)


def test_by_tokens_when_no_time_is_known():
    assert shares(12 * NANO, HOUR, 0, [Used(0, 3), Used(0, 1)])[:3] == (12 * NANO, [9 * NANO, 3 * NANO], 0)


def test_nobody_came():
    assert shares(12 * NANO, HOUR, 0, []) == Shares(12 * NANO, [], 12 * NANO, None, None)
    assert shares(12 * NANO, HOUR, 0, [Used(0, 0)]) == Shares(12 * NANO, [0], 12 * NANO, None, None)


def test_requests_at_the_same_time_count_once():
    assert busy_time([], 0, 10) == 0 and busy_time([(0, 10)], 2, 5) == 3 and busy_time([(20, 30)], 0, 10) == 0
    assert busy_time([(5, 7), (0, 3), (2, 4), (6, 7), (9, 99)], 1, 10) == 3 + 2 + 1


# -- forecasts ---------------------------------------------------------------------------------------------------------


def moment(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NOVEMBER = moment("2026-11-01"), moment("2026-12-01")


def test_by_the_share_of_time():
    begin, end = NOVEMBER
    assert forecast(100, begin, moment("2026-11-11"), end) == 300
    assert forecast(100, begin, begin, end) == 100 == forecast(100, begin, end, end) == forecast(100, begin, end + 9, end)
    assert forecast(0, begin, moment("2026-11-11"), end) == 0


def test_by_hours_a_quiet_weekend_is_not_taken_for_a_trend():
    hours = hours_of(*NOVEMBER, UTC)
    assert len(hours) == 720 and hours[0].slot == 6 * 24  # a Sunday
    past = hours_of(moment("2026-10-05"), moment("2026-11-02"), UTC)
    weights = weigh({hour.slot: 400 for hour in past if hour.slot < 5 * 24 and hour.slot % 24 >= 12}, past)
    assert weights == ((0,) * 12 + (100,) * 12) * 5 + (0,) * 48
    friday = moment("2026-11-07")  # the first five working days are over: 21 there are
    assert by_hours(500, friday, hours, weights) == 2100 and forecast(500, NOVEMBER[0], friday, NOVEMBER[1]) == 2500
    assert by_hours(500, moment("2026-11-09T12:00"), hours, weights) == 2100, "nor is the weekend after it, and not the morning"
    assert by_hours(550, moment("2026-11-09T18:00"), hours, weights) == 2100, "half of a day's busy hours"
    assert by_hours(7, moment("2026-11-01T12:00"), hours, weights) == 7 * 60, "work on a Sunday that nothing was expected of"
    assert by_hours(500, NOVEMBER[1], hours, weights) == 500


def test_without_history_hours_are_alike():
    assert weigh({}, []) == EVEN == weigh({}, hours_of(*NOVEMBER, UTC))
    assert by_hours(100, moment("2026-11-11"), hours_of(*NOVEMBER, UTC), EVEN) == 300


def test_hours_of_a_zone_whose_clocks_change():
    zone = ZoneInfo("Europe/Berlin")
    begin, end = (datetime(2026, month, 1, tzinfo=zone).timestamp() for month in (10, 11))
    hours = hours_of(begin, end, zone)
    assert len(hours) == 31 * 24 + 1 and (hours[0].begin, hours[-1].end) == (begin, end)
    assert all(one.end == other.begin for one, other in pairwise(hours))
    assert [hour.slot - 6 * 24 for hour in hours[24 * 24 : 24 * 24 + 5]] == [0, 1, 2, 2, 3]
    odd = hours_of(begin + 90, begin + 4000, ZoneInfo("Asia/Kathmandu"))
    assert odd[0].begin == begin + 90 and odd[-1].end == begin + 4000 and {one.end - one.begin for one in odd[1:-1]} <= {3600}
