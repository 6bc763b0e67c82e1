"""What a caller is told of limits: the refusal in words, and the `x-ratelimit-*` lines of every answer. Pure."""

from functools import lru_cache
from typing import Final

from gateway.errors import Refusal
from gateway.referee.gauges import NEVER
from gateway.referee.rules import Amounts, Rule
from gateway.words import End

PATIENCE_MOST: Final = 60.0
"""Seconds beyond which a caller is told not to wait: OpenAI's clients do not heed a longer Retry-After, they would come back at once."""
MONEY: Final = 1_000_000
UNHEARD: Final = "The gateway cannot count its limits at the moment and refuses rather than serve beyond them, please try again later"


def refusal(rule: Rule, most: int, wanted: Amounts, after: float, used: int) -> Refusal:
    """most: what the limit allows here. wanted: what the request may use. after: seconds, or NEVER. used: of the limit, now."""
    limit = rule.limit
    what = _amount(limit.count, most, limit.currency)
    said = f"{what}{f' per {limit.per}' if limit.per else ' at the same time' if limit.count == 'concurrency' else ''}{_each(rule)}"
    named = f" (limit `{limit.name}`)" if limit.name else ""
    headers: dict[str, str] = {}
    wait: float | None = after
    if after == NEVER:
        wait = None
        headers["x-should-retry"] = "false"
        amount = _amount(limit.count, rule.of(wanted), limit.currency)
        message = f"The limit of {_whose(rule)}{named} is {said}, and this request may use {amount}: it can never be served."
        if limit.count in ("output_tokens", "total_tokens", "money") and most:
            message += " Ask for a shorter answer (`max_tokens`)."
    else:
        message = f"The limit of {_whose(rule)}{named} is reached: {said}, of which {_number(limit.count, used)} are used."
        if wait is not None and wait > PATIENCE_MOST:
            headers["x-should-retry"] = "false"
        message += f" Please try again in {duration(after)}."
    if rule.soon:
        return Refusal(429, "rate_limit_exceeded", message, retry_after=wait, phase=End.LIMIT, log=_word(rule), headers=headers)
    return Refusal(429, "insufficient_quota", message, retry_after=wait, phase=End.LIMIT, log=_word(rule), headers=headers)


def unheard() -> Refusal:
    """`referee.on_loss: refuse`, and control is away."""
    return Refusal(503, "limits_unavailable", UNHEARD, retry_after=1.0, phase=End.LIMIT)


def _word(rule: Rule) -> str:
    """For our own records: `limit_tenant_requests`."""
    return f"limit_{rule.scope}_{rule.limit.word}"


def _whose(rule: Rule) -> str:
    parts = rule.place.split("/", 1)
    match rule.scope:
        case "global":
            return "this gateway"
        case "model":
            return f"the model `{parts[1]}`"
        case "key":
            return "your API key"
        case scope:
            return f"your {scope} `{parts[1].rsplit('/', 1)[-1]}`"


def _each(rule: Rule) -> str:
    return {"": "", "key": " for each key", "address": " for each address", "model": " for each model"}[rule.each]


def _number(count: str, amount: int) -> str:
    return money(amount) if count == "money" else str(amount)


def _amount(count: str, amount: int, currency: str) -> str:
    if count == "money":
        return f"{money(amount)} {currency}"
    words = "requests" if count == "concurrency" else count.replace("_", " ")
    return f"{amount} {words if amount != 1 else words.removesuffix('s')}"


def money(millionths: int) -> str:
    """`12.5`, exactly."""
    sign = "-" if millionths < 0 else ""
    whole, rest = divmod(abs(millionths), MONEY)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


def duration(seconds: float) -> str:
    """As OpenAI writes it: `12ms`, `1s`, `6m0s`, `1h2m3s`; rounded up, so that nobody comes too soon."""
    millis = -int(-max(0.0, seconds) * 1000 // 1)
    return f"{millis}ms" if millis < 1000 else _duration(-(-millis // 1000))


@lru_cache(maxsize=4096)
def _duration(whole: int) -> str:
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s" if minutes else f"{left}s"


def lines(
    requests: int, requests_left: int | str, requests_reset: float, tokens: int, tokens_left: int | str, tokens_reset: float
) -> bytes:
    """Complete header lines of `quotas.Figures`; those of what is not limited are left out. What is left may also be a `%d`."""
    text = ""
    if requests >= 0:
        text = (
            f"x-ratelimit-limit-requests: {requests}\r\nx-ratelimit-remaining-requests: {requests_left}\r\n"
            f"x-ratelimit-reset-requests: {duration(requests_reset)}\r\n"
        )
    if tokens >= 0:
        text += (
            f"x-ratelimit-limit-tokens: {tokens}\r\nx-ratelimit-remaining-tokens: {tokens_left}\r\n"
            f"x-ratelimit-reset-tokens: {duration(tokens_reset)}\r\n"
        )
    return text.encode()
