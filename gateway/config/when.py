"""The language of conditions: what a rule's `when` and a schedule may say. Of a list any item will do; of words all have to hold."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, PlainValidator, TypeAdapter, WrapValidator, create_model
from pydantic_core import core_schema

from gateway.config.fields import Flag, quoted, wrong
from gateway.config.hours import dates_of, hours_of
from gateway.config.part import Part, field
from gateway.config.regex import PATTERN_MOST, compiled
from gateway.config.scalars import Expanded, plain

PATH_DEEPEST: Final = 16
_WORD_MOST: Final = 256
_LARGEST: Final = 2**63
SOME: Final = Field(min_length=1)
_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_names = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]{0,63}\Z")


class OneOrMore:
    """Marks a list that may be written as its only item. Places of mistakes are those of what is written."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        many, (item,) = handler(source), get_args(source)
        alone: TypeAdapter[Any] = TypeAdapter(item)

        def read(value: Any, read_list: Any) -> Any:
            return read_list(value) if isinstance(value, list) else [alone.validate_python(value, strict=True)]

        written = core_schema.union_schema([handler.generate_schema(item), many])
        return core_schema.no_info_wrap_validator_function(read, many, json_schema_input_schema=written)


def _told(error: ValueError, value: str) -> Exception:
    message, _, hint = str(error).partition("; ")
    return wrong(f"{quoted(value)} {message}", hint or None)


def _number(value: Any) -> int | float:
    value = plain(value) if isinstance(value, Expanded) else value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
        return value
    raise wrong("this is not a number")


def _percent(value: float) -> float:
    if not 0 < value <= 100:
        raise wrong(f"{value:g} is not a share", "more than 0 and at most 100 percent; leave the rule out for none")
    return value


def _scalar(value: Any) -> Any:
    if isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) < _LARGEST):
        return value
    raise wrong("this is neither text, nor a number, nor true or false", "null and what is not there are alike: `present: false`")


def _pattern(value: str) -> str:
    try:
        compiled(value)
    except ValueError as error:
        raise wrong(f"re2 refuses this pattern: {error}", "the syntax is RE2's: no look-around, no back-references") from None
    return value


def _header(value: str) -> str:
    if not _token.match(value):
        raise wrong(f"{quoted(value)} cannot be a header's name")
    return value


def _glob(value: str) -> str:
    if not _names.match(value):
        raise wrong(f"{quoted(value)} is not a name", "ASCII letters, digits and . _ -, at most 64, with * for anything")
    return value


def path_of(text: str) -> tuple[str, ...]:
    """`metadata.kind`, `messages[0].role` or `messages.0.role` as steps. Raises ValueError."""
    steps = re.sub(r"\[([0-9]+)\]", r".\1", text).split(".")
    if not all(steps) or re.search(r"[]\[*$\"'\s]", "".join(steps)) or any(step.isdigit() and not step.isascii() for step in steps):
        raise ValueError("is not a path; names with dots in between, like metadata.kind or messages[0].role")
    if len(steps) > PATH_DEEPEST:
        raise ValueError(f"is deeper than {PATH_DEEPEST} steps")
    return tuple(steps)


def _path(value: str) -> str:
    try:
        path_of(value)
    except ValueError as error:
        raise _told(error, value) from None
    return value


def _hours(value: str) -> str:
    try:
        hours_of(value)
    except ValueError as error:
        raise _told(error, value) from None
    return value


def _dates(value: str) -> str:
    try:
        dates_of(value)
    except ValueError as error:
        raise _told(error, value) from None
    return value


Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[float, Field(ge=0), BeforeValidator(_number)]
OfOne = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000), BeforeValidator(_number)]
SomeTokens = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(_number)]
Percent = Annotated[float, AfterValidator(_percent), BeforeValidator(_number)]
Scalar = Annotated[str | int | float | bool, PlainValidator(_scalar, json_schema_input_type=str | int | float | bool)]
Pattern = Annotated[str, Field(min_length=1, max_length=PATTERN_MOST), AfterValidator(_pattern)]
Header = Annotated[str, AfterValidator(_header)]
Glob = Annotated[str, AfterValidator(_glob)]
Globs = Annotated[list[Glob], SOME, OneOrMore()]
Names = Annotated[list[str], SOME, OneOrMore()]
Api = Literal["chat", "completions", "embeddings", "rerank", "score", "tokenize"]
Feature = Literal["tools", "images", "response_format", "stream"]


