"""Targets and conditions in the words of the configuration, every default filled in, for people and programs. Decides nothing."""

from typing import Any

import msgspec

from gateway.config.resolved import Target
from gateway.config.resolved_when import When


def written(when: When) -> dict[str, Any]:
    """Conditions in the words of the configuration."""
    found: dict[str, Any] = plain(when)
    for content in found.get("content", ()):
        if "place" in content:
            content["in"] = content.pop("place")
        if "path" in content:
            content["path"] = ".".join(content["path"])
        content |= content.pop("range", {})
    if "has" in found:
        found["has"] = found["has"].get("each", {}) | ({"any": found["has"]["any"]} if "any" in found["has"] else {})
    if "header" in found.get("share", {}):
        found["share"]["by"] = {"header": found["share"].pop("header")}
    if "load" in found:
        found["load"] = [{"channel": load["channel"], **load["figures"]} for load in found["load"]]
    if "headers" in found:
        found["headers"] = {name: [test.get("equals", test) for test in tests] for name, tests in found["headers"].items()}
    return found


def tree(target: Target) -> dict[str, Any]:
    """A target as it is written, every default filled in."""
    if not target.targets:
        return {"channel": target.channel, "model": target.model, "weight": target.weight}
    options = {"sticky": target.sticky} if target.sticky else {}
    if target.policy == "primary-backup":
        options["fail_back"] = f"{target.fail_back:g}s"
    return {"policy": target.policy, "weight": target.weight, **options, "targets": [tree(below) for below in target.targets]}


def plain(value: Any) -> Any:
    """A value of the resolved form as JSON has it."""
    return msgspec.to_builtins(value)
