"""Microseconds (of CPU) that a worker takes to decide where a request of 1 KB goes: `python bench/decide.py`. No sockets."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Key
from gateway.exchange import Exchange
from gateway.serve.builder import Builder
from gateway.serve.shared import Shared
from gateway.tokens.counter import Counter

ENDPOINTS = ", ".join(f'"http://127.0.0.1:{port}"' for port in range(8001, 8005))
RULES = ", ".join(f"{{name: r{n}, when: {{headers: {{x-env: prod{n}}}}}, to: {{channel: b}}}}" for n in range(100))
TEXT = f"""
version: 1
auth: none
channels:
  a: {{engine: vllm, endpoints: ["http://127.0.0.1:8000"]}}
  b: {{engine: vllm, endpoints: [{ENDPOINTS}]}}
models:
  one channel: &
  one: {{targets: [{{channel: a}}]}}
  weights: {{targets: [{{channel: a, weight: 3}}, {{channel: b}}]}}
  primary-backup: {{policy: primary-backup, targets: [{{channel: a}}, {{channel: b}}]}}
  least-busy: {{policy: least-busy, targets: [{{channel: a}}, {{channel: b}}]}}
  prefix-affinity: {{policy: prefix-affinity, targets: [{{channel: a}}, {{channel: b}}]}}
  rule.header: {{targets: [{{channel: a}}], rules: [{{name: x, when: {{headers: {{x-env: prod}}}}, to: {{channel: b}}}}]}}
  rule.length: {{targets: [{{channel: a}}], rules: [{{name: x, when: {{prompt_tokens: {{over: 30000}}}}, to: {{channel: b}}}}]}}
  rules.100: {{targets: [{{channel: a}}], rules: [{RULES}]}}
""".replace("  one channel: &\n", "")
SHOWN = {
    "one": "one channel, no rule",
    "weights": "weights, two channels, five endpoints",
    "primary-backup": "`primary-backup`, the same",
    "least-busy": "`least-busy`, the same",
    "prefix-affinity": "`prefix-affinity`, the same",
    "rule.header": "one channel, 1 rule on a header",
    "rule.length": "one channel, 1 rule on the prompt's length",
    "rules.100": "one channel, 100 rules on a header",
}
ROUNDS, RUNS = 3000, 15


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.yaml"
        path.write_text(TEXT)
        config, keys = resolve(load(path))

    async def some() -> AsyncIterator[list[Key]]:
        yield keys

    snapshot = await Builder(1, config, Shared(Counter())).build(some())
    key = snapshot.keyring.identify(None)
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x" * 1000}]})
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    headers = CIMultiDictProxy(CIMultiDict({"Host": "gw", "User-Agent": "OpenAI", "X-Env": "dev"}))

    def exchange() -> Exchange:
        return Exchange("i", "r", snapshot, "POST", "/", headers, "ip", 0.0, 0.0, api="chat", key=key, fields=fields, body_bytes=len(body))

    def best(name: str) -> float:
        model = snapshot.models[name]
        found = float("inf")
        for _ in range(RUNS):
            asked = [exchange() for _ in range(ROUNDS)]
            start = process_time()
            for x in asked:
                model.plan(x, 1.0)
            found = min(found, process_time() - start)
        return found / ROUNDS * 1e6

    print("| model | µs | beside no rule |\n|---|---|---|")
    base = best("one")
    for name, said in SHOWN.items():
        spent = best(name)
        print(f"| {said} | {spent:.1f} | {spent - base:+.1f} |")


if __name__ == "__main__":
    asyncio.run(main())
