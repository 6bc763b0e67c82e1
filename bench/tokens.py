"""What it costs to count a prompt: `python bench/tokens.py [tokenizer or file …]`. Another task notes the loop's stalls meanwhile."""

import argparse
import asyncio
import json
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from msgspec import Raw

from gateway.route.ask import Ask
from gateway.tokens.counter import Counter

ROOT = Path(__file__).parents[1]
TICK = 0.0005
"""Seconds between two looks at the loop."""
RUNS = 7


def prose() -> str:
    """Our documentation: English with tables and code."""
    text = "".join(file.read_text() for file in sorted((ROOT / "docs").glob("*.md")))
    return text * (1 + 4_000_000 // len(text))


def chat(*texts: str) -> bytes:
    return json.dumps([{"role": "user", "content": text} for text in texts], ensure_ascii=False).encode()


def prompts() -> dict[str, bytes]:
    text, chinese = prose(), "模型网关把请求交给合适的引擎,每个词元只计一次;出了故障,换一个目标再试。" * 20_000
    return {
        "1 KB": chat(text[:1_000]),
        "8 KB": chat(text[:8_000]),
        "32 KB": chat(text[:32_000]),
        "0.5 MB": chat(text[:550_000]),
        "0.5 MB in 200 messages": chat(*(text[start : start + 2_750] for start in range(0, 550_000, 2_750))),
        "0.5 MB Chinese": chat(chinese[:180_000]),
        "1 M spaces": chat(" " * 1_000_000),
        "3 M letters": chat("a" * 3_000_000),
        "20 MB spaces": chat(" " * 20_000_000),
    }


def asked(raw: bytes) -> Ask:
    return Ask(api="chat", model="m", fields={"messages": Raw(raw)})


def bounds_take(counter: Counter, raw: bytes, name: str) -> float:
    """Microseconds, of a request that nobody has looked at yet."""
    ask = asked(raw)
    start = perf_counter()
    counter.bounds(ask, name)
    return (perf_counter() - start) * 1e6


async def watched(work: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """(result, wall, CPU, worst stall), all in milliseconds."""
    stalls: list[float] = []

    async def watch() -> None:
        while True:
            before = perf_counter()
            await asyncio.sleep(TICK)
            stalls.append(perf_counter() - before - TICK)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    stalls.clear()
    wall, spent = perf_counter(), process_time()
    found = await work()
    wall, spent = perf_counter() - wall, process_time() - spent
    await asyncio.sleep(2 * TICK)
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    return found, wall * 1e3, spent * 1e3, max(stalls) * 1e3


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizers", nargs="*", default=["cl100k", "o200k", "qwen"])
    counter = Counter(Path.cwd())
    made = prompts()
    for name in parser.parse_args().tokenizers:
        _, wall, _, stall = await watched(lambda name=name: counter.prepare([name]))
        print(f"\n{name}: loaded in {wall:.0f} ms, worst stall {stall:.0f} ms {counter.troubles.get(name, '')}")
        print(f"{'median of ' + str(RUNS):24}{'tokens':>10}{'bounds µs':>11}{'wall ms':>10}{'CPU ms':>9}{'worst stall ms':>16}")
        for label, raw in made.items():
            rows = []
            for _ in range(RUNS):
                ask, looked = asked(raw), min(bounds_take(counter, raw, name) for _ in range(100))
                rows.append((*await watched(lambda ask=ask, name=name: counter.count(ask, name)), looked))
            tokens, wall, spent, stall, looked = (sorted(column)[RUNS // 2] for column in zip(*rows, strict=True))
            stall = max(row[3] for row in rows)
            print(f"{label:24}{tokens:10,}{looked:11.1f}{wall:10.2f}{spent:9.2f}{stall:16.2f}")
    await counter.close()


if __name__ == "__main__":
    asyncio.run(main())
    print(f"\nlargest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
