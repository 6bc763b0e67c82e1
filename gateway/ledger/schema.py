"""The ledger's tables as SQL: how a record's fields become columns, and which numbers are believed."""

from typing import Final, NamedTuple

FORMAT: Final = 1
"""Of the database file."""
LARGEST: Final = 2**53
"""Numbers of a record are from 0 to here; what is not was never counted by anybody."""
EARLIEST: Final = 1_577_836_800.0
"""2020-01-01: no gateway is older."""
AHEAD: Final = 86_400.0
"""Seconds that a record may be ahead of our clock, and of what it showed when the record's file was written."""


class Column(NamedTuple):
    """source: how it is made from a record, in SQL; "" = a later hand fills it. meaning: as in docs/ledger.md."""

    name: str
    type: str
    source: str
    meaning: str


def _text(name: str, meaning: str) -> Column:
    return Column(name, "VARCHAR", f"coalesce(\"{name}\", '')", meaning)


def _count(name: str, source: str, meaning: str) -> Column:
    return Column(name, "BIGINT", f"coalesce({source}, 0)", meaning)


def _real(name: str, source: str, meaning: str) -> Column:
    return Column(name, "DOUBLE", f"coalesce({source}, 0)", meaning)


_TOKENS: Final = 'STRUCT("in" BIGINT, cached BIGINT, "out" BIGINT, reasoning BIGINT)'
_ATTEMPT: Final = (
    "STRUCT(kind VARCHAR, channel VARCHAR, endpoint VARCHAR, model VARCHAR, reason VARCHAR, status BIGINT, ms DOUBLE, "
    f"tokens {_TOKENS}, via VARCHAR)"
)

_FREE: Final = ('"model"', '"trace"')
"""Columns whose text callers choose."""

COLUMNS: Final = (
    Column("id", "UUID", "id", "the record's id, time-ordered; never twice"),
    Column("ts", "TIMESTAMP", "make_timestamp(CAST(ts * 1000000 AS BIGINT))", "when it was accepted, in UTC"),
    _text("node", "the gateway"),
    Column("slot", "INTEGER", "slot", "its worker"),
    Column("rev", "BIGINT", "rev", "the configuration's revision"),
    _text("tenant", "who pays; empty when nobody was recognised"),
    _text("project", "of the tenant"),
    _text("key", "the API key's id"),
    _text("system", "the calling application, as its key may tell"),
    _text("ip", "the caller's address"),
    _text("trace", "the caller's own id of the request (`x-request-id`)"),
    _text("api", "what was called: `chat`, `completions`, `embeddings` …"),
    _text("model", "the model's name as the caller said it"),
    _text("via", "the virtual model that served, when a rule or a fallback led to another"),
    _text("rule", "the rule that decided"),
    _text("policy", "the policy that decided"),
    Column("stream", "BOOLEAN", "coalesce(stream, false)", "whether it was a stream"),
    _text("channel", "the channel that served"),
    _text("endpoint", "the endpoint that served"),
    _text("upstream_model", "the engine's name of the model"),
    Column("status", "INTEGER", "coalesce(status, 0)", "the answer's HTTP status"),
    _text("end", "who ended it and in which phase, two letters"),
    _text("error", "the error's code"),
    _count("tokens_in", 'tokens."in"', "tokens of the prompt"),
    _count("tokens_cached", "tokens.cached", "of these, from the engine's cache"),
    _count("tokens_out", 'tokens."out"', "tokens of the answer"),
    _count("tokens_reasoning", "tokens.reasoning", "of these, reasoning"),
    _text("source", "where these counts are from: `final`, `continuous`, `counted`, `none`"),
    _count("reserved_in", 'reserved."in"', "prompt tokens that limits set aside"),
    _count("reserved_out", 'reserved."out"', "answer tokens that limits set aside"),
    _real("ms_read", 'ms."read"', "milliseconds until the body was there"),
    _real("ms_queue", "ms.queue", "milliseconds of waiting for a seat"),
    _real("ms_connect", 'ms."connect"', "milliseconds until an engine was connected"),
    _real("ms_first", 'ms."first"', "milliseconds until the first token (TTFT), from accept; 0 = none came"),
    _real("ms_total", "ms.total", "milliseconds altogether"),
    _real("tpot", "tpot", "milliseconds per output token after the first"),
    _count("bytes_in", 'bytes."in"', "bytes of the caller's body"),
    _count("bytes_out", 'bytes."out"', "bytes of the answer's body"),
    Column("n_attempts", "INTEGER", "coalesce(len(attempts), 0)", "attempts at engines"),
    Column("attempts", f"{_ATTEMPT}[]", "coalesce(attempts, [])", "each of them, as in the journal"),
    Column("rewrites", "VARCHAR[]", "coalesce(rewrites, [])", "what was changed in the request"),
    _count("max_tokens", "facts.max_tokens", "the most tokens that the caller wanted; 0 = not said"),
    Column("tools", "INTEGER", "coalesce(facts.tools, 0)", "tools that were offered"),
    Column("format", "VARCHAR", "coalesce(facts.format, '')", "the format that was asked for"),
    Column("n", "INTEGER", "coalesce(facts.n, 0)", "answers that were asked for; 0 = not said"),
    _count("prompt_est", "facts.prompt_est", "the prompt's tokens, when a decision turned on them"),
    Column("price_rev", "VARCHAR", "", "the price that was applied; null = not priced"),
    Column("currency", "VARCHAR", "", "of `amount`"),
    Column("amount", "DECIMAL(18,9)", "", "what the caller owes; null = unknown, never 0 for it"),
    Column("engine_currency", "VARCHAR", "", "of `engine_cost`"),
    Column("engine_cost", "DECIMAL(18,9)", "", "what the channels' own prices say that it cost us, all attempts together; null = unknown"),
)  # fmt: skip

