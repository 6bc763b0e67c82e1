"""Schedules: what their text means, the clock on the wall through changes of the clocks, and when they next open or close."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import hours as texts
from gateway.config.hours import DAYS, dates_of, hours_of, zone_of
from gateway.config.resolve_when import resolve_schedules
from gateway.config.resolved_when import Hours
from gateway.config.when import Schedule as Written
from gateway.route.schedule import Schedule, compile_schedule

ZONES = (
    "UTC Asia/Shanghai Europe/Berlin America/New_York America/Santiago Africa/Cairo America/Havana Australia/Lord_Howe Asia/Beirut "
    "Africa/Casablanca Asia/Kathmandu America/Scoresbysund +05:45 -03:30"
).split()
"""Clocks that change at midnight, by half an hour, never, or around Ramadan."""


def schedule(when: str | list[str], holidays: str | list[str] | None = None, zone: str = "UTC") -> Schedule:
    written = Written.model_validate({"zone": zone, "when": when, "holidays": holidays or []})
    return compile_schedule(resolve_schedules({"s": written})["s"])


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    """`2026-11-23 09:00` on the wall of a zone, as Unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=zone_of(zone), fold=fold).timestamp()


# -- what is written ---------------------------------------------------------------------------------------------------

MON_TO_FRI, EVERY_DAY = 0b0011111, 0b1111111


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("Mon-Fri 09:00-18:00", Hours(540, 1080, MON_TO_FRI)),
        ("mon-FRI 9:00-18:00", Hours(540, 1080, MON_TO_FRI)),
        ("Monday,Wednesday, Fri 09:00-18:00", Hours(540, 1080, 0b0010101)),
        ("Sat-Sun", Hours(0, 1440, 0b1100000)),
        ("Fri-Mon 22:00-24:00", Hours(1320, 1440, 0b1110001)),
        ("Mon,Wed-Fri", Hours(0, 1440, 0b0011101)),
        ("09:00-18:00", Hours(540, 1080, EVERY_DAY)),
        ("22:00-02:00", Hours(1320, 1560, EVERY_DAY)),
        ("00:00-24:00", Hours(0, 1440, EVERY_DAY)),
        ("22:00-00:00", Hours(1320, 1440, EVERY_DAY)),
        ("2026-12-24 09:00-14:00", Hours(540, 840, 0, date(2026, 12, 24).toordinal(), date(2026, 12, 24).toordinal())),
        ("2026-12-24..2026-12-26", Hours(0, 1440, 0, date(2026, 12, 24).toordinal(), date(2026, 12, 26).toordinal())),
    ],
)
def test_what_an_entry_means(text, hours):
    assert hours_of(text) == hours


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a day with hours"),
        ("Mon - Fri 09:00-18:00", "is not a day with hours"),
        ("Mon-Fri 09:00 - 18:00", "is not a day with hours"),
        ("Mon,,Fri", "is not a day with hours"),
        ("Mon " * 40, "is not a day with hours"),
        ("Mon-Fri 9-18", "is not a day with hours"),
        ("Mon-Fri 09:00", "has hours that are none"),
        ("Mon-Fri 09:00-18:00:30", "has hours that are none"),
        ("Mon-Fri 09:60-18:00", "names a time that no clock shows"),
        ("Mon-Fri 24:00-08:00", "names a time that no clock shows"),
        ("Mon-Fri 20:00-24:30", "names a time that no clock shows"),
        ("Mon-Fri 09:00-09:00", "begins and ends at the same time"),
        ("Mo-Fr 09:00-18:00", 'has a day that is none: "Mo"'),
        ("Montag", 'has a day that is none: "Montag"'),
        ("Mon- 09:00-18:00", 'has a day that is none: ""'),
        ("2026-02-30 09:00-18:00", "is a date that no calendar has"),
        ("24.12.2026", "is not a date"),
        ("2026-12-26..2026-12-24", "ends before it begins"),
        ("2026-01-01..2027-01-02", "is longer than a year"),
        ("0999-01-01", "is far from today"),
    ],
)
def test_what_is_no_entry(text, said):
    with pytest.raises(ValueError) as caught:
        hours_of(text)
    message, _, hint = str(caught.value).partition("; ")
    assert said in message and hint


@pytest.mark.parametrize("text", ["2027-1-1", "tomorrow", "", "2027-01-01..", "2027-01-01...2027-01-03", "2027-13-01", "２０２７-01-01"])
def test_what_is_no_date(text):
    with pytest.raises(ValueError, match="; "):
        dates_of(text)


