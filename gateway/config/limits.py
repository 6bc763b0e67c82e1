"""The part of the configuration that says how much may be used: `limits` (of everybody, tenants, projects, keys, models), `referee`."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, PlainValidator

from gateway.config.fields import CURRENCY, Flag, Glob, Name, Word, quoted, wrong
from gateway.config.part import Part, field
from gateway.config.scalars import Expanded, plain

COUNTS: Final = ("requests", "input_tokens", "output_tokens", "total_tokens", "concurrency", "money")
LARGEST: Final = 10**15
_MONEY_LARGEST: Final = 10**9
_DIGITS: Final = 6


def _amount(value: Any) -> Decimal:
    value = plain(value) if isinstance(value, Expanded) else value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong("this is not an amount", 'write a number like 600, or "12.50" of money')
    try:
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise wrong(f"{quoted(value)} is not an amount", 'write a number like 600, or "12.50" of money') from None
    if not amount.is_finite() or amount < 0 or amount > LARGEST:
        raise wrong(f"{quoted(value)} is not an amount", f"a number from 0 (nothing at all) to {LARGEST}")
    return amount


def millionths(amount: Decimal) -> int:
    """Of money. Raises ValueError when it is too large, or finer than that."""
    if amount > _MONEY_LARGEST:
        raise ValueError(f"is more than {_MONEY_LARGEST}")
    scaled = amount.scaleb(_DIGITS)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"has more than {_DIGITS} digits after its point")
    return int(scaled)


Amount = Annotated[Decimal, PlainValidator(_amount, json_schema_input_type=int | float | str)]
Per = Annotated[Literal["second", "minute", "hour", "day", "month"], Word]


class Limit(Part):
    """How much may be used. All limits that match a request apply."""

    name: Name | None = field("Its name in answers and commands. Two of one place that count the same need one.", "night", None)
    count: Literal["requests", "input_tokens", "output_tokens", "total_tokens", "concurrency", "money"] = field(
        "What is counted. `concurrency`: requests in flight.", "requests"
    )
    max: Amount = field("The most that may be used. 0 = nothing: a closed door.", 600)
    per: Per | None = field(
        "In which time. `second`, `minute`, `hour`: in any stretch of that length. `day`, `month`: by the calendar. "
        "Not written for `concurrency`.",
        "minute",
        None,
    )
    zone: str | None = field("Whose calendar, for `day` and `month`. Default: `UTC`.", "Asia/Shanghai", None)
    during: str | None = field("It applies only while this schedule is open.", "office", None)
    outside: str | None = field("It applies only while this schedule is closed.", "office", None)
    each: Literal["key", "address", "model"] | None = field(
        "One counter for each key, address or virtual model, instead of one for all.", "address", None
    )
    models: list[Glob] = field(
        "Only requests for these virtual models, by their own names; `*` stands for anything. Default: all.", ["qwen*"], []
    )
    shadow: Flag = field("It refuses nothing, and counts what it would have refused.", True, False)
    currency: str | None = field("Of `money`. Default: `currencies.base`.", "CNY", None, pattern=CURRENCY)


def _nothing(value: Any) -> Any:
    return [] if value is None else value


LimitList = Annotated[list[Limit], BeforeValidator(_nothing, json_schema_input_type=list[Limit] | None)]


def limits_field(whose: str) -> Any:
    """The field of a part that has limits."""
    return field(f"How much {whose} may use.", [{"count": "requests", "max": 600, "per": "minute"}], [])


class Referee(Part):
    """Who counts."""

    url: Literal["local"] = field("`local`: the control process of this gateway.", "local", "local")
    on_loss: Literal["local", "refuse"] = field(
        "While workers cannot reach who counts. `local`: each goes on with its share of every limit. `refuse`: what is limited "
        "is refused with 503.",
        "refuse",
        "local",
    )
