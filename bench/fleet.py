"""What the policies are worth, on simulated fleets of eight engines: `python bench/fleet.py [--write]`.

The policies are the gateway's own classes; the engines are simulated event by event, with fixed seeds and no sockets.
--write puts the tables into docs/performance.md (between its marks) and the picture into docs/img/least-busy.svg.
"""

import argparse
import heapq
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil, log10
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

from msgspec import Raw

from gateway.route.ask import Ask
from gateway.route.least_busy import LeastBusy
from gateway.route.load import Load
from gateway.route.prefix_affinity import BOUND, PrefixAffinity
from gateway.route.proportional import Proportional

ROOT = Path(__file__).parents[1]
ENGINES = 8
SCRAPE = 2.0
"""Seconds between two looks at the engines' figures."""
TELL = 0.5
"""Seconds between two exchanges of moves among workers."""
IDS = [f"gpu http://10.0.0.{number}:8000" for number in range(ENGINES)]
DOCS = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/img/least-busy.svg"


class Events:
    """What happens, in order of time (seconds)."""

    def __init__(self) -> None:
        self.now = 1.0
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._waiting, (self.now + seconds, next(self._number), happen))

    def run(self, until: Callable[[], bool]) -> None:
        while self._waiting and not until():
            self.now, _, happen = heapq.heappop(self._waiting)
            happen()


class Worker:
    """One worker of the gateway: its own policy, its own view of each engine's load."""

    def __init__(self, policy: str) -> None:
        self.loads = [Load() for _ in range(ENGINES)]
        self.name = policy
        self.shares, self.least, self.affinity = Proportional([1] * ENGINES), LeastBusy(), PrefixAffinity()

    def pick(self, ask: Ask) -> int:
        if self.name == "round robin":
            return self.shares.order(ask)[0]
        if self.name == "least-busy":
            return self.least.order(ask, self.loads)[0]
        pick = self.affinity.order(ask, IDS, self.loads)[0]
        flying = [load.others + load.in_flight for load in self.loads]
        assert flying[pick] + 1 <= ceil(BOUND * (sum(flying) + 1) / ENGINES), "the bound"
        return pick


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines)


# -- prefix-affinity: how much of the prompts is in a KV cache already ---------------------------------------------------

BLOCK = 128
"""Tokens of a KV block."""
CACHE = 400_000 // BLOCK
"""Blocks of an engine's KV cache: what a 32B model leaves free on an 80 GB card, roughly."""
PREFILL = 20_000.0
"""Tokens a second."""
DECODE = 0.02
"""Seconds a token."""
SYSTEMS, TALKING = 60, 700
"""Different system prompts, and conversations going on at a time."""


class CachingEngine:
    """Prefill one after another, decoding side by side; an LRU cache of KV blocks with their beginnings newest."""

    def __init__(self) -> None:
        self.cache: dict[tuple[str, int], None] = {}
        self.free = 0.0
        self.served = self.prompt = self.hit = 0

    def take(self, now: float, blocks: list[tuple[str, int]], answer: list[tuple[str, int]]) -> float:
        """Seconds to the first token."""
        cache = self.cache
        known = next((number for number, block in enumerate(blocks) if block not in cache), len(blocks))
        for block in reversed(blocks + answer):
            cache.pop(block, None)
            cache[block] = None
        while len(cache) > CACHE:
            del cache[next(iter(cache))]
        self.served, self.prompt, self.hit = self.served + 1, self.prompt + len(blocks), self.hit + known
        self.free = max(now, self.free) + (len(blocks) - known) * BLOCK / PREFILL
        return self.free - now