COUNTERS: Final = (
    "CREATE TABLE IF NOT EXISTS counters(hour TIMESTAMP, channel VARCHAR, endpoint VARCHAR, prompt_tokens BIGINT, "
    "generation_tokens BIGINT, resets INTEGER, seconds_covered DOUBLE, since DOUBLE, until DOUBLE)",
    'CREATE TABLE IF NOT EXISTS counters_last(channel VARCHAR, endpoint VARCHAR, prompt BIGINT, generation BIGINT, "at" DOUBLE)',
)
"""What engines counted. since, until: the stretch of the hour that the increases are of, Unix seconds."""

FORGOTTEN: Final = 'CREATE TABLE IF NOT EXISTS forgotten("until" DOUBLE)'
"""Until when requests were deleted for their age or their room (`forgetting.py`): one row at most, Unix seconds."""

SUMMED: Final = ("tokens_in", "tokens_cached", "tokens_out", "tokens_reasoning", "bytes_in", "bytes_out")
"""Columns whose sums an archive is checked by."""

_TEXTS: Final = "tenant project key ip trace api model rule policy channel endpoint upstream_model end error source via system"
READ: Final = {
    **{"v": "BIGINT", "kind": "VARCHAR", "id": "UUID", "node": "VARCHAR", "slot": "BIGINT", "rev": "BIGINT", "ts": "DOUBLE"},
    **dict.fromkeys(_TEXTS.split(), "VARCHAR"),
    **{"stream": "BOOLEAN", "status": "BIGINT", "tokens": _TOKENS, "reserved": _TOKENS, "tpot": "DOUBLE", "rewrites": "VARCHAR[]"},
    "attempts": f"{_ATTEMPT}[]",
    "ms": 'STRUCT("read" DOUBLE, queue DOUBLE, "connect" DOUBLE, "first" DOUBLE, total DOUBLE)',
    "bytes": 'STRUCT("in" BIGINT, "out" BIGINT)',
    "facts": "STRUCT(max_tokens BIGINT, tools BIGINT, format VARCHAR, n BIGINT, prompt_est BIGINT)",
}  # fmt: skip
"""What is read of a line. Fields that this version does not know are left out."""

_WHOLE: Final = (
    *('tokens."in"', "tokens.cached", 'tokens."out"', "tokens.reasoning", 'reserved."in"', 'reserved."out"', 'bytes."in"', 'bytes."out"'),
    *("facts.max_tokens", "facts.prompt_est", "rev"),
)
_SMALL: Final = ("slot", "status", "facts.tools", "facts.n")
_REAL: Final = ('ms."read"', "ms.queue", 'ms."connect"', 'ms."first"', "ms.total", "tpot")


