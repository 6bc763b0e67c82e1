"""The last change of a request before it goes to an engine: the engine's model name, usage in streams, the dialect's rewrites."""

from msgspec import Raw

from gateway.engine.base import Dialect, Fields
from gateway.wire.openai import MalformedJson, encode, json_string, value_of
from gateway.words import STREAMING_APIS


def prepare(fields: Fields, *, model: str, stream: bool, usage: str, dialect: Dialect, api: str) -> list[str]:
    """Changes `fields` in place; returns the names of the rewrites made for this engine, for the record.

    usage: the channel's `continuous`, `final` or `count`. What the caller asked of usage must have been read before.
    Errors: Refusal, from the dialect.
    """
    fields["model"] = json_string(model)
    rewrites = _stream_options(fields, stream and api in STREAMING_APIS, usage, dialect)
    return rewrites + dialect.request(api, fields)


def _stream_options(fields: Fields, stream: bool, usage: str, dialect: Dialect) -> list[str]:
    """Asks for usage as the channel wants it, and keeps the caller's other options. Engines refuse options without a stream."""
    asked = fields.pop("stream_options", None)
    if not stream or not dialect.final_usage:
        return [] if asked is None else ["-stream_options"]
    options = _object(asked)
    if usage != "count":
        options["include_usage"] = True
    if dialect.continuous_usage and usage != "count":
        options["continuous_usage_stats"] = usage == "continuous"
    elif not dialect.continuous_usage:
        options.pop("continuous_usage_stats", None)
    if options:
        fields["stream_options"] = Raw(encode(options))
    return []


def _object(raw: Raw | None) -> dict[str, object]:
    try:
        value = value_of(raw) if raw is not None else {}
    except MalformedJson:
        value = {}
    return value if isinstance(value, dict) else {}
