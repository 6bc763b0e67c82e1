"""The alerts as checked, in the compact form that control goes by. Plain data."""

from typing import Final

from msgspec import Struct

from gateway.config.alert_kinds import DEFAULTS, KINDS, REPEAT


class Sink(Struct, frozen=True, kw_only=True):
    """Where messages go: an apprise URL (a secret), or an Alertmanager's address with a bearer token, "" = none."""

    name: str
    url: str = ""
    alertmanager: str = ""
    credential: str = ""


class Rule(Struct, frozen=True, kw_only=True):
    """What is watched. wait, within, repeat: seconds. over: percent, seconds or a number, as its kind says. share: percent.

    channel, model, tenant: globs, "" = all. to: names of sinks; whatever they are, the log gets a line.
    """

    name: str
    kind: str
    severity: str
    wait: float
    repeat: float = REPEAT
    to: tuple[str, ...] = ()
    over: float = 0.0
    within: float = 0.0
    share: float = 0.0
    requests: int = 0
    sensitivity: str = ""
    by: str = ""
    channel: str = ""
    model: str = ""
    tenant: str = ""


def rule_of(kind: str, **said: object) -> Rule:
    """A rule with what is said, and the kind's defaults for the rest."""
    known = KINDS[kind]
    own = {word: default for word, default in known.words.items() if default is not None}
    return Rule(**{"name": kind, "severity": known.severity, "wait": known.wait, **own, **said, "kind": kind})  # type: ignore[arg-type]


DEFAULT_RULES: Final = tuple(rule_of(kind) for kind in DEFAULTS)


class Alerts(Struct, frozen=True, kw_only=True):
    """Sinks by name, and the rules."""

    sinks: dict[str, Sink] = {}
    rules: tuple[Rule, ...] = DEFAULT_RULES
