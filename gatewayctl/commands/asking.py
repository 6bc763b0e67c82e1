"""What all reports are asked with: which time, by what, of whom; and who answers: the gateway, or its own code on its files."""

import functools
import inspect
import json
import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlencode

import typer

from gatewayctl.alone import take_over
from gatewayctl.commands.ledger import whole_file
from gatewayctl.commands.unheard import say_unheard
from gatewayctl.programs import ledger_act, ledger_bytes
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import size

PATIENCE: Final = 300.0
"""Seconds that a report may take."""
LAST: Final = "7d"
FILES: Final = "the gateway is not running; this is what its files have"
DIMENSIONS: Final = "tenant project key model channel system api status end error endpoint node rule policy".split()
FILTERS: Final = ("tenant", "project", "key", "model", "channel", "system", "api", "status", "end")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_duration = re.compile(r"(\d+)([smhdw])")
_status = re.compile(r"[0-9*]{1,3}|[0-9][xX]{2}")


class Asked(NamedTuple):
    """now: Unix seconds. body: the fields of a question that say of which time and of whom."""

    zone: str
    tz: tzinfo
    now: float
    body: dict[str, Any]

    @property
    def days(self) -> float:
        return float(self.body["until"] - self.body["since"]) / 86400

    @property
    def parts(self) -> int:
        """Of a trend: hours, quarters of days, or days."""
        return 24 if self.days <= 2 else min(32, round(self.days * 4)) if self.days <= 8 else min(31, max(1, round(self.days)))

    def told(self) -> str:
        """`2026-11-20 00:00 to 2026-11-27 00:00 (UTC)`."""
        ends = (datetime.fromtimestamp(self.body[word], self.tz).strftime("%Y-%m-%d %H:%M") for word in ("since", "until"))
        of = "".join(f", {word} {' or '.join(values)}" for word, values in self.body["where"].items())
        return f"{' to '.join(ends)} ({self.zone}){of}"


def _only(word: str, more: str = "") -> Any:
    metavar = "STATUS" if word == "status" else "NAME"
    return Annotated[
        list[str] | None, typer.Option(f"--{word}", metavar=metavar, help=f"Only of {more or f'this {word}'}; may be repeated.")
    ]


def options(
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="From: 30d, 2026-11, 2026-11-20, 2026-11-20T18:00.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until before. [default: now]")] = None,
    last: Annotated[str | None, typer.Option("--last", metavar="DURATION", help=f"The last 24h, 7d, 4w. [default: {LAST}]")] = None,
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="Whose days and months: Asia/Shanghai.")] = "UTC",
    tenant: _only("tenant", "this tenant; * stands for anything") = None,  # type: ignore[valid-type]
    project: _only("project", "this project: retail/chatbot, or chatbot of any tenant") = None,  # type: ignore[valid-type]
    key: _only("key") = None,  # type: ignore[valid-type]
    model: _only("model", "this model, as callers wrote it") = None,  # type: ignore[valid-type]
    channel: _only("channel") = None,  # type: ignore[valid-type]
    system: _only("system") = None,  # type: ignore[valid-type]
    api: _only("api", "this API: chat, embeddings") = None,  # type: ignore[valid-type]
    status: _only("status", "this status: 503, 4xx") = None,  # type: ignore[valid-type]
    end: _only("end", "this end: -D, UD") = None,  # type: ignore[valid-type]
) -> Asked:
    """The shared options, declared once."""
    now, tz = time.time(), zone_named(zone)
    where = dict(zip(FILTERS, (tenant, project, key, model, channel, system, api, status, end), strict=True))
    wrong = next((one for one in status or () if not _status.fullmatch(one)), None)
    if wrong is not None:
        raise Trouble(f"--status wants a status such as 503, 5xx or 0 (none was sent), not {wrong!r}", code=USAGE)
    begin, finish = span(since, until, last, tz, now)
    return Asked(
        zone, tz, now, {"since": begin, "until": finish, "zone": zone, "where": {word: found for word, found in where.items() if found}}
    )


def taking(function: Callable[..., None]) -> Callable[..., None]:
    """A command that gets Asked after its Session: the shared options stand after its own."""
    own = list(inspect.signature(function).parameters.values())
    shared = inspect.signature(options).parameters

    @functools.wraps(function)
    def run(session: Session, **given: Any) -> None:
        function(session, options(**{name: given.pop(name) for name in shared}), **given)

    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [own[0], *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own[2:], *shared.values()))]
    )
    return run


