"""Do engines and ledger agree? Per channel and hour: what the engines counted themselves against what requests were recorded with.

A request's output belongs to the time from its first token to its end (of a whole answer: of its attempt), evenly; its prompt to that
time's beginning. Both sides are compared over the same stretch of the hour: from the first look at the engine's counters to the last.

state        when
agrees       they differ by at most TOLERANCE
uncertain    so they do, but in too small a part of the hour to speak for it
bypassed     the engine counted more: it serves others beside this gateway
missing      the ledger has more
restarted    the ledger has more, and the engine was started again: what it had counted since the last look went with it
incomplete   nobody looked at the engine for a while, so what it counted cannot be told apart by hours
unknown      the engine shows no counters
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.ledger.store import Store

HOUR: Final = 3600.0
LONGEST: Final = 86_400.0
"""Seconds that a request may take and still be looked at."""
TOLERANCE: Final = 0.01
"""Of the larger side."""
COVERED: Final = 0.98
"""Of the stretch that is compared."""
ENOUGH: Final = 0.5
"""Of the hour, or of what has passed of it, without which what was looked at does not speak for it."""
AGREES, BYPASSED, MISSING, RESTARTED, INCOMPLETE, UNKNOWN = "agrees", "bypassed", "missing", "restarted", "incomplete", "unknown"
UNCERTAIN: Final = "uncertain"
_NO_WORK: Final = "('ok', 'connect', 'tls', 'timeout_connect', 'exhausted', 'unsupported', 'unsent')"

Place = tuple[float, str, str]
"""Hour (Unix seconds), channel, endpoint."""
Stretch = tuple[str, str, float, float, float, float]
"""Channel, endpoint, from, to (Unix seconds), tokens of the prompt, of the output."""


@dataclass(slots=True)
class Side:
    """One endpoint's hour. engine…: None = it shows no counters. elsewhere: output of other channels at the same endpoint.
    uncounted: attempts that it may have worked on, and nobody knows how much."""

    engine_prompt: int | None = None
    engine: int | None = None
    resets: int = 0
    covered: float = 0.0
    since: float = 0.0
    until: float = 0.0
    prompt: float = 0.0
    output: float = 0.0
    in_flight: float = 0.0
    elsewhere: float = 0.0
    elsewhere_prompt: float = 0.0
    uncounted: int = 0


@dataclass(slots=True)
class _Whole:
    sides: list[tuple[str, Side]] = field(default_factory=list)


def compared(store: Store, since: float, until: float, now: float, open_now: Iterable[Stretch] = ()) -> list[dict[str, Any]]:
    """Channels and hours from the hour of `since` until before `until` (Unix seconds), the newest hour first. open_now: requests that
    have no record yet. Raises StoreFailure."""
    begin, until = float(since // HOUR * HOUR), float(until)
    sides = _counted(store, begin, until)
    _recorded(store, begin, until, sides)
    _open(sides, [one for one in open_now], begin, until)
    _elsewhere(sides)
    wholes: dict[tuple[float, str], _Whole] = {}
    for (hour, channel, endpoint), side in sides.items():
        wholes.setdefault((hour, channel), _Whole()).sides.append((endpoint, side))
    ordered = sorted(wholes, key=lambda one: (-one[0], one[1]))
    return [judged(hour, channel, wholes[hour, channel].sides, now) for hour, channel in ordered]


def _counted(store: Store, begin: float, until: float) -> dict[Place, Side]:
    rows = store.query(
        "SELECT epoch(hour), channel, endpoint, prompt_tokens, generation_tokens, resets, seconds_covered, since, until FROM counters "
        "WHERE epoch(hour) >= ? AND epoch(hour) < ?",
        [begin, until],
        most=1_000_000,
    ).rows
    return {(row[0], row[1], row[2]): Side(*row[3:]) for row in rows}


_PARTS: Final = f"""
WITH asked AS (
  SELECT id, epoch(ts) AS begun, epoch(ts) + ms_total / 1000 AS ended, ms_first / 1000 AS first, stream, tokens_in, tokens_out,
    CASE WHEN n_attempts > 0 THEN list_transform(attempts, lambda a: {{'channel': a.channel, 'endpoint': a.endpoint, 'ms': a.ms,
      'reason': a.reason, 'status': a.status, 'i': a.tokens."in", 'o': a.tokens."out"}})
    ELSE [{{'channel': channel, 'endpoint': endpoint, 'ms': ms_total, 'reason': 'ok', 'status': 0, 'i': 0, 'o': 0}}] END AS attempts
  FROM usage WHERE channel <> '' AND ts >= make_timestamp(CAST($1 * 1000000 AS BIGINT))
    AND ts < make_timestamp(CAST($2 * 1000000 AS BIGINT))
), parts AS (
  SELECT * EXCLUDE (attempts), unnest(attempts) AS a, generate_subscripts(attempts, 1) AS number, len(attempts) AS attempts FROM asked
), timed AS (
  SELECT *, ended - coalesce(sum(a.ms) OVER (PARTITION BY id ORDER BY number DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
    / 1000 AS stopped, sum(coalesce(a.i, 0) + coalesce(a.o, 0)) OVER (PARTITION BY id) > 0 AS own
  FROM parts
), placed AS (
  SELECT *, greatest(begun, stopped - coalesce(a.ms, 0) / 1000) AS started,
    CASE WHEN own THEN coalesce(a.i, 0) WHEN number = attempts THEN tokens_in ELSE 0 END AS prompt,
    CASE WHEN own THEN coalesce(a.o, 0) WHEN number = attempts THEN tokens_out ELSE 0 END AS output
  FROM timed
), went AS (
  SELECT a.channel AS channel, a.endpoint AS endpoint, prompt, output, stopped,
    CASE WHEN stream AND first > 0 AND begun + first BETWEEN started AND stopped THEN begun + first ELSE started END AS went,
    prompt + output = 0 AND coalesce(a.status, 0) = 0 AND coalesce(a.reason, '') NOT IN {_NO_WORK} AS uncounted
  FROM placed
), hours AS (
  SELECT *, 3600.0 *
    unnest(generate_series(CAST(floor(went / 3600) AS BIGINT), CAST(floor(greatest(went, stopped) / 3600) AS BIGINT))) AS hour
  FROM went WHERE (prompt + output > 0 OR uncounted) AND stopped >= $3
), looked AS (
  SELECT epoch(hour) AS hour, endpoint, min(since) AS since, max(until) AS until FROM counters GROUP BY ALL
), cut AS (
  SELECT h.*, greatest(h.hour, coalesce(l.since, h.hour)) AS lo, least(h.hour + 3600, coalesce(l.until, h.hour + 3600)) AS hi
  FROM hours h LEFT JOIN looked l ON l.hour = h.hour AND l.endpoint = h.endpoint
)
SELECT hour, channel, endpoint, sum(CASE WHEN went >= lo AND went < greatest(hi, lo + 0.001) THEN prompt ELSE 0 END),
  sum(output * CASE WHEN stopped > went THEN greatest(0, least(stopped, hi) - greatest(went, lo)) / (stopped - went)
    WHEN went >= lo AND went < greatest(hi, lo + 0.001) THEN 1 ELSE 0 END),
  count(*) FILTER (uncounted)
FROM cut WHERE hour >= $3 AND hour < $2 GROUP BY ALL
"""


def _recorded(store: Store, begin: float, until: float, sides: dict[Place, Side]) -> None:
    for hour, channel, endpoint, prompt, output, uncounted in store.query(
        _PARTS, [begin - LONGEST, until, begin], seconds=120.0, most=1_000_000
    ).rows:
        side = sides.setdefault((float(hour), channel, endpoint), Side())
        side.prompt, side.output, side.uncounted = float(prompt), float(output), uncounted


def _open(sides: dict[Place, Side], open_now: Sequence[Stretch], begin: float, until: float) -> None:
    """Requests without a record: their output so far, evenly until now."""
    for channel, endpoint, began, ended, prompt, output in open_now:
        hour = max(began, begin) // HOUR * HOUR
        while hour < min(ended, until):
            side = sides.setdefault((hour, channel, endpoint), Side())
            lo, hi = max(hour, side.since), min(hour + HOUR, side.until or hour + HOUR)
            if lo <= began < hi:
                side.prompt += prompt
            side.in_flight += output * max(0.0, min(ended, hi) - max(began, lo)) / (ended - began)
            hour += HOUR


def _elsewhere(sides: Mapping[Place, Side]) -> None:
    """An engine behind several channels counts for all of them together."""
    shared: dict[tuple[float, str], list[Side]] = {}
    for (hour, _, endpoint), side in sides.items():
        shared.setdefault((hour, endpoint), []).append(side)
    for mine in shared.values():
        for side in mine:
            side.elsewhere = sum(one.output + one.in_flight for one in mine if one is not side)
            side.elsewhere_prompt = sum(one.prompt for one in mine if one is not side)


def judged(hour: float, channel: str, sides: Sequence[tuple[str, Side]], now: float) -> dict[str, Any]:
    """One channel's hour, for people and programs. drift: tokens that the engines counted and the ledger does not have, negative when it
    is the other way round; percent: of the larger side."""
    known = [side for _, side in sides if side.engine is not None]
    engine = round(sum((side.engine or 0) - side.elsewhere for side in known))
    engine_prompt = round(sum((side.engine_prompt or 0) - side.elsewhere_prompt for side in known))
    ledger, in_flight = round(sum(side.output for _, side in sides)), round(sum(side.in_flight for _, side in sides))
    resets, length = sum(side.resets for _, side in sides), min(HOUR, now - hour)
    drift = engine - ledger - in_flight
    coverage = _coverage(sides, length)
    state = _state(sides, engine, ledger + in_flight, resets)
    state = UNCERTAIN if state == AGREES and coverage < ENOUGH else state
    unseen = -drift if state == RESTARTED else 0
    drift = 0 if state in (RESTARTED, UNKNOWN) else drift
    most = max(engine, ledger + in_flight)
    return {
        "hour": hour,
        "over": now >= hour + HOUR,
        "channel": channel,
        "state": state,
        "engine": engine if known else None,
        "ledger": ledger,
        "in_flight": in_flight,
        "drift": drift if known else None,
        "percent": round(100 * drift / most, 2) if most and known else 0.0 if known else None,
        "bypassed": max(0, drift) if known else None,
        "unseen": unseen,
        "prompt": {"engine": engine_prompt if known else None, "ledger": round(sum(side.prompt for _, side in sides))},
        "resets": resets,
        "coverage": round(coverage, 3),
        "uncounted": sum(side.uncounted for _, side in sides),
        "endpoints": [_endpoint(endpoint, side) for endpoint, side in sorted(sides, key=lambda one: one[0])],
    }


def _coverage(sides: Sequence[tuple[str, Side]], length: float) -> float:
    """Of the endpoint that was looked at least. One that shows nothing and was of no use has nothing to be looked at."""
    shares = [side.covered / length for _, side in sides if length > 0 and (side.engine is not None or side.output or side.in_flight)]
    return min(shares, default=0.0)


def _state(sides: Sequence[tuple[str, Side]], engine: int, ours: int, resets: int) -> str:
    if any(side.engine is None and (side.output or side.in_flight) for _, side in sides) or all(side.engine is None for _, side in sides):
        return UNKNOWN
    if any(side.covered < COVERED * (side.until - side.since) - 1.0 for _, side in sides if side.engine is not None):
        return INCOMPLETE
    if abs(engine - ours) <= TOLERANCE * max(engine, ours):
        return AGREES
    if engine > ours:
        return BYPASSED
    return RESTARTED if resets else MISSING


def _endpoint(url: str, side: Side) -> dict[str, Any]:
    return {
        "endpoint": url,
        "engine": side.engine,
        "ledger": round(side.output),
        "in_flight": round(side.in_flight),
        "elsewhere": round(side.elsewhere),
        "prompt": {"engine": side.engine_prompt, "ledger": round(side.prompt)},
        "resets": side.resets,
        "covered": round(side.covered, 1),
        "since": side.since,
        "until": side.until,
        "uncounted": side.uncounted,
    }