class Talk:
    """A conversation: a system prompt that others have too, and turns that grow it."""

    def __init__(self, number: int, luck: random.Random, turns: int = 0) -> None:
        """turns: how many are to come; 0 = as many as usual."""
        system = min(int(luck.paretovariate(0.6)) - 1, SYSTEMS - 1)
        self.turns = turns or luck.randint(10, 30)
        words = f"You are assistant {system}. " + "Answer in short sentences. " * (8 + system)
        self._system = json.dumps({"role": "system", "content": words})
        self._messages = [self._system]
        self._blocks = [(f"s{system}", at) for at in range(len(words) // 4 // BLOCK + 1)]
        self._name, self._size, self._luck = f"t{number}", 0, luck

    def turn(self) -> tuple[Ask, list[tuple[str, int]], list[tuple[str, int]], int]:
        """The request, its prompt's blocks, its answer's blocks, and the answer's tokens."""
        asked, answered = self._luck.randint(30, 250), self._luck.randint(80, 500)
        said = f"{self._name} asks {self._size}: " + "why " * asked
        self._messages.append(json.dumps({"role": "user", "content": said}))
        ask = Ask(api="chat", model="m", fields={"messages": Raw(f"[{','.join(self._messages)}]".encode())})
        prompt = self._grow(asked)
        answer = self._grow(answered)
        self._messages.append(json.dumps({"role": "assistant", "content": f"because {self._size}"}))
        blocks = self._blocks + [(self._name, at) for at in range(prompt)]
        return ask, blocks, [(self._name, at) for at in range(prompt, answer)], answered

    def _grow(self, tokens: int) -> int:
        self._size += tokens
        return self._size // BLOCK


def talks(policy: str, workers: int, telling: bool, requests: int) -> list[str]:
    """One row: hit rate, skew of requests and of what is in flight, times to the first token. telling: workers share moves."""
    luck, events = random.Random(7), Events()
    engines = [CachingEngine() for _ in range(ENGINES)]
    gateway = [Worker(policy) for _ in range(workers)]
    first: list[float] = []
    flying, skews = [0] * ENGINES, []
    number = count()

    def speak(talk: Talk) -> None:
        ask, blocks, answer, tokens = talk.turn()
        ask.now, ask.luck = events.now, luck.random()
        worker = luck.choice(gateway)
        pick = worker.pick(ask)
        wait = engines[pick].take(events.now, blocks, answer)
        first.append(wait)
        worker.loads[pick].in_flight += 1
        flying[pick] += 1
        skews.append(max(flying) / max(1.0, sum(flying) / ENGINES))
        events.after(wait + tokens * DECODE, lambda: rest(talk, worker, pick))

    def rest(talk: Talk, worker: Worker, pick: int) -> None:
        worker.loads[pick].in_flight -= 1
        flying[pick] -= 1
        talk.turns -= 1
        following = talk if talk.turns else Talk(next(number), luck)
        events.after(luck.expovariate(1 / 8), lambda: speak(following))

    def scrape() -> None:
        events.after(SCRAPE, scrape)
        for worker in gateway:
            for load, running in zip(worker.loads, flying, strict=True):
                load.figures(events.now, running, 0, 0)

    def tell() -> None:
        events.after(TELL, tell)
        for worker in gateway:
            moves = worker.affinity.moves()
            for other in gateway:
                if other is not worker:
                    other.affinity.learn(moves)

    scrape()
    if telling:
        tell()
    for _ in range(TALKING):
        events.after(luck.uniform(0, 20), lambda: speak(Talk(next(number), luck, luck.randint(1, 20))))
    events.run(lambda: len(first) == requests // 2)  # until the caches are as they will stay
    for engine in engines:
        engine.served = engine.prompt = engine.hit = 0
    first.clear()
    skews.clear()
    events.run(lambda: len(first) == requests)
    hit = sum(engine.hit for engine in engines) / sum(engine.prompt for engine in engines)
    said = ", telling each other" if telling else ", each for itself" if workers > 1 else ""
    skew = max(engine.served for engine in engines) / fmean(engine.served for engine in engines)
    return [
        policy, f"{workers}{said}", f"{hit:.2f}", f"{skew:.2f}", f"{fmean(skews):.2f}",
        f"{percentile(first, 0.5) * 1000:.0f}", f"{percentile(first, 0.95) * 1000:.0f}",
    ]  # fmt: skip


# -- least-busy: time to the first token when engines are not alike ------------------------------------------------------

SLOTS = 32
"""Requests that an engine runs at a time."""
SPEEDS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.35, 0.35)
"""Two old cards among six."""
OTHERS = (0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0)
"""What of an engine others use, past the gateway."""
SERVICE = 0.15 + 200 * DECODE
"""Seconds that a request takes on the average, prefill and 200 tokens, at speed 1."""
CAPACITY = sum(SPEEDS) * SLOTS / SERVICE


class BusyEngine:
    """So many slots and a queue. Its figures are what it would say on /metrics."""

    def __init__(self, events: Events, speed: float) -> None:
        self.events, self.speed = events, speed
        self.running = 0
        self.queue: list[tuple[float, Callable[[float], None], Callable[[], None]]] = []
        self.luck = random.Random(3)

    def take(self, told: Callable[[float], None], done: Callable[[], None]) -> None:
        self.queue.append((self.events.now, told, done))
        self._go()

    def _go(self) -> None:
        while self.queue and self.running < SLOTS:
            begun, told, done = self.queue.pop(0)
            self.running += 1
            prefill = 0.15 / self.speed
            told(self.events.now - begun + prefill)
            self.events.after(prefill + self.luck.expovariate(1 / 200) * DECODE / self.speed, lambda done=done: self._end(done))

    def _end(self, done: Callable[[], None]) -> None:
        self.running -= 1
        done()
        self._go()


def rush(policy: str, workers: int, use: float, requests: int) -> list[float]:
    """Times to the first token, in seconds, of requests that come at `use` of the fleet's capacity."""
    luck, events = random.Random(11), Events()
    engines = [BusyEngine(events, speed) for speed in SPEEDS]
    gateway = [Worker(policy) for _ in range(workers)]
    first: list[float] = []

    def arrive() -> None:
        events.after(luck.expovariate(use * CAPACITY - sum(OTHERS) * SLOTS / SERVICE), arrive)
        ask = Ask(api="chat", model="m", now=events.now, luck=luck.random())
        worker = luck.choice(gateway)
        pick = worker.pick(ask)
        worker.loads[pick].in_flight += 1

        def done() -> None:
            worker.loads[pick].in_flight -= 1

        engines[pick].take(first.append, done)

    def elsewhere(engine: BusyEngine, part: float) -> None:
        events.after(luck.expovariate(part * SLOTS / SERVICE), lambda: elsewhere(engine, part))
        engine.take(lambda _: None, lambda: None)

    def scrape() -> None:
        events.after(SCRAPE, scrape)
        for worker in gateway:
            for load, engine in zip(worker.loads, engines, strict=True):
                load.figures(events.now, engine.running, len(engine.queue), engine.running / SLOTS * 0.8)

    for engine, part in zip(engines, OTHERS, strict=True):
        if part:
            elsewhere(engine, part)
    scrape()
    arrive()
    events.run(lambda: len(first) >= requests)
    return first


USES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LINES = (("round robin", 1), ("least-busy", 1), ("least-busy", 4))


def rushes(requests: int) -> tuple[str, dict[str, list[float]]]:
    """The table, and per line of the picture its p95 in seconds."""
    rows, lines = [], {}
    for policy, workers in LINES:
        times = [rush(policy, workers, use, requests) for use in USES]
        name = f"{policy}, {workers} worker{'s' * (workers > 1)}"
        lines[name] = [percentile(time, 0.95) for time in times]
        rows.append([name, *(f"{p95:.2f}" for p95 in lines[name])])
    return table(["p95 TTFT in s, at this part of the capacity", *(f"{use:.0%}" for use in USES)], rows), lines


def picture(lines: dict[str, list[float]]) -> str:
    """An SVG: p95 over use, seconds in powers of ten."""
    wide, high, left, bottom = 640, 320, 60, 270
    most = ceil(log10(max(max(line) for line in lines.values())))

    def x(use: float) -> float:
        return left + (use - USES[0]) / (USES[-1] - USES[0]) * (wide - left - 30)

    def y(seconds: float) -> float:
        return bottom - (log10(seconds) + 1) / (most + 1) * (bottom - 30)

    def parts() -> Iterator[str]:
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12">'
        yield f'<rect width="{wide}" height="{high}" fill="#fff"/>'
        yield '<text x="10" y="18">p95 of the time to the first token, seconds</text>'
        for power in range(-1, most + 1):
            level = y(10.0**power)
            yield f'<path d="M{left} {level:.0f}H{wide - 30}" stroke="#ddd"/><text x="20" y="{level + 4:.0f}">{10.0**power:g}</text>'
        for use in USES:
            yield f'<text x="{x(use):.0f}" y="{bottom + 18}" text-anchor="middle">{use:.0%}</text>'
        yield f'<text x="{wide / 2:.0f}" y="{bottom + 40}" text-anchor="middle">requests, as part of the fleet\'s capacity</text>'
        for (name, line), colour, row in zip(lines.items(), ("#c33", "#27c", "#290"), count()):
            points = " ".join(f"{x(use):.1f},{y(p95):.1f}" for use, p95 in zip(USES, line, strict=True))
            yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            yield f'<text x="{left + 10}" y="{48 + 16 * row}" fill="{colour}">{name}</text>'
        yield "</svg>"

    return "\n".join(parts()) + "\n"


TALKS = (
    ("round robin", 1, False),
    ("least-busy", 1, False),
    ("prefix-affinity", 1, False),
    ("prefix-affinity", 4, True),
    ("prefix-affinity", 4, False),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="per line of the first table, and per figure of the second")
    parser.add_argument("--write", action="store_true", help="put the results into the docs")
    said = parser.parse_args()
    rows = [talks(*line, said.requests) for line in TALKS]
    heads = ["policy", "workers", "hit rate", "requests, most / mean", "in flight, most / mean", "TTFT p50 ms", "TTFT p95 ms"]
    second, lines = rushes(said.requests)
    text = f"{table(heads, rows)}\n\n{second}\n"
    print(text)
    if said.write:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(picture(lines))
        before = DOCS.read_text()
        between = re.compile(r"(?<=<!-- fleet:start -->\n).*?(?=<!-- fleet:end -->)", re.S)
        if not between.search(before):
            sys.exit(f"{DOCS.relative_to(ROOT)} has no place for the tables: <!-- fleet:start --> and <!-- fleet:end -->")
        DOCS.write_text(between.sub(lambda _: text, before))


if __name__ == "__main__":
    main()
