"""A rule's conditions, compiled: cheap ones first, so that dear ones are asked only when they decide."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from gateway.config.resolved_when import When
from gateway.route.ask import Ask
from gateway.route.conditions.condition import Condition
from gateway.route.conditions.consumer import Consumer
from gateway.route.conditions.content import content
from gateway.route.conditions.headers import tests
from gateway.route.conditions.hours import Open
from gateway.route.conditions.kind import Api, Features
from gateway.route.conditions.length import Bounds, MaxTokens, PromptTokens
from gateway.route.conditions.load import Busy, FiguresOf
from gateway.route.conditions.share import Share
from gateway.route.conditions.together import Together
from gateway.route.schedule import Schedule


def compile_when(
    when: When, *, schedules: Mapping[str, Schedule], figures: FiguresOf, bounds: Bounds, salt: str = "", together: Together | None = None
) -> list[Condition]:
    """The conditions of one rule, cheap to dear. None = it always holds.

    schedules: by name, compiled. figures: how busy a channel is. bounds: least and most tokens of a prompt, asked by every
    rule about length, so that it should remember its last answer. salt: what this rule's shares are drawn by; rules with the same salt
    pick the same requests, so it is the model's and the rule's name. together: the searches of all rules of the model. Raises KeyError
    for an unknown schedule, ValueError for a bad pattern.
    """
    return list(_conditions(when, schedules, figures, bounds, salt, together or Together()))


def _conditions(
    when: When, schedules: Mapping[str, Schedule], figures: FiguresOf, bounds: Bounds, salt: str, together: Together
) -> Iterator[Condition]:
    """In the order in which they are asked."""
    if when.api:
        yield Api(when.api)
    for word, names in (("tenant", when.tenant), ("project", when.project), ("key", when.key)):
        if names:
            yield Consumer(word, names)
    if when.max_tokens is not None:
        yield MaxTokens(when.max_tokens)
    for name, wanted in when.headers.items():
        yield tests(name, wanted, together)
    if when.share is not None:
        yield Share(when.share, salt)
    for word, names in (("during", when.during), ("outside", when.outside)):
        if names:
            yield Open(word, {name: schedules[name] for name in names})
    if when.load:
        yield Busy(when.load, figures)
    if when.prompt_tokens is not None:
        yield PromptTokens(when.prompt_tokens, bounds)
    if when.has is not None:
        yield Features(when.has)
    if when.content:
        yield content(when.content, together)


def matches(conditions: Sequence[Condition], ask: Ask) -> bool | None:
    """Whether all conditions hold. False as soon as one does not, even when another needs the prompt counted (None)."""
    found: bool | None = True
    for condition in conditions:
        holds = condition.holds(ask)
        if not holds:
            if holds is not None:
                return False
            found = None
    return found


def matcher(conditions: Sequence[Condition]) -> Callable[[Ask], bool | None]:
    """`matches` for these conditions as one call: for most rules, which have one, it is that condition's own."""
    if len(conditions) == 1:
        return conditions[0].holds
    kept = tuple(conditions)
    return lambda ask: matches(kept, ask)
