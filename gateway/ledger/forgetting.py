"""What was deleted for its age or its room, and until when: from there on a request that the journal has must be in the ledger.

One row at most, in the table `forgotten`. A ledger that is built anew has forgotten nothing: what the journal still has is in it.
"""

from typing import Final

from gateway.ledger.database import Database

_STAMP: Final = "make_timestamp(CAST(? * 1000000 AS BIGINT))"
_CLOSE: Final = 0.001
"""Seconds: a time that came back from the database may be a rounding before the record's."""


def drop(db: Database, before: float) -> int:
    """Deletes requests outside archives that began before (Unix seconds); returns how many."""
    (count,) = db.one(f"SELECT count(*) FROM requests WHERE ts < {_STAMP}", [before])
    if count:
        with db.transaction():
            db.run(f"DELETE FROM requests WHERE ts < {_STAMP}", [before])
            note(db, before)
    return int(count)


def note(db: Database, moment: float) -> None:
    """Of what began until then something was deleted on purpose. Belongs into the transaction that does it."""
    latest = max(until(db), moment + _CLOSE)
    db.run("DELETE FROM forgotten")
    db.run("INSERT INTO forgotten VALUES (?)", [latest])


def until(db: Database) -> float:
    """Unix seconds; 0.0 = everything is there."""
    (moment,) = db.one('SELECT coalesce(max("until"), 0) FROM forgotten')
    return float(moment)
