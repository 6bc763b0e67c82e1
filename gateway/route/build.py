"""Makes the tree of a model's targets. Policies that remember something are kept through reloads by whoever calls."""

from collections.abc import Callable, Hashable
from typing import Any

from gateway.config.resolved import Target
from gateway.route.least_busy import LeastBusy
from gateway.route.plan import Leaf, Node, Ranked, Shares, Tiers
from gateway.route.prefix_affinity import PrefixAffinity
from gateway.route.primary_backup import PrimaryBackup
from gateway.route.proportional import Proportional
from gateway.route.sticky import Sticky

Keep = Callable[[Hashable, Callable[[], Any]], Any]
"""(what defines it, how to make it) → the one that is kept, or a new one."""


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
            return Shares(members, keep((place, target), lambda: _proportional(target)))


def _proportional(target: Target) -> Proportional:
    weights = [below.weight for below in target.targets]
    return Proportional(weights, Sticky(target.sticky) if target.sticky else None)


def looks(target: Target) -> bool:
    """Whether deciding below this target looks at the request, or its moment, at all."""
    if target.targets and (target.policy != "proportional" or target.sticky):
        return True
    return any(looks(below) for below in target.targets)


def policies(target: Target) -> set[str]:
    """The policies of it and of everything below."""
    found = {target.policy} if target.targets else set()
    return found.union(*(policies(below) for below in target.targets))
