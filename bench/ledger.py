"""What the ledger costs: ten million requests, reports over a day and a month of them, loading meanwhile, memory.

    python bench/ledger.py [--rows 10000000] [--memory 512] [--archive]

Rows are made by DuckDB itself; loading is measured with real segments of the journal on top of them. Prints one Markdown table.
"""

import argparse
import os
import random
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.config import resolved_when as when
from gateway.config.resolved_prices import NANO, Price, Tier
from gateway.ledger.duck import DuckStore
from gateway.ledger.ingest import Ingest
from gateway.price.book import PriceBook
from gateway.record import Attempt, Bytes, Facts, Millis, Record, Tokens, encode_record
from gateway.route.schedule import Schedule

MIB = 1024 * 1024
CHUNK = 500_000
SEGMENT_ROWS = 10_000
DAYS = 31
MONTH = datetime(2026, 10, 1, tzinfo=UTC)

MADE = """
INSERT INTO requests BY NAME SELECT
    uuid() AS id, make_timestamp({start} + (range - {first}) * {step}) AS ts, 'gw-a' AS node, range % 2 AS slot, 3 AS rev,
    'tenant-' || hash(range) % 20 AS tenant, 'project-' || hash(range) % 60 AS project, 'k' || hash(range) % 500 AS key, '' AS system,
    '10.0.' || hash(range + 1) % 16 || '.' || hash(range + 2) % 250 AS ip, 'req-' || range AS trace, 'chat' AS api,
    'model-' || hash(range + 3) % 12 AS model, '' AS via, '' AS rule, 'proportional' AS policy, range % 3 > 0 AS stream,
    'channel-' || hash(range + 4) % 8 AS channel, 'http://10.0.0.' || hash(range + 4) % 30 || ':8000' AS endpoint,
    'qwen3-32b' AS upstream_model, if(hash(range + 5) % 50 = 0, 503, 200) AS status, '--' AS "end", '' AS error,
    hash(range + 6) % 4000 AS tokens_in, 0 AS tokens_cached, hash(range + 7) % 900 AS tokens_out, 0 AS tokens_reasoning, 'final' AS source,
    0 AS reserved_in, 0 AS reserved_out, 0.3 AS ms_read, 0.0 AS ms_queue, 1.2 AS ms_connect, hash(range + 8) % 900 + 0.5 AS ms_first,
    hash(range + 9) % 20000 + 900.0 AS ms_total, hash(range + 8) % 60 + 4.2 AS tpot, 4000 AS bytes_in, 20000 AS bytes_out, 1 AS n_attempts,
    [] AS attempts, [] AS rewrites, 1000 AS max_tokens, 0 AS tools, '' AS format, 1 AS n, 0 AS prompt_est, '7' AS price_rev,
    'CNY' AS currency, (hash(range + 6) % 4000)::DECIMAL(18,9) / 500000 AS amount, NULL AS engine_cost
FROM range({first}, {last})
"""
REPORT = """
SELECT tenant, model, count(*), sum(tokens_in), sum(tokens_out), sum(amount), count(*) FILTER (status >= 400),
       approx_quantile(ms_first, 0.5), approx_quantile(ms_first, 0.99), approx_quantile(ms_total, 0.99)
FROM usage WHERE ts >= ? AND ts < ? GROUP BY ALL ORDER BY ALL
"""


def fill(store: DuckStore, rows: int) -> float:
    started = time.perf_counter()
    step = DAYS * 86_400_000_000 // rows
    for first in range(0, rows, CHUNK):
        start = int(MONTH.timestamp() * 1_000_000) + first * step
        store._db.run(MADE.format(start=start, step=step, first=first, last=min(rows, first + CHUNK)))
    store.settle()
    return time.perf_counter() - started


def segment(path: Path, at: float, rows: int = SEGMENT_ROWS) -> None:
    def record(number: int) -> bytes:
        return encode_record(
            Record(
                1, "done", str(uuid.UUID(int=random.getrandbits(128))), "gw-a", 0, 3, at + number / 1000,
                tenant="retail", project="bot", key="k1", ip="10.0.0.1",
                trace=f"req-{number}", api="chat",
                model="qwen", policy="primary-backup", stream=True, channel="ascend",
                endpoint="http://10.0.0.5:8000", upstream_model="qwen3-32b", status=200, end="--", source="final", tpot=4.2,
                attempts=[Attempt("first", "ascend", "http://10.0.0.5:8000", "qwen3-32b", "ok", 200, 1234.5)],
                tokens=Tokens(1200, 100, 300, 20), ms=Millis(0.3, 0.0, 1.2, 80.5, 1234.5), bytes=Bytes(4000, 20_000), facts=Facts(1000, 2),
            )
        )  # fmt: skip

    path.write_bytes(b"".join(record(number) for number in range(rows)))


def write(journal: Path, count: int, at: float) -> None:
    for number in range(count):
        segment(journal / f"0-{uuid.uuid4().hex[:8]}-{number:06d}.ndjson", at + number * 10)


