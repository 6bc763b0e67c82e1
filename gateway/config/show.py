"""The configuration as it takes effect, for people: every default filled in, every secret covered."""

from typing import Any, Final

from pydantic import BaseModel

from gateway.config.load import Loaded
from gateway.config.redact import SECRET_MAPS, SECRET_WORDS
from gateway.config.resolve import USAGE, cpus, host_name
from gateway.config.scalars import Duration, Size

COVERED: Final = "***"


def effective(loaded: Loaded) -> dict[str, Any]:
    """Everything, with defaults; durations and sizes as written; secrets as `***`. Ready for JSON or YAML."""
    config = loaded.config
    shown: dict[str, Any] = _group(config)
    shown["node"] = config.node or host_name()
    if config.workers == "auto":
        shown["workers"] = cpus()
    for name, channel in config.channels.items():
        shown["channels"][name]["usage"] = channel.usage or USAGE[channel.engine]
    for name, model in config.models.items():
        for target, said in zip(model.targets, shown["models"][name]["targets"], strict=True):
            said["model"] = target.model or config.channels[target.channel].model or name
    return shown


def value_of(value: Any) -> Any:
    """A value of the schema as plain data, durations and sizes as text."""
    match value:
        case Duration() | Size():
            return value.text
        case BaseModel():
            return _group(value)
        case dict():
            return {str(name): value_of(item) for name, item in value.items()}
        case list() | tuple():
            return [value_of(item) for item in value]
        case str():
            return str(value)
        case _:
            return value


def _group(part: BaseModel) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is None:
            continue
        if name in SECRET_WORDS:
            shown[name] = COVERED
        elif name in SECRET_MAPS:
            shown[name] = dict.fromkeys(value, COVERED)
        else:
            shown[name] = value_of(value)
    return shown
