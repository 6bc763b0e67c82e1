"""`gatewayctl requests`: the records of requests: the newest, as they come, or one in full."""

import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import Client, segment
from gatewayctl.command import command, noun
from gatewayctl.commands.record import print_record
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import clock, millis, since

app = noun(
    "requests",
    "What happened to requests: the newest, as they come, or one in full.",
    """
    gatewayctl requests                             the newest
    gatewayctl requests tail -f                     and those to come
    gatewayctl requests show 019a2b3c-4d5e-7f60     all that is known of one
    """,
    default="tail",
)
SEARCHED = 10_000
"""Records that are looked through when only some are wanted."""
Keep = Callable[[dict[str, Any]], bool]


def _tokens(record: Any) -> str:
    tokens = record.get("tokens") or {}
    return f"{tokens.get('in', 0)}/{tokens.get('out', 0)}"


def _ms(phase: str) -> Callable[[Any], str | None]:
    return lambda record: millis((record.get("ms") or {}).get(phase))


def _field(name: str) -> Column:
    return Column(name, lambda record: record.get(name))


COLUMNS = [
    Column("time", lambda r: clock(r.get("ts")), wide=14),
    Column("id", lambda r: short(r.get("id")), wide=18),
    Column("key", lambda r: r.get("key"), wide=10),
    Column("model", lambda r: r.get("model"), wide=16),
    Column("channel", lambda r: r.get("channel"), wide=12),
    Column("status", lambda r: r.get("status"), "right", 6),
    Column("end", lambda r: r.get("end"), wide=3),
    Column("in/out", _tokens, "right", 11),
    Column("ttft", _ms("first"), "right", 7),
    Column("total", _ms("total"), "right", 7),
    Column("attempts", lambda r: len(r.get("attempts") or []), "right", 8),
]
FIELDS = [
    *map(_field, "ts id key tenant project model channel endpoint status end error".split()),
    Column("tokens_in", lambda r: (r.get("tokens") or {}).get("in", 0)),
    Column("tokens_out", lambda r: (r.get("tokens") or {}).get("out", 0)),
    Column("ttft_ms", lambda r: (r.get("ms") or {}).get("first") or None),
    Column("total_ms", lambda r: (r.get("ms") or {}).get("total")),
    Column("attempts", lambda r: len(r.get("attempts") or [])),
]
"""What CSV shows: whole values instead of shortened ones."""


def short(id: str | None) -> str | None:
    """The beginning of an id, long enough to find it again: a uuid7's time and four more digits."""
    return id[:18] if id and len(id) == 36 else id


@command(
    app,
    "tail",
    """
    gatewayctl requests tail                        the newest 20
    gatewayctl requests tail -f                     and those to come
    gatewayctl requests tail -f --key k7f3 --model 'qwen*'
    gatewayctl requests tail --since 10m --status 5xx -n 1000 -o csv
    """,
)
def tail(
    session: Session,
    number: Annotated[int, typer.Option("-n", "--number", metavar="COUNT", min=0, max=SEARCHED, help="How many of the newest.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as requests end, until Ctrl-C.")] = False,
    key: Annotated[str | None, typer.Option("--key", metavar="ID", help="Only this key's.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="GLOB", help="Only this model's; * stands for anything.")] = None,
    status: Annotated[str | None, typer.Option("--status", metavar="STATUS", help="Only with this status: 503, 4xx.")] = None,
    begun: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only begun since: 10m, 2h, 2026-11-22T18:00.")] = None,
) -> None:
    """The newest requests, oldest first, and with --follow those to come.

    A request is shown when it has ended. END says who ended it and in which phase (docs/cli.md). With -o json, a list;
    with --follow, one object a line.
    """
    keep = _wanted(key, model, status, begun)
    client = session.client()
    if follow:
        rows = show.Rows(session, FIELDS if session.output == "csv" else COLUMNS)
        for record in _following(client, number, keep):
            rows.add(record)
        return
    found = _newest(client, number, keep)
    all_of_them = number and (key, model, status, begun) == (None, None, None, None)
    show.items(session, found, FIELDS if session.output == "csv" else COLUMNS, "no requests yet" if all_of_them else "no such requests")


@command(
    app,
    "show",
    """
    gatewayctl requests show 019a2b3c-4d5e-7f60     by id or its beginning
    gatewayctl requests show my-request-1 -o json   by the caller's x-request-id
    """,
)
def show_request(session: Session, id: Annotated[str, typer.Argument(help="The id, its beginning, or the caller's x-request-id.")]) -> None:
    """All that is known of one request: who, where to, each attempt, tokens, times, and who ended it."""
    record = session.client().get(f"/v1/requests/{segment(id)}")["request"]
    if session.machine:
        show.data(session, record)
    else:
        print_record(session, record)


def _newest(client: Client, number: int, keep: Keep | None) -> list[dict[str, Any]]:
    if number == 0:
        return []
    found: list[dict[str, Any]] = client.get(f"/v1/requests?limit={SEARCHED if keep else number}")["requests"]
    return list(filter(keep, found))[-number:] if keep else found


def _following(client: Client, number: int, keep: Keep | None) -> Iterator[dict[str, Any]]:
    """The newest, then those to come, without a gap and none twice."""
    with client.lines("/v1/requests/follow") as coming:
        past = _newest(client, number, keep)
        yield from past
        seen = {record.get("id") for record in past}
        for record in coming:
            if record.get("id") in seen:
                seen.discard(record.get("id"))
            elif keep is None or keep(record):
                yield record


def _wanted(key: str | None, model: str | None, status: str | None, begun: str | None) -> Keep | None:
    tests: list[Keep] = []
    if key:
        tests.append(lambda r: r.get("key") == key)
    if model:
        tests.append(lambda r: fnmatchcase(r.get("model") or "", model))
    if status:
        digits = status.lower().rstrip("x")
        if not digits.isdigit() or len(status) != 3:
            raise Trouble(f"--status wants a number or a class, such as 503 or 4xx, not {status!r}", code=USAGE)
        tests.append(lambda r: str(r.get("status") or "").startswith(digits))
    if begun:
        try:
            earliest = since(begun, time.time())
        except ValueError as error:
            raise Trouble(f"--since wants a duration or a time, such as 10m or 2026-11-22T18:00, not {begun!r}", code=USAGE) from error
        tests.append(lambda r: (r.get("ts") or 0) >= earliest)
    return (lambda record: all(test(record) for test in tests)) if tests else None
