"""What all conditions have in common: what they answer, and how they say it. They look at one request and do nothing."""

from typing import Final, Protocol

from gateway.config.resolved_when import Range
from gateway.route.ask import Ask

_SHOWN_MOST: Final = 60


class Condition(Protocol):
    """One word of a rule's `when`. word: as it is written there."""

    @property
    def word(self) -> str: ...

    def holds(self, ask: Ask) -> bool | None:
        """Whether it holds. None = not to be known before the prompt is counted; only `prompt_tokens` says so."""

    def told(self, ask: Ask) -> str:
        """Why it holds or not, in a few words, for people. Never text of the prompt."""


def shown(value: str) -> str:
    """A value that a caller sent, as it may be shown: short, in one line, in quotes."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in value[:_SHOWN_MOST])
    return f'"{plain}…"' if len(value) > _SHOWN_MOST else f'"{plain}"'


def either(values: tuple[str, ...]) -> str:
    """`a`, `a or b`, `a, b or c`; of many the first few."""
    if len(values) > 5:
        return ", ".join(values[:4]) + f" or one of {len(values) - 4} more"
    return " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def within(number: float, wanted: Range) -> bool:
    """Whether a number is above `over` and not above `up_to`."""
    return (wanted.over is None or number > wanted.over) and (wanted.up_to is None or number <= wanted.up_to)


def compared(number: float, wanted: Range) -> str:
    """`812, not over 30000`: a number and what decides about it."""
    over = "" if wanted.over is None else f"over {wanted.over:.15g}"
    up_to = "" if wanted.up_to is None else f"over {wanted.up_to:.15g}"
    if wanted.over is not None and number <= wanted.over:
        why = f"not {over}"
    elif wanted.up_to is not None and number > wanted.up_to:
        why = up_to
    else:
        why = " and ".join(filter(None, (over, up_to and f"not {up_to}")))
    return f"{number:.15g}, {why}"
