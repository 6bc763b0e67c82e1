"""Makes the tree of a model's targets. Policies that remember something are kept through reloads by whoever calls."""

from collections.abc import Callable, Iterable
from typing import Any

from gateway.config.resolved import Model, Target
from gateway.route.least_busy import LeastBusy
from gateway.route.plan import Leaf, Node, Ranked, Shares, Tiers
from gateway.route.prefix_affinity import PrefixAffinity
from gateway.route.primary_backup import PrimaryBackup
from gateway.route.proportional import Proportional
from gateway.route.sticky import Sticky

Keep = Callable[[tuple[str, Target], Callable[[], Any]], Any]
"""(where it stands and how it is written, how to make it) → the one that is kept, or a new one."""


def tree(target: Target, leaf: Callable[[Target], Leaf], keep: Keep, place: str) -> Node:
    """leaf: makes a channel target's leaf. place: where in the configuration it stands (`models.qwen`), part of what defines a policy."""
    if not target.targets:
        return leaf(target)
    members = [tree(below, leaf, keep, f"{place}.{number}") for number, below in enumerate(target.targets)]
    match target.policy:
        case "primary-backup":
            return Tiers(members, keep((place, target), lambda: PrimaryBackup(len(members), target.fail_back)))
        case "least-busy":
            return Ranked(members, keep((place, target), LeastBusy))
        case "prefix-affinity":
            return Ranked(members, keep((place, target), PrefixAffinity))
        case _:
            weights = [below.weight for below in target.targets]
            return Shares(members, keep((place, target), lambda: _proportional(target)), weights)


def _proportional(target: Target) -> Proportional:
    weights = [below.weight for below in target.targets]
    if not target.sticky:
        return Proportional(weights)
    return Proportional(weights, Sticky(target.sticky), [_name(below, number) for number, below in enumerate(target.targets)])


def _name(target: Target, number: int) -> str:
    """What makes a target the same one when the list around it changes; a group has only its place."""
    return f"group {number}" if target.targets else f"{target.channel} {target.model}"


def looks(target: Target) -> bool:
    """Whether deciding below this target looks at the request, or its moment, at all."""
    if target.targets and (target.policy != "proportional" or target.sticky):
        return True
    return any(looks(below) for below in target.targets)


def figured(models: Iterable[Model]) -> set[str]:
    """The channels whose engines' figures decide something, so that they are asked for them often."""
    found: set[str] = set()
    for model in models:
        for target in (model.top(), *(rule.target for rule in model.rules if rule.target is not None)):
            found |= _ranked(target)
        found |= {load.channel for rule in model.rules for load in rule.when.load}
    return found


def _ranked(target: Target) -> set[str]:
    if target.targets and target.policy in ("least-busy", "prefix-affinity"):
        return {leaf.channel for leaf in target.leaves()}
    return set[str]().union(*(_ranked(below) for below in target.targets))
