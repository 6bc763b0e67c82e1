"""Rows of the ledger as records, as the journal has them: for requests whose segments are gone."""

import re
from typing import Any, Final

from gateway.ledger.store import Store

Found = dict[str, Any]

_id = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{7,35}\Z")
PLAIN: Final = (
    "id node slot rev tenant project key ip trace api model rule policy stream channel endpoint upstream_model status end error source "
    "tpot via system rewrites".split()
)
GROUPS: Final = {
    "tokens": {"in": "tokens_in", "cached": "tokens_cached", "out": "tokens_out", "reasoning": "tokens_reasoning"},
    "ms": {"read": "ms_read", "queue": "ms_queue", "connect": "ms_connect", "first": "ms_first", "total": "ms_total"},
    "bytes": {"in": "bytes_in", "out": "bytes_out"},
    "facts": {"max_tokens": "max_tokens", "tools": "tools", "format": "format", "n": "n", "prompt_est": "prompt_est"},
    "reserved": {"in": "reserved_in", "out": "reserved_out"},
}


def newest(store: Store, limit: int, before: float) -> list[Found]:
    """Up to `limit` requests that began before (Unix seconds), the oldest of them first."""
    sql = (
        f"SELECT {_COLUMNS} FROM usage WHERE ts < make_timestamp(CAST(? * 1000000 AS BIGINT)) ORDER BY ts DESC, id DESC LIMIT {int(limit)}"
    )
    return [record(row) for row in reversed(store.query(sql, [before]).dicts())]


def find(store: Store, id: str, most: int) -> list[Found]:
    """The newest that has this id, or whose caller named it so. Else up to `most` whose id begins so (8 characters or more),
    the newest first."""
    tests, params = ["trace = ?"], [id]
    if _id.match(id):
        digits = id.replace("-", "").lower()
        tests.append("id BETWEEN CAST(? AS UUID) AND CAST(? AS UUID)")
        params += [digits.ljust(32, "0"), digits.ljust(32, "f")]
    sql = f"SELECT {_COLUMNS} FROM usage WHERE {' OR '.join(tests)} ORDER BY trace = ? DESC, ts DESC LIMIT {int(most)}"
    found = [record(row) for row in store.query(sql, [*params, id]).dicts()]
    return found[:1] if found and found[0].get("trace") == id else found


def record(row: Found) -> Found:
    """What is 0 or empty is left out, as in the journal."""
    made = {"v": 1, "kind": "done", "ts": row["unix"]}
    made |= {name: row[name] for name in PLAIN if row[name] or name in ("slot", "rev")}
    for group, members in GROUPS.items():
        values = {name: row[column] for name, column in members.items() if row[column]}
        if values:
            made[group] = values
    attempts = [_without_nothing(one) for one in row["attempts"] or ()]
    return {**made, "attempts": attempts} if attempts else made


def _without_nothing(attempt: Found) -> Found:
    kept = {name: value for name, value in attempt.items() if value}
    if "tokens" in kept:
        kept["tokens"] = {name: value for name, value in kept["tokens"].items() if value}
    return kept


_USED: Final = (*PLAIN, *(column for members in GROUPS.values() for column in members.values()), "attempts")
_COLUMNS: Final = ", ".join(f'"{name}"' for name in _USED) + ", epoch(ts) AS unix"