class TokenRange(Part):
    """A number of tokens."""

    over: Tokens | None = field("More than this.", 30000, None)
    up_to: SomeTokens | None = field("At most this.", 100000, None)


class Figure(Part):
    """A figure of an engine or a channel."""

    over: Count | None = field("More than this.", 5, None)
    up_to: Count | None = field("At most this.", 20, None)


class Fraction(Part):
    """A part of a whole, from 0 to 1."""

    over: OfOne | None = field("More than this.", 0.9, None)
    up_to: OfOne | None = field("At most this.", 0.5, None)


def _equals(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        raise wrong("this is not text", 'quote it: "…"')
    return {"equals": value} if isinstance(value, str) else value


class HeaderTest(Part):
    """What a header's value has to be, in one of these ways. A text alone stands for `{equals: …}`."""

    equals: str | None = field("Exactly this.", "prod", None)
    prefix: str | None = field("It begins with this.", "team-", None, min_length=1)
    match: Pattern | None = field("This pattern of RE2 matches somewhere in it; `^` and `$` hold it to the ends.", "^(prod|stage)$", None)
    present: Flag | None = field("Whether the header is there at all.", True, None)


HeaderTests = Annotated[list[Annotated[HeaderTest, BeforeValidator(_equals, json_schema_input_type=str | HeaderTest)]], SOME, OneOrMore()]

if TYPE_CHECKING:
    _Place = Part
else:  # `in` is a word of Python, so that no class can name a field so
    _Place = create_model(
        "_Place",
        __base__=Part,
        **{
            "in": (
                Literal["last_user", "system", "any", "tools"],
                field(
                    "Where `words` and `match` look: `last_user` (the last message of the user; without messages the whole prompt), "
                    "`system` (system and developer messages), `any` (every text of the prompt), `tools` (names of the offered tools).",
                    "any",
                    "last_user",
                ),
            )
        },
    )


class Content(_Place):
    """What a request says: its text (`words`, `match`, or both), or with `path` one value of its JSON."""

    words: Annotated[list[Annotated[str, Field(min_length=1, max_length=_WORD_MOST)]], SOME, OneOrMore()] = field(
        "One of these stands in the text, anywhere, also inside a longer word. Thousands are fine.", ["refund", "退款"], None
    )
    ignore_case: Flag = field("Whether upper and lower case are the same in `words`. In `match`, write `(?i)`.", False, True)
    match: Pattern | None = field("This pattern of RE2 matches somewhere in the text, or in the text at `path`.", "(?i)refund|退款", None)
    path: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_path)] | None = field(
        "A value of the request's JSON instead of the text: names with dots in between. Of a list at the end, any item will do.",
        "metadata.kind",
        None,
    )
    equals: Annotated[list[Scalar], SOME, OneOrMore()] | None = field("The value at `path` is one of these.", ["batch", 2], None)
    over: Number | None = field("The value at `path` is a number above this.", 0.5, None)
    up_to: Number | None = field("The value at `path` is a number and at most this.", 4, None)
    present: Flag | None = field("Whether there is a value at `path`; null is none.", True, None)


class Has(Part):
    """What a request brings along. A name or a list alone stands for `{any: …}`; the other words have to hold all together."""

    any: Annotated[list[Feature], SOME, OneOrMore()] | None = field("At least one of these.", ["tools", "images"], None)
    tools: Flag | None = field("Tools are offered (`tools`, `functions`).", True, None)
    images: Flag | None = field("A message has an image.", True, None)
    response_format: Flag | None = field("An output format other than plain text is asked for.", True, None)
    stream: Flag | None = field("A stream is asked for.", False, None)


_features: TypeAdapter[Any] = TypeAdapter(Annotated[list[Feature], SOME, OneOrMore()])


def _has(value: Any, read: Any) -> Any:
    return Has(any=_features.validate_python(value, strict=True)) if isinstance(value, str | list) else read(value)


HasField = Annotated[Has | None, WrapValidator(_has, json_schema_input_type=Feature | list[Feature] | Has | None)]