@given(st.text("MonFri0123456789:-,. \n", max_size=40))
def test_any_text_is_hours_or_a_mistake_with_a_hint(text):
    try:
        hours = hours_of(text)
    except ValueError as error:
        assert "; " in str(error)
    else:
        assert 0 <= hours.begin < 1440 and hours.begin < hours.end <= hours.begin + 1440 and bool(hours.days) != bool(hours.first)


def test_zones(monkeypatch):
    assert zone_of("UTC") is UTC and str(zone_of("Asia/Shanghai")) == "Asia/Shanghai"
    assert datetime(2026, 1, 1, tzinfo=zone_of("-03:30")).isoformat() == "2026-01-01T00:00:00-03:30"
    for name in ("Asia/Shangai", "Asia", "", "../etc/passwd", "/etc/localtime", "+25:00", "x" * 300, "a\0b"):
        with pytest.raises(ValueError, match="there is no time zone"):
            zone_of(name)
    monkeypatch.setattr(texts, "available_timezones", lambda: set())
    with pytest.raises(ValueError, match=r"no time zone database \(/usr/share/zoneinfo\); install the package tzdata"):
        zone_of("Asia/Shangai")


# -- open or closed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-23 08:59:59", False),
        ("2026-11-23 09:00:00", True),
        ("2026-11-23 17:59:59.999", True),
        ("2026-11-23 18:00:00", False),
        ("2026-11-21 12:00", False),  # a Saturday
        ("2026-11-21 22:00", True),
        ("2026-11-22 01:59", True),  # still Saturday's
        ("2026-11-22 02:00", False),
        ("2026-11-22 22:00", False),
        ("2027-01-01 10:00", False),  # a holiday, a Friday
        ("2027-02-08 10:00", False),  # inside the long one
        ("2027-02-13 23:00", True),  # the Saturday after it
        ("2027-02-14 01:00", True),
        ("2027-02-20 23:00", False),  # a Saturday that is a holiday: nothing begins on it
        ("2027-02-21 01:00", False),
        ("2027-02-27 23:00", True),  # a Saturday before a holiday: what began goes on
        ("2027-02-28 01:00", True),
        ("2026-12-24 13:59", True),  # a date's hours are its only ones
        ("2026-12-24 14:00", False),
        ("2026-12-25 11:00", True),  # a holiday with hours of its own
        ("2026-12-25 13:00", False),
    ],
)
def test_open(moment, is_open):
    when = ["Mon-Fri 09:00-18:00", "Sat 22:00-02:00", "2026-12-24 09:00-14:00", "2026-12-25 10:00-12:00"]
    off = ["2027-01-01", "2026-12-25", "2027-02-06..2027-02-12", "2027-02-20", "2027-02-28"]
    assert schedule(when, off, "Asia/Shanghai").open_at(at(moment, "Asia/Shanghai")) is is_open


def test_a_skipped_hour_is_not_there_and_an_hour_that_comes_twice_counts_twice():
    zone = "Europe/Berlin"  # 2026-03-29: 02:00 → 03:00. 2026-10-25: 03:00 → 02:00
    night = schedule("02:30-03:30", zone=zone)
    assert not night.open_at(at("2026-03-29 01:59", zone)) and night.open_at(at("2026-03-29 03:00", zone))
    assert night.next_change(at("2026-03-29 01:00", zone)) == at("2026-03-29 03:00", zone)
    gone = schedule("02:10-02:50", zone=zone)
    assert gone.next_change(at("2026-03-29 00:00", zone)) == at("2026-03-30 02:10", zone)
    twice = [at("2026-10-25 02:10", zone), at("2026-10-25 02:50", zone), at("2026-10-25 02:10", zone, 1), at("2026-10-25 02:50", zone, 1)]
    changes = [at("2026-10-25 00:00", zone)]
    for _ in twice:
        changes.append(gone.next_change(changes[-1]) or 0.0)
    assert changes[1:] == twice
    over = schedule("Sat 22:00-02:30", zone=zone)
    assert over.open_at(at("2026-10-25 02:29", zone)) and not over.open_at(at("2026-10-25 02:31", zone))
    assert over.open_at(at("2026-10-25 02:29", zone, 1)) and not over.open_at(at("2026-10-25 02:31", zone, 1))


