"""The part of the configuration that says what things cost: `prices`, `currencies`, `discount`, `cost`, `budget`. Decimal, never float."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, create_model

from gateway.config.access import Instant
from gateway.config.fields import CURRENCY, Empty, Glob, Whole, Word, quoted, wrong
from gateway.config.part import Part, field
from gateway.config.scalars import Expanded, decimal_text, plain

LARGEST: Final = 10**9
LONGEST: Final = 10**9
"""Tokens from which on the last tier may count."""
DIGITS: Final = 9
"""Digits after the point of an amount: prices are counted in whole thousand-millionths of their currency."""
_BARE: Final = 1_000_000
"""From here on a bare number does not keep nine digits after its point."""
CHARGES: Final = ("input", "cached", "output", "reasoning")
"""What a price may say of tokens; a tier too."""


def number(value: Any, what: str, hint: str, *, digits: int, most: int) -> Decimal:
    """A decimal from 0 to `most` with at most so many digits after the point, exactly as written. Raises what pydantic shows."""
    value = plain(value) if isinstance(value, Expanded) else value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong(f"this is not {what}", hint)
    if isinstance(value, float) and abs(value) >= _BARE and not value.is_integer():
        raise wrong(f"{quoted(value)} may have more digits than a bare number keeps", "write it in quotes")
    try:
        found = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise wrong(f"{quoted(value)} is not {what}", hint) from None
    if not found.is_finite() or found > most:
        raise wrong(f"{quoted(value)} is not {what}", f"a number from 0 to {most}")
    if found < 0:
        raise wrong(f"{quoted(value)} is below zero", f"a number from 0 (free) to {most}")
    if found != round(found, digits):
        said = f"{quoted(value)} has more than {digits} digits after its point"
        raise wrong(said, "round it, or write the price of more tokens (per: 1M)")
    return found


def _amount(value: Any) -> Decimal:
    return number(value, "an amount of money", 'write a number in quotes: "0.5"', digits=DIGITS, most=LARGEST)


def _whole_amount(value: Any) -> Decimal:
    found = number(value, "an amount of money", 'write a number in quotes: "50000"', digits=6, most=LARGEST)
    if not found:
        raise wrong("a budget of nothing", "to close a door write limits: [{count: requests, max: 0, per: day}]")
    return found


def _rate(value: Any) -> Decimal:
    found = number(value, "a rate", 'what one of it is worth in the base currency: "7.1"', digits=DIGITS, most=LARGEST)
    if not found:
        raise wrong("a rate of nothing", "what one of it is worth in the base currency")
    return found


def _percent(value: Any) -> Decimal:
    hint = "write 10% or 10; from 0 to 100"
    text = value.strip().removesuffix("%").rstrip() if isinstance(value, str) and value.strip().endswith("%") else value
    return number(text, "a share in percent", hint, digits=4, most=100)


def nanos(amount: Decimal) -> int:
    """In whole thousand-millionths."""
    return int(amount.scaleb(DIGITS))


def _nothing(value: Any) -> Any:
    return [] if value is None else value


_Written = int | float | str
_Shown = PlainSerializer(decimal_text, return_type=str, when_used="json")
Money = Annotated[Decimal, PlainValidator(_amount, json_schema_input_type=_Written), _Shown]
WholeMoney = Annotated[Decimal, PlainValidator(_whole_amount, json_schema_input_type=_Written), _Shown]
Rate = Annotated[Decimal, PlainValidator(_rate, json_schema_input_type=_Written), _Shown]
Percent = Annotated[Decimal, PlainValidator(_percent, json_schema_input_type=_Written), _Shown]
Code = Annotated[str, Field(pattern=CURRENCY)]


def currency_field(otherwise: str = "`currencies.base`") -> Any:
    return field(f"Its currency. Default: {otherwise}.", "CNY", None)


class Tier(Part):
    """Prices of requests with long prompts. What it does not say is as in the price around it."""

    over: Whole = field("It counts for the whole request when its prompt has more tokens than this.", 128000, ge=1, le=LONGEST)
    input: Money | None = field("Of prompt tokens.", "4", None)
    cached: Money | None = field("Of prompt tokens that the engine had in its cache.", "1", None)
    output: Money | None = field("Of answer tokens.", "16", None)
    reasoning: Money | None = field("Of reasoning tokens.", "16", None)


if TYPE_CHECKING:
    _From = Part
else:  # `from` is a word of Python, so that no class can name a field so
    _From = create_model(
        "_From",
        __base__=Part,
        **{
            "from": (
                Instant | None,
                field("From when it counts. A date alone is its beginning in UTC. Default: always.", "2027-01-01", None),
            )
        },
    )


class Price(_From):
    """What a model costs callers, or a channel us."""

    model: Glob | None = field("The virtual model whose callers pay this, by its own name; `*` stands for anything.", "qwen", None)
    channel: Glob | None = field("The channel that costs this. Callers pay it too, where no price of their model counts.", "gpu", None)
    per: Annotated[Literal["1M", "1K"], Word] = field("How many tokens the prices of tokens are for.", "1K", "1M")
    currency: Code | None = currency_field()
    input: Money | None = field("Of prompt tokens. 0 = free.", "2", None)
    cached: Money | None = field("Of prompt tokens that the engine had in its cache. Default: as `input`.", "0.5", None)
    output: Money | None = field("Of answer tokens.", "8", None)
    reasoning: Money | None = field("Of reasoning tokens, which are part of the answer's. Default: as `output`.", "8", None)
    request: Money | None = field("Of each request that was answered.", "0.01", None)
    second: Money | None = field("Of each second from the request's last byte to the answer's, waiting in a queue left out.", "0.002", None)
    tiers: list[Tier] = field("Other prices of tokens for long prompts, the shortest first.", [{"over": 128000, "input": "4"}], [])
    during: str | None = field("It counts only while this schedule is open, and then before the others.", "night", None)
    outside: str | None = field("It counts only while this schedule is closed, and then before the others.", "office", None)

    @property
    def begins(self) -> str | None:
        """`from`, which is a word of Python."""
        found: str | None = getattr(self, "from")
        return found


PriceList = Annotated[list[Price], BeforeValidator(_nothing, json_schema_input_type=list[Price] | None)]


class Currencies(Part):
    """What currencies are worth, for reports and budgets across them."""

    base: Code = field("The currency of reports.", "CNY")
    rates: Annotated[dict[Code, Rate], Empty] = field("What one of each other currency is worth in the base currency.", {"USD": "7.1"}, {})


class Cost(Part):
    """What own hardware costs, used or not."""

    per_hour: Money = field("Of the whole channel, for every hour.", "12.50")
    currency: Code | None = currency_field()


class Budget(Part):
    """Money that may be spent in a day or a month of the calendar."""

    amount: WholeMoney = field("All of it, 100 percent.", "50000")
    currency: Code | None = currency_field()
    per: Annotated[Literal["month", "day"], Word] = field("For which time.", "day", "month")
    zone: str | None = field("Whose calendar. Default: `UTC`.", "Asia/Shanghai", None)
    warn: list[Annotated[Whole, Field(ge=1, le=1000)]] = field("Percent at which alerts tell of it, rising.", [80, 95], [])
    stop: Whole | None = field("Percent at which requests are refused with 429. Default: never.", 100, None, ge=1, le=1000)


def budget_field(whose: str) -> Any:
    return field(f"Money that {whose} may spend.", {"amount": "50000", "currency": "CNY", "warn": [80], "stop": 100}, None)


def discount_field() -> Any:
    return field("Percent that the tenant pays less than the prices say.", "10%", None)
