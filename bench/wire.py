"""Microseconds per event of the three transforms: `python bench/wire.py`. One core, no sockets, vLLM's stream with usage on each event."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.engine.family import DIALECTS
from gateway.wire.stream import KINDS, transform

HEAD = '{"id":"chatcmpl-8f0c6a2be1c14e6f9d7c4a2b1f0e9d8c","object":"chat.completion.chunk","created":1764000000,"model":"qwen3","choices":['
DELTA = '{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":null,"token_ids":null}]'
USAGE = ',"usage":{"prompt_tokens":512,"total_tokens":%d,"completion_tokens":%d}'
TAIL = ',"kv_transfer_params":null}'


def events(count: int, usage: bool, chinese: bool) -> list[bytes]:
    words = ("你好", "世界", " \\n\\n") if chinese else (" Hello", " world", ',\\n \\"quoted\\"')
    made = []
    for number in range(1, count + 1):
        text = HEAD + DELTA % words[number % 3] + (USAGE % (512 + number, number) if usage else "") + TAIL
        made.append(b"data: " + text.encode() + b"\n\n")
    return made


def measure(kind: str, feeds: list[bytes], count: int) -> float:
    """The best of some runs, in microseconds per event."""

    def once() -> float:
        stream = transform(
            kind, model="qwen", wants_usage=False, wants_continuous=False, reasoning="reasoning_content", event=DIALECTS["vllm"].event
        )
        feed: Callable[[bytes], bytes] = stream.feed
        start = perf_counter()
        for data in feeds:
            feed(data)
        spent = perf_counter() - start
        assert stream.tally.events == count and stream.broken is None
        return spent

    return min(once() for _ in range(7)) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20000)
    count = parser.parse_args().events
    print(f"{'µs/event':28}" + "".join(f"{kind:>9}" for kind in KINDS))
    for label, usage, chinese in (("continuous usage", True, False), ("no usage", False, False), ("continuous usage, Chinese", True, True)):
        made = events(count, usage, chinese)
        for per in (1, 10):
            feeds = [b"".join(made[start : start + per]) for start in range(0, count, per)]
            print(f"{label + f', {per} a feed':34}"[:34] + "".join(f"{measure(kind, feeds, count):9.2f}" for kind in KINDS))


if __name__ == "__main__":
    main()
