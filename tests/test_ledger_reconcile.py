"""What engines counted against what the ledger has: whose tokens belong to which hour and engine, and what the difference is called."""

from typing import Any

import pytest

from gateway.ledger.duck import DuckStore
from gateway.ledger.reconcile import compared
from gateway.ledger.store import Increase
from gateway.record import NO_TOKENS, Attempt, Millis, Tokens
from tests.test_ledger_store import done, write

HOUR = 1_790_000_000.0 // 3600 * 3600
LATER = HOUR + 5 * 3600
URL = "http://e"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "journal").mkdir()
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=tmp_path / "journal", clock=lambda: LATER)
    store.open()
    yield store
    store.close()


def tried(
    channel: str = "gpu", endpoint: str = URL, ms: float = 1000.0, reason: str = "ok", tokens: Tokens = NO_TOKENS, status: int = 0
) -> Attempt:
    return Attempt("first", channel, endpoint, "m", reason, status, ms, tokens)


def served(at: float, seconds: float, tokens_in: int, tokens_out: int, *attempts: Attempt, first: float = 0.0, **more: Any) -> Any:
    """at, first: seconds; the answer's tokens went from `first` to the end when it was a stream."""
    made = list(attempts) or [tried(ms=seconds * 1000)]
    ms = Millis(first=first * 1000, total=seconds * 1000)
    last = made[-1]
    return done(
        HOUR + at, attempts=made, channel=last.channel, endpoint=last.endpoint, ms=ms, tokens=Tokens(tokens_in, 0, tokens_out), **more
    )


def counts(prompt: int, generation: int, hour: int = 0, *, channel: str = "gpu", endpoint: str = URL, resets: int = 0,
           covered: float = 3600.0, since: float = 0.0, until: float = 3600.0) -> Increase:  # fmt: skip
    at = HOUR + hour * 3600
    return Increase(at, channel, endpoint, prompt, generation, resets, covered, at + since, at + until)


