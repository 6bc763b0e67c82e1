"""The configuration as it takes effect, for people: every default filled in, every secret covered."""

from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel

from gateway.config.load import Loaded
from gateway.config.model import FAIL_BACK, Model, Target
from gateway.config.redact import SECRET_MAPS, SECRET_WORDS, looks_secret
from gateway.config.registries import Registry
from gateway.config.registry_checks import WORDS
from gateway.config.resolve import USAGE, cpus, host_name
from gateway.config.scalars import Duration, Size, decimal_text
from gateway.config.schema import Config
from gateway.config.when import Content, When

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
        _complete(model, model.policy, shown["models"][name], name, config)
        for rule, told in zip(model.rules, shown["models"][name]["rules"], strict=True):
            _complete(rule.to, rule.to.policy or "proportional", told["to"], name, config)
    return shown


def _complete(where: Model | Target, policy: str, shown: dict[str, Any], model: str, config: Config) -> None:
    """A group of targets with what is not written: each one's model and weight, how soon it fails back."""
    if where.targets is None:
        return
    if policy == "primary-backup":
        shown.setdefault("fail_back", FAIL_BACK.text)
    for target, told in zip(where.targets, shown["targets"], strict=True):
        if policy == "proportional":
            told.setdefault("weight", 1)
        if target.channel is not None:
            told["model"] = target.model or config.channels[target.channel].model or model
        _complete(target, target.policy or "proportional", told, model, config)


def value_of(value: Any) -> Any:
    """A value of the schema as plain data, durations and sizes as text."""
    match value:
        case Duration() | Size():
            return value.text
        case Decimal():
            return int(value) if value == int(value) else decimal_text(value)
        case BaseModel():
            return _group(value)
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
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
        if value is None or _means_nothing(name, part):
            continue
        if name in SECRET_WORDS:
            shown[name] = COVERED
        elif name in SECRET_MAPS and isinstance(part, When):  # conditions are no secrets
            shown[name] = {header: COVERED if looks_secret(header) else value_of(tests) for header, tests in value.items()}
        elif name in SECRET_MAPS:
            shown[name] = dict.fromkeys(value, COVERED)
        else:
            shown[name] = value_of(value)
    return shown


def _means_nothing(name: str, part: BaseModel) -> bool:
    """Whether a word's default has nothing to do there: written, it would be a mistake."""
    match part:
        case Content():
            return (name == "in" and part.path is not None) or (name == "ignore_case" and not part.words)
        case Registry():
            return name not in ("type", *WORDS[part.type])
        case _:
            return False