def prices() -> PriceBook:
    """By the length of the prompt in the day, cheaper at night, what the channel costs, and a tenant with a discount."""
    night = Schedule(when.Schedule(zone="Asia/Shanghai", hours=(when.Hours(0, 480, 127),)))
    tiers = (Tier(1000, 4 * NANO, -1, 16 * NANO), Tier(32_000, 6 * NANO, -1, 24 * NANO))
    day = Price("qwen*", "", "CNY", input=2 * NANO, cached=NANO // 2, output=8 * NANO, tiers=tiers, outside="night")
    cheap = Price("qwen*", "", "CNY", input=NANO, output=4 * NANO, during="night")
    channel = Price("", "ascend", "CNY", input=NANO // 2, cached=NANO // 10, output=2 * NANO)
    return PriceBook([day, cheap, channel], {"night": night.open_at}, {"retail": 100_000})


class Clock:
    """Time that passes, and processor time of this process, all threads."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of CPU)"

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu(self) -> float:
        return time.process_time() - self._cpu


def loading(ingest: Ingest) -> str:
    """All that waits, through to the settled file, as rows a second."""
    rows, clock = 0, Clock()
    while (step := ingest.step()).loaded.sources:
        rows += step.loaded.rows
    ingest.settle()
    return f"{rows / clock.wall:,.0f} rows/s ({rows / clock.cpu:,.0f} in a second of CPU)"


def turns(ingest: Ingest, journal: Path, at: float, count: int = 15) -> str:
    """What a second's requests take from journal to table: 1,000 of them."""
    took = []
    for number in range(count):
        segment(journal / f"1-{uuid.uuid4().hex[:8]}-{number:06d}.ndjson", at + number, 1000)
        clock = Clock()
        ingest.step()
        took.append(clock.wall)
    return f"{statistics.median(took):.2f} s, at most {max(took):.2f} s"


def report(store: DuckStore, days: int, rounds: int = 3) -> str:
    """The quickest of some rounds."""
    first = MONTH if days > 1 else MONTH + timedelta(days=12)
    bounds = [first.replace(tzinfo=None), (first + timedelta(days=days)).replace(tzinfo=None)]
    took = []
    for _ in range(rounds):
        clock = Clock()
        assert store.query(REPORT, bounds, seconds=300).rows
        took.append((clock.wall, str(clock)))
    return min(took)[1]


def reports_meanwhile(store: DuckStore, over: threading.Event) -> None:
    while not over.is_set():
        report(store, DAYS, rounds=1)


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory", type=int, default=512, help="MiB, ledger.memory")
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--archive", action="store_true", help="and the month's report from its archive")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ledger-bench-"))
    try:
        for name, value in measure(folder, options):
            print(f"| {name} | {value} |", flush=True)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    journal = folder / "journal"
    journal.mkdir()
    at = MONTH.timestamp() + 40 * 86_400
    store = DuckStore(folder / "ledger.duckdb", memory=options.memory * MIB, journal=journal, clock=lambda: at + 86_400)
    store.open()
    ingest = Ingest(store, journal)
    bare = rss()
    yield "rows made", f"{options.rows:,} in {fill(store, options.rows):.0f} s"
    yield "bytes a row in the file", f"{store.facts().bytes / options.rows:.0f}"
    yield "a day's report", report(store, 1)
    yield "a month's report", report(store, DAYS)
    write(journal, options.segments, at)
    yield "loading", loading(ingest)
    store.book = prices()
    write(journal, options.segments, at + 1800)
    yield "loading, with prices", loading(ingest)
    store.book = None
    yield "1,000 requests from the journal into the table", turns(ingest, journal, at + 3600)
    over = threading.Event()
    reporter = threading.Thread(target=reports_meanwhile, args=(store, over))
    reporter.start()
    yield "the same while month's reports run one after the other", turns(ingest, journal, at + 7200)
    over.set()
    reporter.join()
    clock = Clock()
    store.settle()
    yield "checkpoint", str(clock)
    clock, copy = Clock(), store.scratch / "copy.duckdb"
    store.copy(copy)
    yield "a copy for a backup", f"{clock}, {copy.stat().st_size / store.facts().rows:.0f} bytes a row"
    copy.unlink()
    if options.archive:
        clock = Clock()
        archive = store.archive(MONTH.strftime("%Y-%m"))
        yield "archiving the month", f"{clock}, {archive.bytes / archive.rows:.0f} bytes a row"
        yield "a day's report from the archive", report(store, 1)
        yield "a month's report from the archive", report(store, DAYS)
        clock = Clock()
        store.compact()
        yield "compacting", str(clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield f"memory: peak above the bare process, with `ledger.memory: {options.memory}MiB`", f"{(peak - bare) / MIB:.0f} MiB"
    store.close()


if __name__ == "__main__":
    main()