def _by(value: Any) -> Any:
    return {"of": value} if isinstance(value, str) else value


class By(Part):
    """Whose requests stay together. A word alone stands for `{of: …}`."""

    of: Literal["key", "tenant", "project"] | None = field("The caller's key, tenant or project.", "key", None)
    header: Header | None = field("The value of a header. Requests without it are dealt with by chance.", "x-user", None)


ByField = Annotated[By | None, BeforeValidator(_by, json_schema_input_type=Literal["key", "tenant", "project"] | By | None)]


def _share(value: Any) -> Any:
    return value if isinstance(value, dict | Part | None) else {"percent": value}


class Share(Part):
    """A part of the requests. A number alone stands for `{percent: …}`."""

    percent: Percent = field("How many of a hundred; fractions are fine.", 0.5)
    by: ByField = field("Whose requests stay together, always in or always out. Default: each is drawn by itself.", "key", None)


ShareField = Annotated[Share | None, BeforeValidator(_share, json_schema_input_type=int | float | Share | None)]


class Load(Part):
    """How busy a channel is. A figure that is not known does not hold."""

    channel: str = field("The channel, all its endpoints together.", "gpu")
    running: Figure | None = field("Requests that its engines work on, by their metrics.", {"over": 40}, None)
    waiting: Figure | None = field("Requests that wait inside its engines, by their metrics.", {"over": 5}, None)
    queue: Figure | None = field("Requests that wait for it in the gateway.", {"over": 10}, None)
    kv_use: Fraction | None = field("How full its engines' KV cache is, from 0 to 1, by their metrics.", {"over": 0.9}, None)


class When(Part):
    """When a rule holds: every word that is written has to hold; of a list any item will do. Nothing written = always."""

    prompt_tokens: TokenRange | None = field("The length of the prompt.", {"over": 30000}, None)
    max_tokens: TokenRange | None = field(
        "The length of the answer that the caller allows. Callers who name none are never meant.", {"up_to": 256}, None
    )
    headers: dict[Header, HeaderTests] | None = field(
        "Headers of the request, in upper or lower case. Of one that is sent twice the first counts.", {"x-env": "prod"}, None
    )
    content: Annotated[list[Content], SOME, OneOrMore()] | None = field(
        "What the request says.", [{"words": ["refund"], "in": "any"}], None
    )
    api: Annotated[list[Api], SOME, OneOrMore()] | None = field("Which API is called.", ["chat", "completions"], None)
    has: HasField = field("What the request brings along.", ["tools", "images"], None)
    tenant: Globs | None = field("The caller's tenant; `*` stands for anything.", "retail", None)
    project: Globs | None = field("The caller's project; `*` stands for anything.", ["chat*", "search"], None)
    key: Globs | None = field("The id of the caller's key; `*` stands for anything.", "k7f3", None)
    during: Names | None = field("One of these schedules is open.", "office", None)
    outside: Names | None = field("None of these schedules is open.", "office", None)
    share: ShareField = field("A part of the requests, for trials.", 10, None)
    load: Annotated[list[Load], SOME, OneOrMore()] | None = field(
        "How busy a channel is.", {"channel": "gpu", "waiting": {"over": 5}}, None
    )


class Schedule(Part):
    """Hours of the week, by the clock on the wall of a zone."""

    zone: str = field("A name of the time zone database, `UTC`, or an offset like `+08:00`.", "Asia/Shanghai", "UTC")
    when: Annotated[list[Annotated[str, AfterValidator(_hours)]], SOME, OneOrMore()] = field(
        "Days and hours: `Mon-Fri 09:00-18:00`, `Sat,Sun`, `22:00-06:00` (every day), `2027-05-01 10:00-14:00`. "
        "Hours across midnight belong to the day that they begin on. Hours of a date take the place of that day's others.",
        ["Mon-Fri 09:00-18:00"],
    )
    holidays: Annotated[list[Annotated[str, AfterValidator(_dates)]], OneOrMore()] = field(
        "Days on which no hours begin, unless they are hours of that very date: `2027-01-01`, `2027-02-06..2027-02-12`.",
        ["2027-01-01"],
        [],
    )
