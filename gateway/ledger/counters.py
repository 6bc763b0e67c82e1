"""What engines counted themselves, in two tables of the ledger: increases by hour, and what each showed last. Not in
the journal's records; `remembered.py` keeps them beside it."""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.ledger.database import Database
from gateway.ledger.store import Increase, Raw

_HOUR: Final = "make_timestamp(CAST(hour * 1000000 AS BIGINT))"
_INCREASE: Final = (
    '[{"hour":"DOUBLE","channel":"VARCHAR","endpoint":"VARCHAR","prompt":"BIGINT","generation":"BIGINT","resets":"INTEGER",'
    '"covered":"DOUBLE","since":"DOUBLE","until":"DOUBLE"}]'
)
_RAW: Final = '[{"channel":"VARCHAR","endpoint":"VARCHAR","prompt":"BIGINT","generation":"BIGINT","at":"DOUBLE"}]'
_NAMES: Final = 'channel, endpoint, prompt, generation, "at"'


def note(db: Database, increases: Sequence[Increase], last: Sequence[Raw]) -> None:
    """Adds what has come, and keeps what was seen last, in one transaction."""
    grown = [one._asdict() for one in increases]
    with db.transaction():
        db.run(f"CREATE OR REPLACE TEMP TABLE grown AS SELECT * FROM {_rows(_INCREASE)}", [msgspec.json.encode(grown).decode()])
        same = "c.hour = make_timestamp(CAST(g.hour * 1000000 AS BIGINT)) AND c.channel = g.channel AND c.endpoint = g.endpoint"
        db.run(
            "UPDATE counters AS c SET prompt_tokens = prompt_tokens + g.prompt, generation_tokens = generation_tokens + g.generation, "
            "resets = c.resets + g.resets, seconds_covered = seconds_covered + g.covered, since = least(c.since, g.since), "
            f"until = greatest(c.until, g.until) FROM grown AS g WHERE {same}"
        )
        db.run(
            f"INSERT INTO counters SELECT {_HOUR}, channel, endpoint, prompt, generation, resets, covered, since, until FROM grown AS g "
            f"WHERE NOT EXISTS (SELECT 1 FROM counters AS c WHERE {same})"
        )
        db.run("DELETE FROM counters_last")
        seen = [one._asdict() for one in last]
        db.run(f"INSERT INTO counters_last SELECT {_NAMES} FROM {_rows(_RAW)}", [msgspec.json.encode(seen).decode()])
    db.run("DROP TABLE grown")


def last(db: Database) -> list[Raw]:
    return [Raw(*row) for row in db.run(f"SELECT {_NAMES} FROM counters_last")]


def drop(db: Database, before: float) -> None:
    """Hours that began before (Unix seconds)."""
    old = "FROM counters WHERE epoch(hour) < ?"
    if db.one(f"SELECT count(*) {old}", [before])[0]:
        db.run(f"DELETE {old}", [before])


def copy(old: Database, new: Database) -> None:
    """Into a ledger that is built anew."""
    rows = old.run(
        "SELECT epoch(hour), channel, endpoint, prompt_tokens, generation_tokens, resets, seconds_covered, since, until FROM counters"
    )
    note(new, [Increase(*row) for row in rows], last(old))


def _rows(form: str) -> str:
    """A table of the rows in a JSON text, which is the parameter."""
    return f"(SELECT unnest(from_json(CAST(? AS JSON), '{form}'), recursive := true))"
