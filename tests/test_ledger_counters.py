"""What engines count themselves: how it grows by the hour, what a restart and a gap make of it, and that it outlives whoever looks."""

import os

import pytest

from gateway.ledger import remembered
from gateway.ledger.duck import DuckStore
from gateway.ledger.growth import FAR, LONGEST, Growth
from gateway.ledger.store import Increase, Raw

HOUR = 1_800_000_000.0
AT = ("gpu", "http://e")


def grown(growth: Growth) -> list[tuple]:
    """Hour, prompt, generation, resets, covered; relative to HOUR."""
    return [((one.hour - HOUR) / 3600, one.prompt, one.generation, one.resets, one.covered) for one in growth.take()[0]]


def seen(*looks: tuple[float, int, int]) -> Growth:
    growth = Growth()
    for at, prompt, generation in looks:
        growth.see(AT, prompt, generation, HOUR + at)
    return growth


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, 500, 900)], [(0, 0, 0, 0, 0)]),
        ([(0, 500, 900), (10, 510, 950), (20, 510, 950)], [(0, 10, 50, 0, 20)]),
        ([(3590, 0, 0), (3610, 10, 101)], [(0, 5, 50, 0, 10), (1, 5, 51, 0, 10)]),
        ([(0, 500, 900), (10, 3, 7)], [(0, 3, 7, 1, 10)]),
        ([(0, 500, 900), (10, 3, 7), (20, 1, 1)], [(0, 4, 8, 2, 20)]),
        ([(0, 0, 0), (1000, 10, 10)], [(0, 10, 10, 0, 1000)]),
        ([(0, 5, 5), (1000, 1, 1)], [(0, 1, 1, 1, 0)]),
        ([(3500, 0, 0), (3500 + FAR + 80, 0, 200)], [(0, 0, 100, 0, 0), (1, 0, 100, 0, 0)]),
        ([(0, 0, 0), (LONGEST + 1, 10, 10)], [(0, 0, 0, 0, 0), (168, 0, 0, 0, 0)]),
        ([(100, 0, 0), (90, 10, 10)], [(0, 10, 10, 0, 0)]),
    ],
    ids=["first", "grows", "over an hour's end", "reset", "two resets", "bridged", "reset in a gap", "gap over an end", "too long", "back"],
)
def test_growth_by_hour(looks, expected):
    assert grown(seen(*looks)) == expected


def test_what_could_not_be_kept_comes_again_and_nothing_twice():
    growth = seen((0, 0, 0), (10, 1, 2))
    increases, last = growth.take()
    assert last == [Raw(*AT, 1, 2, HOUR + 10)]
    growth.see(AT, 3, 5, HOUR + 20)
    growth.give_back(increases)
    assert grown(growth) == [(0, 3, 5, 0, 20)] and grown(growth) == []


def test_an_endpoint_that_is_gone_begins_anew():
    growth = seen((0, 100, 100))
    growth.take()
    growth.forget([])
    growth.see(AT, 200, 200, HOUR + 10)
    assert grown(growth) == [(0, 0, 0, 0, 0)]


@pytest.fixture
def store(tmp_path):
    (tmp_path / "journal").mkdir()
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=tmp_path / "journal")
    store.open()
    yield store
    store.close()


def kept(store: DuckStore) -> list[tuple]:
    return store.query("SELECT epoch(hour), * EXCLUDE (hour) FROM counters ORDER BY ALL").rows


def test_increases_add_up_and_survive_reopening_compacting_and_rebuilding(store):
    last = [Raw(*AT, 7, 9, HOUR + 20)]
    store.note_counters([Increase(HOUR, *AT, 1, 2, 0, 10.0, HOUR, HOUR + 10), Increase(HOUR, "b", "u", 5, 5, 0, 1.0, HOUR, HOUR + 1)], [])
    store.note_counters([Increase(HOUR, *AT, 10, 20, 1, 10.0, HOUR + 10, HOUR + 20)], last)
    expected = [(HOUR, "b", "u", 5, 5, 0, 1.0, HOUR, HOUR + 1), (HOUR, *AT, 11, 22, 1, 20.0, HOUR, HOUR + 20)]
    assert kept(store) == expected and store.last_counters() == last
    store.close()
    store.open()
    store.compact()
    store.rebuild(lambda fresh: None)
    assert kept(store) == expected and store.last_counters() == last
    store.note_counters([], [])
    store.drop(HOUR + 3600)
    assert kept(store) == [] == store.last_counters()


def test_an_increase_while_control_was_away_is_counted(store):
    """Killed after it was kept once: what was only in its memory, and what came while nobody looked, is in the difference."""
    growth = seen((0, 0, 0), (10, 10, 10))
    store.note_counters(*growth.take())
    growth.see(AT, 20, 20, HOUR + 20)
    again = Growth(store.last_counters())
    again.see(AT, 45, 50, HOUR + 900)
    store.note_counters(*again.take())
    assert kept(store) == [(HOUR, *AT, 45, 50, 0, 900.0, HOUR, HOUR + 900)]


