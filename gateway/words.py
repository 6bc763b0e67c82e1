"""The words that several rooms share, so that one thing has one name. Decides nothing."""

from typing import Final

ENGINES: Final = ("openai", "vllm", "sglang", "mindie")
"""Engine families that a channel may name; `auto` is resolved to one of them by a probe."""

APIS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/v1/score": "score",
    "/tokenize": "tokenize",
}
"""The inference paths that callers may use, and the name each has in records and metrics."""

STREAMING_APIS: Final = frozenset({"chat", "completions"})


class End:
    """How an exchange ended: who ended it, and in which phase (DESIGN §5). Two letters in the record.

    who: `-` normal, C caller, U upstream, G gateway refused, O operator, K killed, I our bug
    phase: A accept, K key, L limit, G guard, R route, Q queue, W waiting for the first event, D data
    """

    NORMAL: Final = "--"
    CALLER, UPSTREAM, GATEWAY, OPERATOR, KILLED, BUG = "C", "U", "G", "O", "K", "I"
    ACCEPT, KEY, LIMIT, GUARD, ROUTE, QUEUE, WAIT, DATA = "A", "K", "L", "G", "R", "Q", "W", "D"
