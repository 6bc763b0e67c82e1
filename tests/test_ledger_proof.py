"""What a ledger must bear: flipped bits in the journal and in the log of changes, a clock that jumps."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.config.resolved import Ledger as Settings
from gateway.ledger.ingest import KEEP_EVERY
from gateway.ledger.keeper import Ledger
from gateway.record import encode_record
from gateway.steady import DAY, LONG, Steady
from tests.test_ledger_ingest import CHILD, ROOT
from tests.test_ledger_store import NOW, OCTOBER, done, ids, journal, store, write  # noqa: F401


def test_a_flipped_bit_in_the_journal_costs_at_most_its_own_line(store, journal):  # noqa: F811
    rng = random.Random(5)
    whole, most = set(), 0
    for number in range(60):
        records = [done(NOW - n) for n in range(6)]
        lines = [encode_record(one) for one in records]
        data = bytearray(b"".join(lines))
        at = rng.randrange(len(data))
        hit = next(line for line in range(6) if at < sum(map(len, lines[: line + 1])))
        spoilt = {hit, hit + 1} if data[at] == 0x0A else {hit}
        data[at] ^= 1 << rng.randrange(8)
        loaded = store.load([write(journal, f"0-a-{number:06d}", bytes(data))])
        assert 4 <= loaded.rows <= 6 and loaded.rows + loaded.duplicates + loaded.quarantined <= 8
        whole |= {one.id for line, one in enumerate(records) if line not in spoilt}
        most += loaded.rows
    found = ids(store)
    assert whole <= set(found) and len(found) == len(set(found)) == most


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
async def test_a_flipped_bit_in_the_log_of_changes_costs_nothing(tmp_path, journal, share):  # noqa: F811
    records = [done() for _ in range(100)]
    write(journal, "0-a-000001", *records)
    code = CHILD[: CHILD.index("ingest.catch_up()")] + "ingest.step()\nimport os\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(NOW)], cwd=ROOT, timeout=60)
    wal = tmp_path / "ledger.duckdb.wal"
    data = bytearray(wal.read_bytes())
    data[round(share * (len(data) - 1))] ^= 0x10
    wal.write_bytes(bytes(data))
    ledger = Ledger(tmp_path, Settings(memory=128 * 1024**2), clock=lambda: NOW)
    await ledger.mend()
    assert sorted(str(row[0]) for row in (await ledger.query("SELECT id FROM usage")).rows) == sorted(one.id for one in records)
    assert await ledger.act(lambda _, ingest: ingest.verify()) == []
    await ledger.close()


@pytest.mark.parametrize(
    ("looks", "says"),
    [
        ([(0, 0, 0), (10, 10, 0)], ""),
        ([(0, 0, 0), (10 + 3 * DAY, 10, 0)], "the clock jumped by +3 days"),
        ([(0, 0, 0), (10 - 9 * DAY, 10, 0), (20 - 9 * DAY, 20, 0)], "the clock jumped by -9 days"),
        ([(0, 0, 0), (3 * DAY, 10, 0), (4 * DAY, 10 + DAY, 0)], ""),
        ([(0, 0, -LONG + 1)], ""),
        ([(0, 0, -LONG - DAY)], "the clock is 61 days after the newest request"),
        ([(0, 0, -LONG - DAY), (DAY, DAY, -LONG - DAY)], ""),
        ([(0, 0, 0), (5 * DAY, 5 * DAY, 0)], ""),
        ([(20 - NOW, 0, -60), (25, 25, -60)], ""),
        ([(20 - NOW, 0, -60), (LONG, 25, -60)], "the clock is 60 days after the newest request"),
    ],
    ids=["goes", "ahead", "back", "a day later", "a break", "long off", "long off, a day later", "asleep", "set", "set wrong"],
)
def test_when_a_clock_is_doubted(looks, says):
    clock = Steady()
    for wall, steady, newest in looks:
        clock.see(NOW + wall, steady, NOW + newest if newest else 0.0)
    assert clock.doubted(looks[-1][1]).startswith(says) and bool(clock.doubted(looks[-1][1])) == bool(says)


async def test_a_clock_that_jumps_by_years_makes_nobody_forget(tmp_path: Path, journal, monkeypatch) -> None:  # noqa: F811
    now, steady = [NOW], [float(int(time.monotonic()))]  # so that a day later is a day later, to the last bit
    monkeypatch.setattr("gateway.ledger.keeper.time.monotonic", lambda: steady[0])
    ledger = Ledger(tmp_path, Settings(memory=128 * 1024**2, keep=400 * DAY), clock=lambda: now[0])
    write(journal, "0-a-000001", *(done(OCTOBER + n) for n in range(5)), done(NOW))
    await ledger.mend()
    now[0] += 3 * 365 * DAY
    write(journal, "0-a-000002", done(now[0]))
    steady[0] += KEEP_EVERY + 1
    await ledger.mend()
    assert "the clock jumped by +1095 days" in ledger.told()["trouble"] and ledger.told()["rows"] == 7
    now[0] = NOW + 60
    steady[0] += KEEP_EVERY + 1
    await ledger.mend()
    assert "the clock jumped by -1095 days" in ledger.told()["trouble"] and ledger.told()["rows"] == 7
    write(journal, "0-a-000003", done(now[0] + 2 * DAY), done(now[0]))
    now[0], steady[0] = now[0] + DAY, steady[0] + DAY
    await ledger.mend()
    assert (ledger.trouble, ledger.told()["rows"], len(ledger.told()["archives"])) == ("", 9, 1), "a day later it goes on"
    await ledger.close()


async def test_a_start_in_the_future_deletes_nothing_that_is_kept_for_weeks_only(tmp_path: Path, journal, monkeypatch) -> None:  # noqa: F811
    """The clock is put right minutes later; by then what is not archived yet must be there still."""
    steady = [1000.0]
    monkeypatch.setattr("gateway.ledger.keeper.time.monotonic", lambda: steady[0])
    write(journal, "0-a-000001", *(done(NOW - n) for n in range(5)))
    now = [NOW + 60]
    for ahead, doubted in ((41 * DAY, True), (9 * DAY, False)):
        ledger = Ledger(tmp_path, Settings(memory=128 * 1024**2, keep=40 * DAY), clock=lambda: now[0])
        now[0] = NOW + ahead
        for _ in range(2):
            steady[0] += KEEP_EVERY + 1
            await ledger.mend()
        assert ledger.told()["rows"] == 5 and bool(ledger.trouble) == doubted
        await ledger.close()
