"""Microseconds (of CPU) that rules add to a request: `python bench/routing.py`. No sockets; no rule holds, so all of them are asked."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config import resolved_when as form
from gateway.config.hours import hours_of
from gateway.route.ask import Ask
from gateway.route.conditions import Condition, Figures, Together, compile_when, matcher
from gateway.route.schedule import compile_schedule

HEADERS = CIMultiDictProxy(
    CIMultiDict(
        {
            "Host": "gw:8080",
            "User-Agent": "OpenAI/Python 3.54.0",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": "Bearer gw_k7f3_x",
            "X-Stainless-Lang": "python",
            "X-Env": "dev",
            "X-User": "ann",
        }
    )
)
TEXT = ("The quick brown fox jumps over the lazy dog and asks for its money back. " * 14)[:1000]
SCHEDULES = {"office": compile_schedule(form.Schedule(zone="Asia/Shanghai", hours=(hours_of("Mon-Fri 09:00-18:00"),)))}
AT = 1_795_392_000.0

CASES: dict[str, Callable[[int], form.When]] = {
    "nothing asked for (holds)": lambda n: form.When(),
    "headers: exact": lambda n: form.When(headers={"x-env": (form.HeaderTest(equals=f"prod{n}"),)}),
    "headers: prefix": lambda n: form.When(headers={"x-env": (form.HeaderTest(prefix=f"prod{n}"),)}),
    "headers: re2": lambda n: form.When(headers={"x-env": (form.HeaderTest(match=f"^prod{n}-[0-9]+$"),)}),
    "api": lambda n: form.When(api=("embeddings", "rerank")),
    "tenant": lambda n: form.When(tenant=(f"tenant{n}",)),
    "tenant: glob": lambda n: form.When(tenant=(f"tenant{n}*",)),
    "prompt_tokens, by bounds": lambda n: form.When(prompt_tokens=form.Range(over=30000 + n)),
    "max_tokens": lambda n: form.When(max_tokens=form.Range(over=8192 + n)),
    "during": lambda n: form.When(during=("office",)),
    "share: by chance": lambda n: form.When(share=form.Share(percent=0.001)),
    "share: by key": lambda n: form.When(share=form.Share(percent=0.001, by="key")),
    "load": lambda n: form.When(load=(form.Load(channel="gpu", figures={"waiting": form.Range(over=5)}),)),
    "has: tools": lambda n: form.When(has=form.Has(any=("tools",))),
    "content: 1 word, 1 KB": lambda n: form.When(content=(form.Content(words=(f"refund{n}",)),)),
    "content: 1000 words, 1 KB": lambda n: form.When(content=(form.Content(words=tuple(f"refund{n}x{m}" for m in range(1000))),)),
    "content: re2, 1 KB": lambda n: form.When(content=(form.Content(match=f"(?i)refund{n}.{{0,9}}card"),)),
    "content: path": lambda n: form.When(content=(form.Content(path=("metadata", "kind"), equals=(f"batch{n}",)),)),
    "headers and content": lambda n: form.When(
        headers={"x-env": (form.HeaderTest(equals=f"prod{n}"),)}, content=(form.Content(words=(f"refund{n}",)),)
    ),
}  # fmt: skip


def asked() -> Ask:
    fields = {
        "messages": msgspec.Raw(msgspec.json.encode([{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}])),
        "metadata": msgspec.Raw(b'{"kind":"chat","id":7}'),
    }
    return Ask(api="chat", model="qwen", headers=HEADERS, tenant="retail", project="chat", key="k7f3", fields=fields, at=AT, luck=0.5)


def remembered() -> Callable[[Ask], tuple[int, int]]:
    """Bounds as rules get them: looked up once for each request."""
    last: list[Any] = [None, (0, 0)]

    def bounds(ask: Ask) -> tuple[int, int]:
        if last[0] is not ask:
            last[:] = ask, (0, ask.prompt_bytes)
        found: tuple[int, int] = last[1]
        return found

    return bounds


def measure(make: Callable[[int], form.When], count: int, rounds: int) -> float:
    """The best of some runs, in microseconds per request: a fresh request each time, less the cost of making it."""
    bounds = remembered()
    together = Together()

    def compiled(n: int) -> list[Condition]:
        figures = {"gpu": Figures(waiting=0.0)}.__getitem__
        return compile_when(make(n), schedules=SCHEDULES, figures=figures, bounds=bounds, salt=str(n), together=together)

    rules = [matcher(compiled(n)) for n in range(count)]
    together.ready()

    def once() -> float:
        asks = [asked() for _ in range(rounds)]
        start = process_time()
        for ask in asks:
            for rule in rules:
                if rule(ask):
                    break
        spent = process_time() - start
        start = process_time()
        for _ in asks:
            pass
        return spent - (process_time() - start)

    return min(once() for _ in range(7)) / rounds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    print(f"{'µs/request':28}" + "".join(f"{f'{count} rule' + 's' * (count > 1):>12}" for count in (1, 10, 100)))
    for label, make in CASES.items():
        print(f"{label:28}" + "".join(f"{measure(make, count, rounds):12.2f}" for count in (1, 10, 100)))


if __name__ == "__main__":
    main()