def raws(at: float) -> list[Raw]:
    return [Raw(*AT, 7, 9, at), Raw("b", "u", 1, 1, at)]


def filled(store: DuckStore) -> list[tuple]:
    """Three hours of two endpoints, noted in several parts."""
    for part in range(6):
        hour = HOUR + part // 2 * 3600
        other = Increase(hour, "b", "u", 1, 2, 0, 0.1, hour, hour)
        store.note_counters([Increase(hour, *AT, part, 10 * part, part % 2, 10.5, hour, hour + part), other], raws(hour + part))
    return kept(store)


def lose(store: DuckStore) -> None:
    store.close()
    store._db.path.unlink()


def test_a_ledger_that_is_lost_has_them_again(store, tmp_path):
    before = filled(store)
    last = sorted(store.last_counters())
    lose(store)
    store.open()
    assert kept(store) == before and sorted(store.last_counters()) == last
    store.note_counters([Increase(HOUR, *AT, 1, 1, 0, 1.0, HOUR, HOUR + 99)], raws(HOUR + 99))
    before = kept(store)
    lose(store)
    store.open()
    assert kept(store) == before


@pytest.mark.parametrize("damage", ["torn", "flipped", "garbage", "missing"])
def test_a_damaged_file_of_them_costs_at_most_what_is_damaged(store, tmp_path, damage):
    before = filled(store)
    path = tmp_path / "journal/kept/engines.log"
    data = path.read_bytes()
    match damage:
        case "torn":
            path.write_bytes(data[:-9])
        case "flipped":
            at = data.rindex(b'"generation":50') + len(b'"generation":')
            path.write_bytes(data[:at] + b"9" + data[at + 1 :])
        case "garbage":
            path.write_bytes(data + os.urandom(300) + b"\n\0\xff\t\"'\n")
        case "missing":
            path.unlink()
    store.close()
    store.open()
    assert kept(store) == before, "the ledger itself has them"
    lose(store)
    store.open()
    assert kept(store) == before, "and the file has them again"
    assert path.read_bytes().endswith(b"\n")


def test_a_torn_file_and_a_lost_ledger_at_once_cost_the_last_part(store, tmp_path):
    filled(store)
    path = tmp_path / "journal/kept/engines.log"
    path.write_bytes(path.read_bytes()[:-9])
    lose(store)
    store.open()
    assert [row[3:5] for row in kept(store) if row[1] == AT[0]] == [(1, 10), (5, 50), (4, 40)]
    assert {raw.at for raw in store.last_counters()} == {HOUR + 7200 + 4}


def test_an_older_ledger_that_is_put_back_is_brought_up_to_date(store, tmp_path):
    store.note_counters([Increase(HOUR, *AT, 1, 1, 0, 1.0, HOUR, HOUR + 1)], raws(HOUR + 1))
    store.close()
    old = store._db.path.read_bytes()
    store.open()
    before = filled(store)
    store.close()
    store._db.path.write_bytes(old)
    store.open()
    assert kept(store) == before


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_clock_that_was_ahead_saw_last_is_not_brought_back(store, lost):
    """It would be at every start until that time has come, and what engines counted since would be counted once more each time."""
    store.note_counters([], [Raw(*AT, 100, 100, HOUR + 1_000_000)])
    now = Raw(*AT, 150, 160, HOUR)
    store.note_counters([], [now])
    lose(store) if lost else store.close()
    store.open()
    assert store.last_counters() == [now]


def test_the_file_does_not_grow_for_ever_and_ends_with_keep(store, tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "SPARE", 20)
    path = tmp_path / "journal/kept/engines.log"
    for part in range(300):
        hour = HOUR + part // 100 * 3600
        store.note_counters([Increase(hour, *AT, 1, 1, 0, 1.0, hour, hour + part)], raws(hour + part))
        if part % 10 == 9:
            store.drop(0)
    assert len(path.read_bytes().splitlines()) < 20
    before = kept(store)
    store.drop(HOUR + 3600)
    for _ in range(20):
        store.note_counters([], raws(HOUR + 10_000))
    store.drop(HOUR + 3600)
    lose(store)
    store.open()
    assert kept(store) == before[1:]


def test_a_full_disk_for_that_file_is_said_and_made_good(store, tmp_path):
    folder = tmp_path / "journal/kept"
    folder.mkdir()
    (folder / "engines.log").symlink_to("/dev/full")
    store.note_counters([Increase(HOUR, *AT, 1, 1, 0, 1.0, HOUR, HOUR + 1)], raws(HOUR + 1))
    assert "engines counted" in store.facts().unwritten and "No space left" in store.facts().unwritten
    store.note_counters([Increase(HOUR, *AT, 1, 1, 0, 1.0, HOUR, HOUR + 2)], raws(HOUR + 2))
    assert store.facts().unwritten == ""
    before = kept(store)
    assert before == [(HOUR, *AT, 2, 2, 0, 2.0, HOUR, HOUR + 2)]
    lose(store)
    store.open()
    assert kept(store) == before
