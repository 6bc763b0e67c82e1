"""Conditions of rules and schedules in the compact form that workers take. No pydantic, no YAML, no I/O here.

Of a tuple any item will do; of several fields that are set all have to hold. None or empty = not asked for.
"""

from msgspec import Struct

Scalar = bool | int | float | str


class Range(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Numbers above `over`, and up to `up_to` with that one included."""

    over: int | float | None = None
    up_to: int | float | None = None


class HeaderTest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a header has to be. Exactly one is set. match: a pattern of re2, anywhere in the value."""

    equals: str | None = None
    prefix: str | None = None
    match: str | None = None
    present: bool | None = None


class Content(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A test of the prompt's text (words, match, place) or, with a path, of a value in the request's JSON.

    place: `last_user`, `system`, `any` or `tools`. path: names and indexes, from the outside in.
    """

    words: tuple[str, ...] = ()
    ignore_case: bool = True
    match: str | None = None
    place: str = "last_user"
    path: tuple[str, ...] = ()
    equals: tuple[Scalar, ...] = ()
    range: Range | None = None
    present: bool | None = None


class Has(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Features of a request. any: one of these. each: every one of these has to be there, or not to be there."""

    any: tuple[str, ...] = ()
    each: dict[str, bool] = {}


class Share(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Percent of the requests, 0 < percent ≤ 100. by: `key`, `tenant`, `project` or `header` (then `header` names it); None = by chance."""

    percent: float
    by: str | None = None
    header: str | None = None


class Load(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures of a channel. figures: by `running`, `waiting`, `queue` or `kv_use`; all have to hold."""

    channel: str
    figures: dict[str, Range]


class When(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conditions of one rule. headers: by lower-case name. tenant, project, key: names, in which `*` stands for anything."""

    prompt_tokens: Range | None = None
    max_tokens: Range | None = None
    headers: dict[str, tuple[HeaderTest, ...]] = {}
    content: tuple[Content, ...] = ()
    api: tuple[str, ...] = ()
    has: Has | None = None
    tenant: tuple[str, ...] = ()
    project: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    during: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    share: Share | None = None
    load: tuple[Load, ...] = ()


class Hours(Struct, frozen=True, array_like=True):
    """Hours on some days, in minutes of local time after the midnight that begins the day; `end` may lie beyond 1440, in the next day.

    days: bit 0 = Monday … bit 6 = Sunday, when `first` is 0. Otherwise the dates `first` to `last`, as proleptic ordinals.
    """

    begin: int
    end: int
    days: int = 0
    first: int = 0
    last: int = 0


class Schedule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When something is open. zone: a name of the time zone database, `UTC` or `+08:00`. holidays: first and last ordinal of each."""

    zone: str = "UTC"
    hours: tuple[Hours, ...] = ()
    holidays: tuple[tuple[int, int], ...] = ()
