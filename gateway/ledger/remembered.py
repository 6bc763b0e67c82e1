"""What engines counted, once more in a file beside the journal: of all that the ledger has, only this is in no record.

`journal/kept/engines.log`: a line each time something is noted, with the hours of endpoints as they stand now and what their counters
showed last, after the beginning of its MD5. Of several on the same hour the one that counted most is right, so a line may be torn or come
twice; of what counters showed, the last line, whatever the clock said then.
"""

import errno
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.ledger.bundles import FOLDER
from gateway.ledger.database import Database, sync, translated
from gateway.ledger.store import Increase, Raw, StoreFailure

log = logging.getLogger("gateway.ledger")

NAME: Final = "engines.log"
SPARE: Final = 10_000
"""Lines beyond twice what is needed, until the file is written anew."""
_LINE: Final = (
    '[{"hour":"DOUBLE","channel":"VARCHAR","endpoint":"VARCHAR","prompt":"BIGINT","generation":"BIGINT","resets":"INTEGER",'
    '"covered":"DOUBLE","since":"DOUBLE","until":"DOUBLE","at":"DOUBLE"}]'
)
_HOURS: Final = (
    "SELECT epoch(hour) AS hour, channel, endpoint, prompt_tokens AS prompt, generation_tokens AS generation, resets, "
    'seconds_covered AS covered, since, until, CAST(NULL AS DOUBLE) AS "at" FROM counters'
)
_LAST: Final = (
    "SELECT CAST(NULL AS DOUBLE) AS hour, channel, endpoint, prompt, generation, CAST(NULL AS INTEGER) AS resets, CAST(NULL AS DOUBLE) AS "
    'covered, CAST(NULL AS DOUBLE) AS since, CAST(NULL AS DOUBLE) AS until, "at" FROM counters_last'
)
_BEST: Final = "CASE WHEN hour IS NULL THEN place ELSE prompt + generation END DESC, until DESC"
_SAME: Final = "c.hour = make_timestamp(CAST(r.hour * 1000000 AS BIGINT)) AND c.channel = r.channel AND c.endpoint = r.endpoint"


