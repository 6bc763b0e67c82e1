"""What limits keep on disk, what they tell callers, and what they guess before a request."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.resolved_limits import Limit, Limits
from gateway.errors import Refusal
from gateway.referee.gauges import NEVER
from gateway.referee.refusing import duration, lines, money, refusal
from gateway.referee.rules import Hours, Rule, amounts, rule_id
from gateway.referee.store import Store, write
from gateway.referee.terms import Table, Terms
from gateway.referee.users import KEYS_MOST, Users
from gateway.referee.windows import window_of

NOW = 1_800_000_000.0
HOURLY = rule_id("keys/k", Limit("requests", 5, "hour"))
DAILY = rule_id("keys/k", Limit("requests", 5, "day"))


def filled(folder: Path, counter: str = HOURLY, per: str = "hour", amount: int = 3) -> Store:
    store = Store(folder)
    store.load(NOW)
    store.begin()
    place = window_of(per, "UTC").place(NOW)
    store.bucket(NOW)[counter] = {place: amount}
    return store


def flush(store: Store, wall: float, steady: float | None = None) -> list[str]:
    """steady: monotonic seconds, None = the clock on the wall goes on evenly."""
    while not store.fold(wall, wall if steady is None else steady):
        pass
    written = []
    for path, data in store.pages():
        write(path, data)
        written.append(path.name)
    return written


def test_what_was_written_is_read_again_and_only_what_changed_is_written(tmp_path):
    store = filled(tmp_path / "limits")
    names = flush(store, NOW + 5)
    assert len(names) == 2 and names[-1] == "upto.json"
    assert flush(store, NOW + 7) == ["upto.json"]
    again = Store(tmp_path / "limits")
    assert again.load(NOW + 9) == again.upto == NOW + 6
    assert sum(again.get(HOURLY).values()) == 3 and again.get(DAILY) == {}
    assert again.knows(HOURLY, NOW + 5.9) and not again.knows(HOURLY, NOW + 6)
    assert (tmp_path / "limits").stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in (tmp_path / "limits").iterdir())


def test_what_ended_just_now_counts_before_it_is_folded_and_is_not_yet_said_to_be_known(tmp_path):
    store = filled(tmp_path / "limits")
    assert sum(store.get(HOURLY).values()) == 3
    assert store.fold(NOW + 0.5, 0.5) and not store.dirty
    assert not store.knows(HOURLY, NOW)
    assert store.fold(NOW + 3, 3) and store.dirty and sum(store.get(HOURLY).values()) == 3


def test_much_is_folded_in_slices(tmp_path):
    store = filled(tmp_path / "limits")
    for number in range(1500):
        store.bucket(NOW)[f"{HOURLY}={number}"] = {1: 1}
    turns = 1
    while not store.fold(NOW + 5, 5):
        turns += 1
    assert turns == 4


def test_without_files_counting_begins_now(tmp_path):
    store = Store(tmp_path / "limits")
    assert store.load(NOW) == NOW and not (tmp_path / "limits").exists()
    store.begin()
    store.begin()
    assert [file.name for file in (tmp_path / "limits").iterdir()] == ["upto.json"]


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"format": 99, "upto": 1, "counters": {}}', b"\xff" * 100])
def test_a_file_that_cannot_be_read_is_put_aside_and_the_journal_is_wanted(tmp_path, rubbish, caplog):
    folder = tmp_path / "limits"
    name = flush(filled(folder), NOW + 5)[0]
    (folder / name).write_bytes(rubbish)
    again = Store(folder)
    assert again.load(NOW + 9) < NOW - 50 * 86_400
    assert not again.knows(HOURLY, NOW) and again.get(HOURLY) == {}
    assert (folder / name).with_suffix(".bad").exists() and "cannot be read" in caplog.text
    other = next(f"{DAILY}={number}" for number in range(1000) if not (folder / name).exists() and again.knows(f"{DAILY}={number}", NOW))
    assert other, "the other files are as good as before"


def test_a_reader_puts_nothing_aside(tmp_path, caplog):
    folder = tmp_path / "limits"
    name = flush(filled(folder), NOW + 5)[0]
    (folder / name).write_bytes(b"{")
    assert Store(folder).get(HOURLY) == {} and (folder / name).exists() and "cannot be read" in caplog.text


@pytest.mark.parametrize(("per", "days"), [("hour", 1), ("day", 6), ("month", 140)])
def test_what_cannot_matter_any_more_is_left_out(tmp_path, per, days):
    limit = Limit("requests", 5, per)
    counter = rule_id("tenants/a", limit)
    store = filled(tmp_path / "limits", counter, limit.per)
    flush(store, NOW + 5)
    store._dirty.update(store._shelves)
    flush(store, NOW + days * 86_400)
    assert Store(tmp_path / "limits").get(counter) == {}


YEAR = 366 * 86_400


def test_a_clock_that_is_put_forward_and_back_makes_nothing_be_forgotten(tmp_path):
    """Everything would be over by a clock that is a year ahead; and what comes after it was put right is kept as well."""
    counters = {per: rule_id("tenants/a", Limit("requests", 5, per)) for per in ("minute", "hour", "day", "month")}
    store = filled(tmp_path / "limits", counters["minute"], "minute")
    for per, counter in counters.items():
        store.bucket(NOW)[counter] = {window_of(per, "UTC").place(NOW): 3}
    flush(store, NOW + 5, 5)
    for wall, steady in ((NOW + YEAR, 7), (NOW + 10, 10), (NOW + 3600, 3600)):
        store._dirty.update(store._shelves)
        flush(store, wall, steady)
    later = rule_id("tenants/b", Limit("requests", 5, "month"))
    store.bucket(NOW + 3601)[later] = {window_of("month", "UTC").place(NOW): 4}
    flush(store, NOW + 3605, 3605)
    again = Store(tmp_path / "limits")
    assert [sum(again.get(counter).values()) for counter in (*counters.values(), later)] == [3, 3, 3, 3, 4]


def test_who_begins_long_after_what_was_written_forgets_nothing_before_a_day_is_over(tmp_path):
    flush(filled(tmp_path / "limits", DAILY, "day"), NOW + 5)
    store = Store(tmp_path / "limits")
    store.load(NOW + YEAR)
    for steady, left in ((0, 3), (86_399, 3), (86_401, 0)):
        store._dirty.update(store._shelves)
        flush(store, NOW + YEAR + steady, steady)
        assert sum(Store(tmp_path / "limits").get(DAILY).values()) == left


def test_what_was_used_last_comes_last_also_where_something_was_used_before(tmp_path):
    store = filled(tmp_path / "limits")
    place = window_of("hour", "UTC").place
    for second in (YEAR, 1):
        store.bucket(NOW + second)[HOURLY] = {place(NOW + second): 2}
    assert list(store.get(HOURLY)) == [place(NOW + YEAR), place(NOW)]
    store.fold(NOW + 5, 5)
    store._add(HOURLY, place(NOW + YEAR), 1)
    store._add(HOURLY, place(NOW), 1)
    for path, data in store.pages():
        write(path, data)
    assert list(Store(tmp_path / "limits").get(HOURLY)) == [place(NOW + YEAR), place(NOW)]


def test_of_too_many_places_those_nearest_to_now_are_kept(tmp_path):
    store = Store(tmp_path / "limits")
    store.load(NOW)
    place = window_of("hour", "UTC").place
    for second in (*range(0, 3600, 60), *range(YEAR, YEAR + 3600, 60)):
        store.bucket(NOW + second)[HOURLY] = {place(NOW + second): 1}
    flush(store, NOW + 3600)
    store._add(HOURLY, place(NOW + 3660), 1)
    assert {place(NOW + second) for second in range(60, 3720, 60)} - {place(NOW + 3600)} <= set(store.get(HOURLY))


def test_a_full_disk_loses_nothing_in_memory(tmp_path):
    store = filled(tmp_path / "limits")
    store.fold(NOW + 5, 5)
    for path, _ in store.pages():
        store.failed(path)
    assert store.dirty and len(flush(store, NOW + 6)) == 2
    with pytest.raises(OSError):
        write(Path(os.devnull) / "x", b"")


# -- what callers are told -------------------------------------------------------------------------------------------------


def told(place: str, limit: Limit, after: float, used: int = 5, wanted: tuple[int, int] = (10, 20)) -> Refusal:
    return refusal(Rule(place, limit, Hours(Limits())), limit.max, amounts(*wanted, 0), after, used)


def test_the_refusal_says_which_limit_and_until_when():
    no = told("tenants/retail/projects/bot", Limit("requests", 5, "minute", name="night"), 12.3)
    assert (no.status, no.code, no.retry_after, no.phase, no.headers) == (429, "rate_limit_exceeded", 12.3, "L", {})
    assert no.message == (
        "The limit of your project `bot` (limit `night`) is reached: 5 requests per minute, of which 5 are used. Please try again in 13s."
    )
    assert no.log == "limit_project_night"


@pytest.mark.parametrize(
    ("limit", "code", "again"),
    [
        (Limit("requests", 5, "hour"), "rate_limit_exceeded", True),
        (Limit("concurrency", 5), "rate_limit_exceeded", True),
        (Limit("requests", 5, "day"), "insufficient_quota", True),
        (Limit("money", 5_500_000, "month", currency="CNY"), "insufficient_quota", True),
    ],
)
def test_its_code_and_whether_waiting_helps(limit, code, again):
    soon, late = told("keys/k", limit, 59.0), told("keys/k", limit, 61.0)
    assert soon.code == late.code == code
    assert "x-should-retry" not in soon.headers and late.headers == {"x-should-retry": "false"} and late.retry_after == 61.0


def test_what_never_fits_has_both_numbers_and_no_time():
    no = told("", Limit("total_tokens", 25, "minute"), NEVER)
    assert no.retry_after is None and no.headers == {"x-should-retry": "false"}
    assert "25 total tokens per minute" in no.message and "may use 30 total tokens" in no.message and "max_tokens" in no.message
    door = told("models/m", Limit("requests", 0, "day"), NEVER)
    assert "0 requests per day" in door.message and "may use 1 request" in door.message and "max_tokens" not in door.message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0001, "1ms"),
        (0.5, "500ms"),
        (0.9995, "1s"),
        (1, "1s"),
        (1.001, "2s"),
        (59.2, "1m0s"),
        (360, "6m0s"),
        (3723, "1h2m3s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("millionths", "text"), [(0, "0"), (1, "0.000001"), (5_250_000, "5.25"), (-1_500_000, "-1.5"), (12_000_000, "12")])
def test_money_is_written_exactly(millionths, text):
    assert money(millionths) == text


def test_headers_say_only_what_is_limited():
    assert lines(-1, -1, 0.0, -1, -1, 0.0) == b""
    assert lines(5, 4, 60.0, -1, -1, 0.0).count(b"\r\n") == 3
    assert b"x-ratelimit-reset-tokens: 1h0m0s\r\n" in lines(-1, -1, 0.0, 100, 0, 3600.0)


# -- what is guessed -------------------------------------------------------------------------------------------------------


def terms(*limits: Limit) -> Terms:
    table = Table(Limits(by={"": limits}))
    found = table.terms("k", "t", "p", (), "m", "")
    assert found is not None and table.terms("k", "t", "p", (), "m", "10.0.0.1") is found
    return found


TOTAL = Limit("total_tokens", 100, "minute")


def test_a_guess_never_closes_a_door_for_good_but_a_wish_is_taken_at_its_word():
    found = terms(TOTAL)
    assert sum(found.estimate(1_000_000, 0, 0, answers=True, many=0)) <= 100
    assert found.estimate(40, 0, 5000, answers=True, many=1)[1] == 5000
    assert found.estimate(40, 0, 50, answers=True, many=3)[1] == 150
    assert found.estimate(1_000_000, 777, 10, answers=True, many=0) == (777, 10), "what was counted is no guess"
    assert found.estimate(40, 0, 0, answers=False, many=0) == (11, 0)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans(), st.integers(0, 128))
def test_every_estimate_is_a_use(size, wanted, answers, many):
    input, output = terms(TOTAL, Limit("input_tokens", 7, "day"), Limit("output_tokens", 3, "day")).estimate(
        size, 0, wanted, answers=answers, many=many
    )
    assert 1 <= input <= 7 and output >= (1 if answers else 0)


def test_experience_makes_guesses_better():
    found = terms(Limit("total_tokens", 10**9, "minute"))
    for _ in range(200):
        found.learn(1000, 500, 40, free=True)
    input, output = found.estimate(1000, 0, 0, answers=True, many=0)
    assert 490 <= input <= 510 and 40 <= output <= 45


def test_who_used_most_is_remembered_in_bounds():
    users = Users()
    for number in range(5 * KEYS_MOST):
        users.add(f"k{number}", 1, 10.0)
    users.add("much", 50, 10.0)
    users.add("back", -3, 10.0)
    assert users.top(1) == [("much", 50)] and len(users._this) + len(users._before) <= 2 * KEYS_MOST + 3
    assert all(used > 0 for _, used in users.top(1000))