def span(since: str | None, until: str | None, last: str | None, tz: tzinfo, now: float) -> tuple[float, float]:
    """From and until, in Unix seconds."""
    if last and since:
        raise Trouble("--last and --since both say when it begins", code=USAGE)
    finish = moment("--until", until, tz, now) if until else now
    begin = moment("--since", since, tz, now) if since else finish - duration("--last", last or LAST)
    if begin > finish:
        raise Trouble("--since is after --until" if until else "--since is in the future", code=USAGE)
    return max(0.0, begin), finish


def duration(option: str, text: str) -> float:
    """`7d`, `1d12h` → seconds."""
    if not re.fullmatch(rf"(?:{_duration.pattern}){{1,5}}", text) or len(text) > 20:
        raise Trouble(f"{option} wants a duration such as 24h, 7d or 4w, not {text!r}", code=USAGE)
    return float(sum(int(number) * _UNITS[unit] for number, unit in _duration.findall(text)))


def moment(option: str, text: str, tz: tzinfo, now: float) -> float:
    """A duration before now, a month, a day, a time: by the clock of the zone unless it has its own offset."""
    if re.fullmatch(rf"(?:{_duration.pattern}){{1,5}}", text) and len(text) <= 20:
        return now - duration(option, text)
    midnight = datetime.fromtimestamp(now, tz).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    words = {
        "now": now,
        "today": midnight.timestamp(),
        "yesterday": (midnight.replace(tzinfo=None) - timedelta(days=1)).replace(tzinfo=tz).timestamp(),
    }
    if text in words:
        return words[text]
    try:
        found = datetime.strptime(text, "%Y-%m") if re.fullmatch(r"\d{4}-\d\d", text) else datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=tz)).timestamp()
    except (ValueError, OverflowError) as error:
        wants = "a duration, a month, a day or a time, such as 7d, 2026-11, 2026-11-22 or 2026-11-22T18:00"
        raise Trouble(f"{option} wants {wants}, not {text!r}", code=USAGE) from error


def zone_named(name: str) -> tzinfo:
    from gateway.config.hours import zone_of

    try:
        return zone_of(name)
    except ValueError as error:
        raise Trouble(f"--zone: {error}", code=USAGE) from error


def words(text: str, option: str = "--by") -> list[str]:
    """`tenant,model` → both."""
    from gateway.config.wording import nearest

    found = [word.strip() for word in text.split(",") if word.strip()]
    unknown = next((word for word in found if word not in DIMENSIONS), None)
    if unknown is not None:
        raise Trouble(f"{option} wants {', '.join(DIMENSIONS)}, not {unknown!r}", nearest(unknown, DIMENSIONS) or "", USAGE)
    if len(found) != len(set(found)):
        raise Trouble(f"{option} says the same twice", code=USAGE)
    if len(found) > 2:
        raise Trouble(f"{option} wants one thing, or two that differ", code=USAGE)
    return found


def say_nothing(session: Session, of: Asked) -> None:
    """That there were no requests, and which of the names that were asked for the configuration does not have."""
    session.say(f"no requests: {of.told()}")
    say_unheard(session, of.body["where"])


# -- who answers -------------------------------------------------------------------------------------------------------


def asked(session: Session, act: str, path: str, word: str, body: dict[str, Any] | None) -> Any:
    """The gateway's answer; that of its own code on its files when none runs. body: None = it is a GET."""
    client = session.client()
    try:
        found = client.get(path, PATIENCE) if body is None else client.post(path, body, PATIENCE)
    except Trouble as trouble:
        take_over(session, trouble, FILES)
        found = ledger_act(session.config, act, "--asked", json.dumps(body or {}))
    if found.get("absent"):
        session.warn(f"gatewayctl: missing or damaged, and in no figure: {', '.join(found['absent'])}")
    return found[word]


def reports(session: Session, questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers of one moment: their totals agree."""
    found: list[dict[str, Any]] = asked(session, "report", "/v1/report", "reports", {"questions": list(questions)})
    return found


def file_of(session: Session, question: dict[str, Any], form: str) -> Iterable[bytes]:
    """A report's whole answer as csv, json or parquet, in pieces."""
    try:
        return session.client().pieces(f"/v1/report/file?{urlencode({'format': form, 'question': json.dumps(question)})}", PATIENCE)
    except Trouble as trouble:
        take_over(session, trouble, FILES)
        return ledger_bytes(session.config, ["--format", form, "--asked", json.dumps(question)], "file")


def written(session: Session, path: Path, pieces: Iterable[bytes]) -> None:
    """A file that has its name only when it is complete."""
    with whole_file(path) as file:
        for piece in pieces:
            file.write(piece)
    session.say(f"{path}: {size(path.stat().st_size)}")