class Remembered:
    """The file of one journal."""

    def __init__(self, journal: Path) -> None:
        self._path = journal / FOLDER / NAME
        self._lines = 0
        self._behind = False
        """It lacks something that the ledger has."""
        self.unwritten = ""
        """Why it is not what it should be; "" = it is."""

    def agree(self, db: Database) -> None:
        """What the file has and the ledger has not, or less of, comes into the ledger; what it lacks itself is written into it."""
        with translated():
            there = self._path.exists()
        lines = self._read() if there else []
        rows = "FROM (SELECT unnest(lines) AS line, generate_subscripts(lines, 1) AS place FROM (SELECT CAST(? AS JSON[]) AS lines))"
        db.run(
            f"CREATE OR REPLACE TEMP TABLE remembered AS SELECT place, unnest(from_json(line, '{_LINE}'), recursive := true) {rows}",
            ["[" + ",".join(lines) + "]"],
        )
        (self._lines,) = db.one("SELECT count(*) FROM remembered")
        ranked = f"SELECT *, row_number() OVER (PARTITION BY hour, channel, endpoint ORDER BY {_BEST}) AS rank FROM remembered"
        db.run(f"CREATE OR REPLACE TEMP TABLE remembered AS SELECT * EXCLUDE (rank, place) FROM ({ranked}) WHERE rank = 1")
        if there:
            _restore(db)
        torn = there and self._is_torn()
        (lacking,) = db.one(f"SELECT count(*) FROM (({_HOURS} UNION ALL {_LAST}) EXCEPT SELECT * FROM remembered)")
        db.run("DROP TABLE remembered")
        self._behind = bool(lacking) or torn
        self.tidy(db)

    def _is_torn(self) -> bool:
        with translated(), self._path.open("rb") as file:
            return bool(file.seek(0, os.SEEK_END)) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"

    def _read(self) -> list[str]:
        """The lines that are whole."""
        with translated(), self._path.open("rb") as file:
            parts = [line.rstrip(b"\n").partition(b"\t") for line in file]
        return [text.decode() for sum, _, text in parts if _sum(text) == sum]

    def add(self, db: Database, increases: Sequence[Increase], last: Sequence[Raw]) -> None:
        """After these were noted. A disk that refuses is said, and tried again with all that is missing."""
        keys = [{"hour": one.hour, "channel": one.channel, "endpoint": one.endpoint} for one in increases]
        form = '[{"hour":"DOUBLE","channel":"VARCHAR","endpoint":"VARCHAR"}]'
        rows = f"(SELECT unnest(from_json(CAST(? AS JSON), '{form}'), recursive := true))"
        asked = f"{_HOURS} c WHERE EXISTS (SELECT 1 FROM {rows} r WHERE {_SAME})"
        found = [Increase(*row[:9])._asdict() for row in db.run(asked, [msgspec.json.encode(keys).decode()])]
        if self._behind:
            self.tidy(db)
            return
        line = _line([*found, *(raw._asdict() for raw in last)])
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._failed(error)
        else:
            self._lines += len(found) + len(last)

    def tidy(self, db: Database) -> None:
        """Writes it anew when it lacks something, or has more than twice what it needs."""
        (needed,) = db.one("SELECT (SELECT count(*) FROM counters) + (SELECT count(*) FROM counters_last)")
        if not self._behind and self._lines <= 2 * needed + SPARE:
            return
        new = self._path.with_name(f"{NAME}.new")
        lines = f"SELECT '[' || CAST(to_json(one) AS VARCHAR) || ']' AS line FROM ({_HOURS} UNION ALL {_LAST}) one"
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            form = "FORMAT csv, DELIM '\t', HEADER false, QUOTE '', ESCAPE ''"
            db.run(f"COPY (SELECT left(md5(line), 8), line FROM ({lines})) TO '{new}' ({form})")
            sync(new)
            os.replace(new, self._path)
            sync(self._path.parent)
        except (OSError, StoreFailure) as error:
            new.unlink(missing_ok=True)
            self._failed(error)
        else:
            self._lines, self._behind, self.unwritten = needed, False, ""

    def _failed(self, error: OSError | StoreFailure) -> None:
        self._behind = True
        why = error.strerror or error if isinstance(error, OSError) else error
        said = f"what engines counted is not written down beside the journal: {why}"
        if said != self.unwritten:
            log.error("ledger: %s", said)
        self.unwritten = said


def _line(noted: list[dict[str, Any]]) -> bytes:
    text = msgspec.json.encode(noted)
    return _sum(text) + b"\t" + text + b"\n"


def _sum(text: bytes) -> bytes:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()[:8].encode()


def _restore(db: Database) -> None:
    more = "r.prompt + r.generation > c.prompt_tokens + c.generation_tokens OR r.until > c.until"
    db.run(
        "CREATE OR REPLACE TEMP TABLE lacking AS SELECT r.* FROM remembered r LEFT JOIN counters c "
        f"ON {_SAME} WHERE r.hour IS NOT NULL AND (c.hour IS NULL OR {more})"
    )
    later = "r.channel = c.channel AND r.endpoint = c.endpoint"
    newer = f'FROM remembered r LEFT JOIN counters_last c ON {later} WHERE r."at" IS NOT NULL AND (c."at" IS NULL OR r."at" > c."at")'
    db.run(f'CREATE OR REPLACE TEMP TABLE lacking_last AS SELECT r.channel, r.endpoint, r.prompt, r.generation, r."at" {newer}')
    (hours,), (last,) = db.one("SELECT count(*) FROM lacking"), db.one("SELECT count(*) FROM lacking_last")
    if hours or last:
        with db.transaction():
            db.run(f"DELETE FROM counters AS c USING lacking AS r WHERE {_SAME}")
            db.run(
                "INSERT INTO counters SELECT make_timestamp(CAST(hour * 1000000 AS BIGINT)), channel, endpoint, prompt, generation, "
                "resets, covered, since, until FROM lacking"
            )
            db.run(f"DELETE FROM counters_last AS c USING lacking_last AS r WHERE {later}")
            db.run("INSERT INTO counters_last SELECT * FROM lacking_last")
        log.info("ledger: what engines counted in %d hour(s) was brought back", hours)
    db.run("DROP TABLE lacking")
    db.run("DROP TABLE lacking_last")