def test_told():
    office = schedule("Mon-Fri 09:00-18:00", "2026-11-30", "Asia/Shanghai")
    assert office.told(at("2026-11-27 12:00", "Asia/Shanghai")) == "open until Fri 2026-11-27 18:00 (Asia/Shanghai)"
    assert office.told(at("2026-11-28 12:00", "Asia/Shanghai")) == "closed until Tue 2026-12-01 09:00 (Asia/Shanghai)"
    assert schedule("Mon-Sun").told(0.0) == "open for good (UTC)"
    assert schedule("2026-11-23 09:00-10:00").told(at("2026-11-24 00:00")) == "closed for good (UTC)"


def test_what_ends_tomorrow_ends_with_the_clocks_when_these_skip_its_end():
    found = schedule("Sat 22:00-02:30", zone="Europe/Berlin")
    assert found.told(at("2027-03-27 23:00", "Europe/Berlin")) == "open until Sun 2027-03-28 03:00 (Europe/Berlin)"


def test_changes_far_away_are_found():
    assert schedule("Mon-Sun", "2099-12-31").next_change(at("2026-01-01 00:00")) == at("2099-12-31 00:00")
    assert schedule("2099-12-31").next_change(at("2026-01-01 00:00")) == at("2099-12-31 00:00")
    assert schedule("Mon", ["2026-01-01..2026-12-31"]).next_change(at("2026-01-01 00:00")) == at("2027-01-04 00:00")


def test_the_answer_does_not_depend_on_what_was_asked_before():
    office = schedule("09:00-18:00")
    moments = [at("2026-11-23 09:00:59.5"), at("2026-11-23 08:59:59.9"), at("2026-11-23 09:00"), -1.0, 0.0, at("2026-11-23 09:00:01")]
    assert [office.open_at(moment) for moment in moments] == [True, False, True, False, False, True]


# -- against a search, minute by minute ----------------------------------------------------------------------------------

CLOCK = st.integers(0, 47).map(lambda half: half * 30)
DATE = st.dates(date(2026, 3, 1), date(2026, 4, 30)) | st.dates(date(2026, 9, 1), date(2026, 11, 30))
WEEKLY = st.tuples(st.frozensets(st.integers(0, 6), min_size=1), CLOCK, CLOCK.map(lambda minute: minute + 30))
DATED = st.tuples(DATE, CLOCK, CLOCK.map(lambda minute: minute + 30))


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def expected(weekly, dated, holidays, zone, unix) -> bool:
    """The rules of the docs, said once more and as plainly as can be."""
    now = datetime.fromtimestamp(unix, zone)
    for back in (0, 1):
        day = date.fromordinal(now.toordinal() - back)
        minute = now.hour * 60 + now.minute + back * 1440
        today = [(begin, end) for on, begin, end in dated if on == day]
        if not today and day not in holidays:
            today = [(begin, end) for days, begin, end in weekly if day.weekday() in days]
        if any(begin <= minute < (end if end > begin else end + 1440) for begin, end in today):
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(
    weekly=st.lists(WEEKLY.filter(lambda one: one[1] != one[2]), max_size=3),
    dated=st.lists(DATED.filter(lambda one: one[1] != one[2]), max_size=2),
    holidays=st.lists(DATE, max_size=3),
    zone=st.sampled_from(ZONES),
    start=DATE,
    minute=st.integers(0, 1439),
)
def test_against_a_search_minute_by_minute(weekly, dated, holidays, zone, start, minute):
    when = [f"{','.join(DAYS[day] for day in sorted(days))} {clock(begin)}-{clock(end)}" for days, begin, end in weekly]
    when += [f"{on} {clock(begin)}-{clock(end)}" for on, begin, end in dated]
    found = schedule(when or ["Mon 00:00-00:30"], [str(day) for day in holidays], zone)
    weekly = weekly if when else [(frozenset({0}), 0, 30)]
    tz = zone_of(zone)
    begin = datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp() + minute * 60
    states = [expected(weekly, dated, holidays, tz, begin + ahead * 60) for ahead in range(3 * 1440)]
    assert [found.open_at(begin + ahead * 60) for ahead in range(3 * 1440)] == states
    change = next((begin + ahead * 60 for ahead, state in enumerate(states) if state != states[0]), None)
    said = found.next_change(begin)
    assert said == change if change is not None else said is None or said >= begin + 3 * 86400


def test_the_zones_of_the_search_do_change_their_clocks():
    changing = [
        name
        for name in ZONES
        if "/" in name and len({datetime(2026, month, 1, tzinfo=ZoneInfo(name)).utcoffset() for month in range(1, 13)}) > 1
    ]
    assert len(changing) >= 8
