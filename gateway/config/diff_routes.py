"""Rules, targets and schedules in the words of the YAML: what `diff` compares in place of the forms that workers take."""

from datetime import date
from typing import Any

from gateway.config.hours import DAY, DAYS
from gateway.config.redact import looks_secret
from gateway.config.resolved import Rule, Target
from gateway.config.resolved_when import Hours, Schedule, When
from gateway.config.written import written


def spoken(value: Any) -> Any:
    """A part as it would be written; any other value as it is."""
    if isinstance(value, When):
        return {"headers": {}, **written(value)}  # always there, so that they are compared one by one, and some told without their values
    if isinstance(value, Rule):
        return {"when": value.when, "to": value.target if value.target is not None else f"model {value.model}"}
    if isinstance(value, Schedule):
        holidays = tuple(dates_text(first, last) for first, last in value.holidays)
        return {"zone": value.zone, "when": tuple(map(hours_text, value.hours)), "holidays": holidays}
    return value


def hours_text(hours: Hours) -> str:
    """`Mon-Fri 09:00-18:00`, `2027-02-14`."""
    days = dates_text(hours.first, hours.last) if hours.first else _days_text(hours.days)
    times = "" if (hours.begin, hours.end) == (0, DAY) else f"{_clock(hours.begin)}-{_clock(hours.end)}"
    return " ".join(filter(None, (days, times))) or "00:00-24:00"


def dates_text(first: int, last: int) -> str:
    """`2027-02-06..2027-02-12`; the first and the last as ordinals."""
    days = [date.fromordinal(day).isoformat() for day in dict.fromkeys((first, last))]
    return "..".join(days)


def _days_text(mask: int) -> str:
    """`Mon-Fri`, `Sat,Sun`; every day is not said."""
    found = [day for day in range(7) if mask >> day & 1]
    if len(found) == 7:
        return ""
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"{DAYS[found[0]]}-{DAYS[found[-1]]}"
    return ",".join(DAYS[day] for day in found)


def _clock(minute: int) -> str:
    minute = minute if minute <= DAY else minute - DAY
    return f"{minute // 60:02}:{minute % 60:02}"


def target_text(target: Target) -> str:
    """`gpu (weight 3)`, `least-busy(gpu, cpu) (weight 1)`."""
    return f"{_inner(target)} (weight {target.weight})"


def _inner(target: Target) -> str:
    if not target.targets or (target.policy == "proportional" and len(target.targets) == 1):
        return _inner(target.targets[0]) if target.targets else target.channel
    return f"{target.policy}({', '.join(map(_inner, target.targets))})"


def tidy(value: Any) -> Any:
    """Numbers as they are written: 5 for 5.0."""
    if isinstance(value, dict):
        return {name: tidy(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_secret_test(path: str) -> bool:
    """Whether it is a condition on a header whose values nobody may see."""
    name = path.partition(".when.headers.")[2]
    return looks_secret(name)
