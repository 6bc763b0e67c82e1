"""What a report may be asked: for which time, by what, of whom. Checked here; becomes SQL in `report`.

Times are half-open, [since, until), in Unix seconds; days and months are those of a zone, by the clock on its wall.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final, Literal

from msgspec import Struct

from gateway.config.hours import zone_of

DIMENSIONS: Final = {
    "tenant": "tenant",
    "project": "CASE WHEN tenant = '' AND project = '' THEN '' ELSE tenant || '/' || project END",
    **{word: f'"{word}"' for word in "key model channel system api".split()},
    "status": "CAST(status AS VARCHAR)",
    **{word: f'"{word}"' for word in "end error endpoint node rule policy".split()},
}
"""What a report may be by, and only this: name → SQL."""
ORDERS: Final = ("tokens", "tokens_in", "tokens_out", "requests", "errors", "amount", "engine_cost")
Bucket = Literal["", "hour", "day", "month"]
BUCKETS_MOST: Final = 10_000
CELLS_MOST: Final = 300_000
"""Groups times buckets of one answer."""
TOP_MOST: Final = 10_000
VALUES_MOST: Final = 1000
LATEST: Final = 253_402_300_799
HOUR: Final = 3_600_000_000
"""Microseconds."""
EPOCH: Final = date(1970, 1, 1).toordinal()
_STEP: Final = {"hour": timedelta(minutes=15), "day": timedelta(hours=6), "month": timedelta(days=1)}


class BadQuestion(ValueError):
    """It cannot be answered as it was asked. Its text is the sentence that the operator reads."""


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """where: of each dimension the values that count, `*` stands for anything; a status may be `5xx`. top: groups, the rest is one; 0:
    all.
    before: whether to compare with the period before. trend: how many equal parts of the period each group shows."""

    since: float
    until: float
    by: tuple[str, ...] = ()
    zone: str = "UTC"
    bucket: Bucket = ""
    where: dict[str, tuple[str, ...]] = {}
    top: int = 10
    order: str = "tokens"
    before: bool = False
    trend: int = 0
    latency: bool = True

    def check(self) -> None:
        """Raises BadQuestion."""
        if not (0 <= self.since <= LATEST and 0 <= self.until <= LATEST):
            raise BadQuestion("since and until are times in seconds since 1970")
        if self.since > self.until:
            raise BadQuestion("since is after until")
        unknown = [word for word in (*self.by, *self.where) if word not in DIMENSIONS]
        if unknown:
            raise BadQuestion(f"a report is by {', '.join(DIMENSIONS)}, not by {unknown[0]!r}")
        if len(self.by) > 2 or len(set(self.by)) != len(self.by):
            raise BadQuestion("a report is by one thing, or by two that differ")
        if self.order not in ORDERS:
            raise BadQuestion(f"a report is in the order of {', '.join(ORDERS)}, not of {self.order!r}")
        if not 0 <= self.top <= TOP_MOST or not 0 <= self.trend <= 200:
            raise BadQuestion(f"top is a number from 0 (all) to {TOP_MOST}, trend one from 0 to 200")
        if sum(map(len, self.where.values())) > VALUES_MOST:
            raise BadQuestion(f"a report looks for {VALUES_MOST} values at most")
        self.tz  # noqa: B018 - raises when there is no such zone
        if self.bucket and (self.until - self.since) / 3600 / {"hour": 1, "day": 24, "month": 24 * 28}[self.bucket] > BUCKETS_MOST:
            raise BadQuestion(f"that is more than {BUCKETS_MOST} buckets: choose a larger bucket, or a shorter time")

    @property
    def tz(self) -> tzinfo:
        try:
            return zone_of(self.zone)
        except ValueError as error:
            raise BadQuestion(f"{self.zone!r} is no time zone: write one such as Europe/Berlin, or UTC") from error


def period_before(since: float, until: float, zone: tzinfo) -> float:
    """When the period before began: as many months, when these are whole months of the zone; as many days; or as many seconds."""
    first, last = _wall(since, zone), _wall(until, zone)
    if _is_midnight(first) and _is_midnight(last):
        if first.day == last.day == 1:
            months = (last.year - first.year) * 12 + last.month - first.month
            number = first.year * 12 + first.month - 1 - months
            return max(0.0, datetime(number // 12, number % 12 + 1, 1, tzinfo=zone).timestamp())
        return max(0.0, (first - (last - first)).replace(tzinfo=zone).timestamp())
    return max(0.0, since - (until - since))


def _wall(ts: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(ts, zone).replace(tzinfo=None)


def _is_midnight(wall: datetime) -> bool:
    return wall.hour == wall.minute == wall.second == wall.microsecond == 0


def offsets(since: float, until: float, zone: tzinfo) -> list[tuple[float, int]]:
    """How many seconds the zone is ahead of UTC: [(from, seconds)], the first from the beginning of the time."""
    found = [(since, _offset(since, zone))]
    moments = [since + 86_400 * day for day in range(int((until - since) // 86_400) + 1)] + [until]
    for early, late in pairwise(moments):
        if _offset(late, zone) != found[-1][1]:
            low, high = int(early // 60), int(late // 60) + 1
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(middle * 60, zone) == found[-1][1] else (low, middle)
            found.append((high * 60.0, _offset(high * 60, zone)))
    return found


def _offset(ts: float, zone: tzinfo) -> int:
    delta = datetime.fromtimestamp(ts, zone).utcoffset()
    return int(delta.total_seconds()) if delta else 0


class Slot(Struct, frozen=True):
    """A bucket. key: as SQL says it (`bucket_sql`): of an hour its begin in microseconds, of a day its number since 1970, of a month 12
    times the year and the month. begin: Unix seconds. label: by the clock on the wall."""

    key: int
    begin: float
    label: str


def slots(question: Question) -> list[Slot]:
    """All buckets of the time, the first and the last perhaps cut."""
    if not question.bucket or question.since == question.until:
        return []
    zone, found = question.tz, dict[int, Slot]()
    for moment in _moments(question):
        slot = _slot(moment, question.bucket, zone)
        found.setdefault(slot.key, slot)
    return list(found.values())


def _moments(question: Question) -> Iterator[float]:
    step, moment = _STEP[question.bucket].total_seconds(), question.since
    while moment < question.until:
        yield moment
        moment += step
    yield max(question.since, question.until - 0.001)


def _slot(ts: float, bucket: Bucket, zone: tzinfo) -> Slot:
    local = datetime.fromtimestamp(ts, zone)
    if bucket == "hour":
        at = local.replace(minute=0, second=0, microsecond=0)
        return Slot(micros(at.timestamp()), at.timestamp(), at.isoformat(" ", "minutes"))
    at = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0, day=1 if bucket == "month" else local.day)
    if bucket == "month":
        return Slot(at.year * 12 + at.month, at.timestamp(), f"{at:%Y-%m}")
    return Slot(at.toordinal() - EPOCH, at.timestamp(), f"{at:%Y-%m-%d}")


def bucket_sql(question: Question) -> tuple[str, str]:
    """A row's bucket as SQL, and its label. Whole numbers: intervals and date_trunc take four times as long."""
    steps = offsets(question.since, question.until, question.tz)
    ahead = _by_time(steps, lambda seconds: str(seconds * 1_000_000))
    local = f"(epoch_us(ts) + {ahead})"
    if question.bucket == "hour":
        text = _by_time(steps, lambda seconds: f"'{_zone_text(seconds)}'")
        begins = f"{local} // {HOUR} * {HOUR}"
        return f"{begins} - {ahead}", f"strftime(make_timestamp({begins}), '%Y-%m-%d %H:%M') || {text}"
    if question.bucket == "month":
        return f"year(make_timestamp({local})) * 12 + month(make_timestamp({local}))", f"strftime(make_timestamp({local}), '%Y-%m')"
    return f"{local} // {24 * HOUR}", f"strftime(make_timestamp({local}), '%Y-%m-%d')"


