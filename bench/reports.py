"""What reports cost: each over a day and a month of ten million requests, as `gatewayctl usage` and `cost` ask for them.

    python bench/reports.py [--rows 10000000] [--memory 512] [--data DIR]

The rows are those of bench/ledger.py; with --data they are kept there, and used again. Prints one Markdown table: the best of three.
"""

import argparse
import shutil
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.ledger import DAYS, MIB, MONTH, fill
from gateway.config.resolved_prices import Cost, Currencies
from gateway.ledger.capacity import capacity
from gateway.ledger.duck import DuckStore
from gateway.ledger.question import Question
from gateway.ledger.report import report

RATES = Currencies(base="CNY", rates={"USD": 7_100_000_000})
REPORTS: dict[str, dict[str, Any]] = {
    "usage top --by tenant": {"by": ("tenant",), "before": True, "trend": 31},
    "usage top --by key,model": {"by": ("key", "model"), "before": True, "trend": 31},
    "usage timeline": {"bucket": "day", "zone": "Europe/Berlin"},
    "usage timeline --by model": {"bucket": "day", "zone": "Europe/Berlin", "by": ("model",)},
    "cost report --by tenant,model": {"by": ("tenant", "model"), "order": "amount", "before": True, "trend": 31, "latency": False},
}


def best(work: Any) -> float:
    found = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory", type=int, default=512, help="MiB")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    folder = options.data or Path(tempfile.mkdtemp(prefix="bench-reports-"))
    (folder / "journal").mkdir(parents=True, exist_ok=True)
    store = DuckStore(folder / "ledger.duckdb", memory=options.memory * MIB, journal=folder / "journal")
    store.open()
    try:
        if not store.facts().rows:
            fill(store, options.rows)
        measure(store)
    finally:
        store.close()
        if options.data is None:
            shutil.rmtree(folder)


def measure(store: DuckStore) -> None:
    end = MONTH + timedelta(days=DAYS)
    spans = {"day": (end - timedelta(days=1), end), "month": (MONTH, end)}
    print(f"| of {store.facts().rows:,} requests | a day | a month |\n|---|---|---|")
    for name, words in REPORTS.items():
        taken = []
        for since, until in spans.values():
            question = Question(since=since.timestamp(), until=until.timestamp(), **words)
            taken.append(best(lambda question=question: store.together(lambda ask: report(ask, question, RATES))))
        print(f"| `{name}` | {taken[0]:.2f} s | {taken[1]:.2f} s |", flush=True)
    costs = {f"{word}{number}": Cost(per_hour=10**9, currency="CNY") for number in range(2) for word in ("channel-", "ch")}
    taken = []
    for since, until in spans.values():
        question = Question(since=since.timestamp(), until=until.timestamp())
        taken.append(best(lambda question=question: store.together(lambda ask: capacity(ask, question, costs, question.until))))
    print(f"| `cost report --capacity`, two channels | {taken[0]:.2f} s | {taken[1]:.2f} s |")


if __name__ == "__main__":
    main()
