"""Is what the ledger holds what was put into it? Reads everything and changes nothing; each thing that is wrong is a sentence."""

from collections.abc import Sequence
from typing import Final

from gateway.ledger import archiving, forgetting
from gateway.ledger.database import Database, translated
from gateway.ledger.schema import absurd, read_lines
from gateway.ledger.store import Archive, Source, StoreFailure

ASIDE_TOLD: Final = 5


def read(db: Database) -> None:
    """Every block of the table: one that is damaged raises StoreFailure."""
    db.run("SELECT bit_xor(hash(requests)) FROM requests")


def archives(db: Database, damaged: set[str]) -> list[str]:
    """damaged: names that are known to be; those that are found now are added."""
    wrong = [sentence for one in archiving.listed(db) for sentence in _archive(db, one, damaged)]
    return wrong + [_unused(db, name) for name in sorted(damaged) if not any(name in line for line in wrong)]


def _unused(db: Database, name: str) -> str:
    try:
        archiving.acceptable(db, db.archives / name)
    except StoreFailure as failure:
        return str(failure)
    return f"the archive {name} is not in use"


def _archive(db: Database, one: Archive, damaged: set[str]) -> list[str]:
    path = db.archives / one.name
    if not path.exists():
        return [f"the archive {one.name} with {one.rows} request(s) is missing"]
    try:
        with translated():
            same = archiving.digest_of(path) == one.digest
        found = archiving.described(db, path) if same else None
    except StoreFailure as failure:
        damaged.add(one.name)
        return [str(failure)]
    if found is None or (found.rows, found.sums) != (one.rows, one.sums):
        damaged.add(one.name)
        return [f"the archive {one.name} with {one.rows} request(s) is not the file that was written"]
    return []


def contents(db: Database) -> list[str]:
    """Requests that are there twice, and lines that are none."""
    wrong = []
    (twice,) = db.one("SELECT count(*) FROM (SELECT id FROM usage GROUP BY id HAVING count(*) > 1)")
    if twice:
        wrong.append(f"{twice} request(s) are there twice")
    (aside,) = db.one("SELECT count(*) FROM quarantine")
    if aside:
        wrong.append(f"{aside} line(s) of the journal are no records and were put aside")
        some = db.run(f"SELECT segment, line, reason FROM quarantine ORDER BY noted_at DESC, line LIMIT {ASIDE_TOLD}")
        wrong += [f"put aside: {segment}{f' line {line}' if line else ''}: {reason}" for segment, line, reason in some]
    return wrong


def altered(db: Database, sources: Sequence[Source]) -> list[str]:
    """See `Store.altered`."""
    digests = dict(db.run("SELECT name, digest FROM segments"))
    found = []
    for source in sources:
        try:
            if digests.get(source.name) not in (None, archiving.digest_of(source.path)):
                found.append(source.name)
        except FileNotFoundError:
            continue
    return found


def missing(db: Database, sources: Sequence[Source], latest: float) -> int:
    """See `Store.missing`. latest: the latest time that a record may have, Unix seconds."""
    if not sources:
        return 0
    lines, since = read_lines("ignore_errors = true"), forgetting.until(db)
    wanted = f"kind = 'done' AND id IS NOT NULL AND lines.ts > ? AND NOT ({absurd()})"
    (count,) = db.one(
        f"SELECT count(*) FROM {lines} lines ANTI JOIN usage USING (id) WHERE {wanted}",
        [[str(source.path) for source in sources], since, latest],
    )
    return int(count)