def absurd() -> str:
    """SQL that is true of a `done` line that is no record, or has a number that nobody can have counted. Parameters: the latest `ts`."""
    tests = ["v IS DISTINCT FROM 1", "id IS NULL", "slot IS NULL", "rev IS NULL", "ts IS NULL", f"NOT (ts BETWEEN {EARLIEST} AND ?)"]
    for numbers, most in ((_WHOLE, LARGEST), (_SMALL, 2**31 - 1), (_REAL, LARGEST)):  # nothing is greater than NaN
        some = ", ".join(numbers)
        tests.append(f"NOT (least({some}) >= 0 AND greatest({some}) <= {most})")
    return " OR ".join(f"coalesce({test}, false)" for test in tests)


_NANOS: Final = "CAST({} AS DECIMAL(18, 0)) * 0.000000001::DECIMAL(10, 9)"
_BILL: Final = {
    "price_rev": "bill.rev",
    "currency": "bill.currency",
    "amount": _NANOS.format("bill.nanos"),
    "engine_currency": "bill.engine_currency",
    "engine_cost": _NANOS.format("bill.engine_nanos"),
}


def read_lines(how: str = "filename = true", *, billed: bool = False) -> str:
    """The table function that reads sources. billed: their lines say what they come to. Parameters: a list of paths."""
    bill = {"bill": "STRUCT(rev VARCHAR, currency VARCHAR, nanos BIGINT, engine_currency VARCHAR, engine_nanos BIGINT)"}
    columns = ", ".join(f"\"{name}\": '{kind}'" for name, kind in (READ | bill if billed else READ).items())
    return f"read_json(?, format = 'newline_delimited', columns = {{{columns}}}, maximum_object_size = 1048576, {how})"


def flat(table: str, bills: str) -> str:
    """SELECT of a read table's records as rows of `requests`. bills: the table that says what each comes to."""
    made = ", ".join(f'{column.source or f"{bills}.{column.name}"} AS "{column.name}"' for column in COLUMNS)
    return f"SELECT {made} FROM {table} LEFT JOIN {bills} ON {bills}.number = {table}.rowid"


def rows_of(lines: str, billed: bool) -> str:
    """SELECT of records as rows of `requests`, straight from the table function that reads them."""
    made = ", ".join(f'{column.source or (_BILL[column.name] if billed else "NULL")} AS "{column.name}"' for column in COLUMNS)
    return f"SELECT {made} FROM {lines}"


def names() -> str:
    """All columns, to be selected."""
    return ", ".join(f'"{column.name}"' for column in COLUMNS)


def as_cell(sql: str) -> str:
    """Text that callers write, for CSV: before what a spreadsheet would take for a formula stands a `'`."""
    return f"CASE WHEN ascii({sql}) IN (9, 13, 43, 45, 61, 64) THEN '''' || {sql} ELSE {sql} END"


def cells() -> str:
    """All columns, to be selected for CSV."""
    return ", ".join(f"{as_cell(name)} AS {name}" if name in _FREE else name for name in names().split(", "))


def tables() -> list[str]:
    """What a new database is made with; does nothing to one that has it."""
    columns = ", ".join(f'"{column.name}" {column.type}' for column in COLUMNS)
    sums = ", ".join(f"{name} HUGEINT" for name in SUMMED)
    return [
        f"CREATE TABLE IF NOT EXISTS requests({columns})",
        "CREATE TABLE IF NOT EXISTS segments(name VARCHAR, rows BIGINT, duplicates BIGINT, quarantined BIGINT, bytes BIGINT, "
        "digest VARCHAR, first_ts TIMESTAMP, last_ts TIMESTAMP, bundle BOOLEAN, loaded_at TIMESTAMP)",
        "CREATE TABLE IF NOT EXISTS quarantine(segment VARCHAR, line BIGINT, reason VARCHAR, text VARCHAR, noted_at TIMESTAMP)",
        f"CREATE TABLE IF NOT EXISTS archives(name VARCHAR, month VARCHAR, rows BIGINT, bytes BIGINT, digest VARCHAR, {sums}, "
        "first_ts TIMESTAMP, last_ts TIMESTAMP, archived_at TIMESTAMP)",
        "CREATE TABLE IF NOT EXISTS meta(format INTEGER)",
        FORGOTTEN,
        *COUNTERS,
    ]


def usage_view(archives: list[str]) -> str:
    """The view of all requests: the table and these archives. archives: paths, without apostrophes."""
    ours = f"CREATE OR REPLACE VIEW usage AS SELECT {names()} FROM requests"
    if not archives:
        return ours
    files = ", ".join(f"'{path}'" for path in archives)
    return f"{ours} UNION ALL SELECT {names()} FROM read_parquet([{files}], union_by_name = true)"
