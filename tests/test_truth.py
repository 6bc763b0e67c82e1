"""What control makes of engines and ledger: once an hour, for alerts and metrics, whatever the ledger cannot do just now."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admin.desk import Failed
from gateway.alert.facts import Drift
from gateway.config.resolved import Ledger as Settings
from gateway.engine.base import Load
from gateway.ledger.keeper import Ledger
from gateway.ledger.store import UNUSABLE, StoreFailure
from gateway.meter.progress import Progress
from gateway.meter.underway import underway
from gateway.record import Attempt, Millis, Record, Tokens, encode_record
from gateway.report.truth import KEEP_EVERY, Truth
from gateway.report.unusual import LATE
from tests.test_ledger_store import done, write

HOUR = 1_790_000_000.0 // 3600 * 3600
URL = "http://e"


class Endpoints:
    """One endpoint, which shows what a test says."""

    def __init__(self) -> None:
        self.on_figures: Any = None

    def looks(self) -> dict[tuple[str, str], object]:
        return {("gpu", URL): None}

    def show(self, prompt: float | None, generation: float | None) -> None:
        load = Load(prompt_tokens=prompt, generation_tokens=generation)
        self.on_figures(
            SimpleNamespace(channel=SimpleNamespace(name="gpu"), endpoint=SimpleNamespace(url=URL), vitals=SimpleNamespace(load=load))
        )


class Rooms:
    """Ledger, endpoints, truth, and the time."""

    def __init__(self, folder: Any) -> None:
        self.now = HOUR
        (folder / "journal").mkdir()
        self.journal = folder / "journal"
        self.ledger = Ledger(folder, Settings(memory=128 * 1024**2), clock=lambda: self.now)
        self.endpoints = Endpoints()
        self.truth = Truth(self.ledger, self.journal, self.endpoints, clock=lambda: self.now)  # type: ignore[arg-type]

    async def turn(self) -> None:
        self.truth._kept -= KEEP_EVERY
        await self.truth._turn()

    async def record(self, *records: Record) -> None:
        write(self.journal, f"0-a-{int(self.now)}", *records)
        await self.ledger.mend()


@pytest.fixture
async def rooms(tmp_path):
    rooms = Rooms(tmp_path)
    yield rooms
    await rooms.ledger.close()


def served(at: float, output: int, **more: Any) -> Record:
    attempt = Attempt("first", "gpu", URL, "m", "ok", 200, 1000.0)
    return done(at, channel="gpu", endpoint=URL, attempts=[attempt], ms=Millis(total=1000.0), tokens=Tokens(5, 0, output), **more)


async def test_an_hour_is_compared_once_it_is_over_for_alerts_and_metrics(rooms):
    truth = rooms.truth
    assert truth.ledger_seen() is None and rooms.ledger.told()["state"] == "opening" and truth.drifts() is None and truth.ratios() == {}
    await rooms.turn()
    rooms.endpoints.show(0, 0)
    await rooms.record(served(HOUR + 100, 30_000), served(HOUR + 200, 0, source="none"))
    for minute in range(1, 62):
        rooms.now = HOUR + 60 * minute
        rooms.endpoints.show(10, 500 * minute + (4_000 if minute > 5 else 0))
    assert truth.drifts() == []
    rooms.now = HOUR + 3600 + LATE - 1
    await rooms.turn()
    assert truth.drifts() == []
    rooms.now += 2
    await rooms.turn()
    assert truth.drifts() == [Drift("gpu", 11.76, 4000, HOUR)]
    assert truth.ratios() == {"gpu": pytest.approx(0.1176)}
    await truth._count()
    assert truth.unpriced == {"qwen": 2}, "nothing has a price here"
    models = {name: SimpleNamespace(name=name, aliases=aliases) for name, aliases in (("qwen3", ("qwen",)), ("idle", ()))}
    config: Any = SimpleNamespace(models=models)
    assert truth.without_price(config) == {"qwen3": 2, "idle": 0} and truth.without_price(None) == {}
    models.pop("qwen3")
    assert truth.without_price(config) == {"idle": 0, "": 2}, "a name that nobody has is not a label"
    assert [row["channel"] for row in await truth.reconcile(HOUR)] == ["gpu", "gpu"] and await truth.reconcile(HOUR, "asc") == []


@pytest.mark.parametrize("at", [30, 4096 + 20, 12_288 + 4096 + 77])
async def test_after_a_flipped_bit_engines_and_ledger_are_compared_as_before(rooms, tmp_path, at):
    """What engines counted is in no record: the file beside the journal has it."""
    truth = rooms.truth
    await rooms.turn()
    rooms.endpoints.show(0, 0)
    await rooms.record(served(HOUR + 100, 30_000))
    for minute in range(1, 100):
        rooms.now = HOUR + 60 * minute
        rooms.endpoints.show(10 * minute, 500 * minute)
    before = await truth.reconcile(HOUR)
    assert [(row["state"], row["engine"]) for row in before] == [("bypassed", 19_500), ("agrees", 30_000)]
    await rooms.ledger.close()
    path = tmp_path / "ledger.duckdb"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    again = rooms.ledger = Ledger(tmp_path, Settings(memory=128 * 1024**2), clock=lambda: rooms.now)
    await again.mend()
    assert again.repairs == 1 and await Truth(again, rooms.journal, clock=lambda: rooms.now).reconcile(HOUR) == before
    await again.act(lambda store, ingest: ingest.rebuild())
    assert await Truth(again, rooms.journal, clock=lambda: rooms.now).reconcile(HOUR) == before


async def test_what_the_ledger_cannot_take_is_kept_until_it_can(rooms, monkeypatch):
    await rooms.turn()
    rooms.endpoints.show(None, None)
    rooms.endpoints.show(0, 0)
    rooms.now += 10
    rooms.endpoints.show(5, 50)
    real = rooms.ledger.act

    async def refuses(work: Any) -> Any:
        raise StoreFailure(UNUSABLE, "disk full")

    monkeypatch.setattr(rooms.ledger, "act", refuses)
    with pytest.raises(StoreFailure):
        await rooms.turn()
    await rooms.truth.close()
    monkeypatch.setattr(rooms.ledger, "act", real)
    rooms.now += 10
    rooms.endpoints.show(6, 60)
    await rooms.truth.close()
    rows = (await rooms.ledger.query("SELECT prompt_tokens, generation_tokens, seconds_covered FROM counters")).rows
    assert rows == [(6, 60, 20.0)]


async def test_a_ledger_that_cannot_be_asked_fails_with_a_sentence(rooms, monkeypatch):
    async def refuses(work: Any) -> Any:
        raise StoreFailure(UNUSABLE, "disk full")

    monkeypatch.setattr(rooms.ledger, "read", refuses)
    for asked in (rooms.truth.reconcile(HOUR), rooms.truth.anomalies(HOUR, "normal")):
        with pytest.raises(Failed, match="the ledger: disk full"):
            await asked


def test_what_is_open_is_read_from_the_tables_of_living_workers(tmp_path):
    table = Progress(tmp_path / "0-a.progress")
    line = encode_record(Record(1, "open", "id", "gw", 0, 1, HOUR, channel="gpu", endpoint=URL))
    place = table.take(line)
    table.usage(place, b'{"prompt_tokens":7,"completion_tokens":9}')
    table.take(line)
    table.free(table.take(line))
    table.take(b"no record\n")
    found = [(one.channel, one.endpoint, one.begun, one.tokens) for one in underway(tmp_path)]
    assert found == [("gpu", URL, HOUR, Tokens(7, 0, 9)), ("gpu", URL, HOUR, Tokens())]
    table.close()