def ask(
    store: DuckStore, records: list[Any], increases: list[Increase], open_now: Any = (), now: float = LATER
) -> dict[tuple[int, str], dict[str, Any]]:
    store.load([write(store._journal, "0-a-000001", *records)])
    store.note_counters(increases, [])
    found = compared(store, HOUR - 3600, now, now, open_now)
    return {(int((row["hour"] - HOUR) // 3600), row["channel"]): row for row in found}


def brief(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["state"], row["engine"], row["ledger"], row["drift"], row["prompt"]["ledger"]


def test_they_agree_to_the_token(store):
    records = [served(10, 1, 7, 5), served(20, 2, 8, 15, stream=True, first=0.5), served(30, 1, 0, 0, tried(reason="connect"))]
    row = ask(store, records, [counts(15, 20)])[0, "gpu"]
    assert brief(row) == ("agrees", 20, 20, 0, 15)
    assert (row["percent"], row["bypassed"], row["resets"], row["coverage"], row["uncounted"], row["over"]) == (0.0, 0, 0, 1.0, 0, True)


def test_others_than_the_gateway_are_told(store):
    row = ask(store, [served(10, 1, 7, 50)], [counts(100, 80)])[0, "gpu"]
    assert brief(row) == ("bypassed", 80, 50, 30, 7) and row["bypassed"] == 30 and row["percent"] == 37.5


def test_a_stream_over_the_end_of_an_hour_belongs_to_both(store):
    rows = ask(store, [served(3500, 200, 9, 100, stream=True, first=50)], [counts(9, 33), counts(0, 67, 1)])
    assert brief(rows[0, "gpu"])[1:] == (33, 33, 0, 9) and brief(rows[1, "gpu"])[1:] == (67, 67, 0, 0)


def test_of_several_attempts_each_engine_has_its_own_part(store):
    records = [
        served(
            10,
            3,
            10,
            30,
            tried("a", ms=1000, reason="cut", tokens=Tokens(10, 0, 12)),
            tried("b", "http://b", 2000, tokens=Tokens(22, 0, 18)),
        ),
        served(20, 3, 10, 30, tried("a", ms=1000, reason="timeout_first_event"), tried("b", "http://b", 2000)),
        served(30, 3, 0, 0, tried("a", ms=1000, reason="http_500", status=500), tried("b", "http://b", 2000, "abandoned")),
    ]
    rows = ask(store, records, [counts(0, 12, channel="a"), counts(0, 48, channel="b", endpoint="http://b")])
    assert (rows[0, "a"]["ledger"], rows[0, "b"]["ledger"]) == (12, 48)
    assert (rows[0, "a"]["prompt"]["ledger"], rows[0, "b"]["prompt"]["ledger"]) == (10, 32)
    assert (rows[0, "a"]["uncounted"], rows[0, "b"]["uncounted"]) == (1, 1)


def test_what_a_killed_worker_left_counts_for_the_engine_it_was_sent_to(store):
    record = done(HOUR + 5, channel="gpu", endpoint=URL, end="KD", tokens=Tokens(3, 0, 4))
    assert brief(ask(store, [record], [counts(3, 4)])[0, "gpu"]) == ("agrees", 4, 4, 0, 3)


def test_only_the_time_that_the_engine_was_looked_at_is_compared(store):
    records = [served(10, 1, 5, 50), served(100, 1, 5, 50), served(300, 1, 5, 50)]
    row = ask(store, records, [counts(5, 50, since=60, until=200, covered=140)], now=HOUR + 210)[0, "gpu"]
    assert brief(row) == ("agrees", 50, 50, 0, 5) and not row["over"] and row["coverage"] == 0.667


@pytest.mark.parametrize(("covered", "state"), [(100.0, "uncertain"), (1790.0, "uncertain"), (1800.0, "agrees")])
def test_a_small_part_of_an_hour_does_not_speak_for_it(store, covered, state):
    """A ledger that was lost has begun anew late in the hour."""
    row = ask(store, [served(3595, 1, 5, 50)], [counts(5, 50, since=3600 - covered, covered=covered)])[0, "gpu"]
    assert brief(row) == (state, 50, 50, 0, 5) and row["coverage"] == round(covered / 3600, 3)


def test_what_is_more_is_told_however_short_the_look(store):
    row = ask(store, [served(3595, 1, 5, 50)], [counts(5, 90, since=3500, covered=100)])[0, "gpu"]
    assert (row["state"], row["drift"]) == ("bypassed", 40)


def test_an_endpoint_of_which_nothing_is_known_and_nothing_came_takes_nothing_from_the_others(store):
    records = [served(10, 2, 5, 50, tried(ms=1000, reason="timeout_first_event", endpoint="http://dead"), tried())]
    row = ask(store, records, [counts(5, 50)])[0, "gpu"]
    assert (row["state"], row["coverage"], row["uncounted"]) == ("agrees", 1.0, 1)


def test_a_restart_is_no_drift_unless_the_engine_counted_more(store):
    rows = ask(
        store,
        [served(10, 1, 5, 50), served(3610, 1, 5, 50)],
        [counts(0, 20, resets=1), counts(0, 90, 1, resets=1)],
    )
    first, second = rows[0, "gpu"], rows[1, "gpu"]
    assert (first["state"], first["drift"], first["unseen"], first["resets"]) == ("restarted", 0, 30, 1)
    assert (second["state"], second["drift"], second["unseen"]) == ("bypassed", 40, 0)


def test_less_than_the_ledger_without_a_restart_is_missing_and_blind_time_is_incomplete(store):
    rows = ask(store, [served(10, 1, 5, 50), served(3610, 1, 5, 50)], [counts(0, 20), counts(0, 500, 1, covered=100.0)])
    assert [rows[n, "gpu"]["state"] for n in (0, 1)] == ["missing", "incomplete"] and rows[0, "gpu"]["drift"] == -30


def test_an_engine_without_counters_is_unknown(store):
    row = ask(store, [served(10, 1, 5, 50)], [])[0, "gpu"]
    assert (row["state"], row["engine"], row["drift"], row["percent"], row["ledger"]) == ("unknown", None, None, None, 50)


def test_requests_that_are_open_are_no_bypass(store):
    open_now = [("gpu", URL, HOUR + 100, HOUR + 200, 9.0, 100.0)]
    row = ask(store, [], [counts(9, 100, until=200, covered=200)], open_now, now=HOUR + 200)[0, "gpu"]
    assert (row["state"], row["in_flight"], row["drift"], row["prompt"]["ledger"]) == ("agrees", 100, 0, 9)


def test_an_engine_behind_two_channels_counts_for_both(store):
    records = [served(10, 1, 5, 30, tried("a")), served(20, 1, 7, 70, tried("b"))]
    rows = ask(store, records, [counts(12, 100, channel="a"), counts(12, 100, channel="b")])
    assert brief(rows[0, "a"]) == ("agrees", 30, 30, 0, 5) and brief(rows[0, "b"]) == ("agrees", 70, 70, 0, 7)