def hour_of_week_sql(question: Question) -> str:
    """A row's hour of the week in the zone, as SQL: 0 = Monday, from 0 to 1 o'clock."""
    ahead = _by_time(offsets(question.since, question.until, question.tz), lambda seconds: str(seconds * 1_000_000))
    return f"((epoch_us(ts) + {ahead}) // {HOUR} + 72) % 168"  # 1970 began on a Thursday


def _by_time(steps: list[tuple[float, int]], said: Any) -> str:
    """CASE by time; the last step without a condition."""
    if len(steps) == 1:
        return str(said(steps[0][1]))
    tests = " ".join(
        f"WHEN ts < make_timestamp({round(until * 1_000_000)}) THEN {said(seconds)}" for (_, seconds), (until, _) in pairwise(steps)
    )
    return f"CASE {tests} ELSE {said(steps[-1][1])} END"


def _zone_text(seconds: int) -> str:
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def where_sql(question: Question, since: float) -> tuple[str, list[Any]]:
    """The rows that are looked at. since: the period before may be wanted too."""
    tests, params = ["ts >= make_timestamp(?) AND ts < make_timestamp(?)"], [micros(since), micros(question.until)]
    for word, values in question.where.items():
        either = [_test(word, value, params) for value in values]
        tests.append(f"({' OR '.join(either) or 'false'})")
    return " AND ".join(tests), params


def _test(word: str, value: str, params: list[Any]) -> str:
    column = DIMENSIONS[word]
    if word == "status" and len(value) == 3 and value[0].isdigit() and value[1:].lower() == "xx":
        return f"status BETWEEN {value[0]}00 AND {value[0]}99"
    if word == "project" and value and "/" not in value:
        column = "project"
    if "*" not in value:
        params.append(value)
        return f"{column} = ?"
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    params.append(escaped)
    return f"{column} LIKE ? ESCAPE '\\'"


def micros(ts: float) -> int:
    return round(ts * 1_000_000)
