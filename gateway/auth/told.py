"""What one key may do now, in words for an operator. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.auth.permit import Names, Opens, Permit
from gateway.config.resolved import Key
from gateway.config.resolved_access import OPEN, Access, Switch


def told(
    key: Key, access: Mapping[str, Access], models: Iterable[tuple[str, Names]], schedules: Mapping[str, Opens], now: float
) -> dict[str, Any]:
    """models: names that callers use, each with all of its model. now: seconds since 1970. Times are seconds since 1970, None = never.

    {"id", "tenant", "project", "state": `active`, `disabled` or `expired`, "expires", "previous_until", "models": that it may use now,
    "apis": None = all, "addresses": [{"place", "allow", "deny"}], all of which have to let in, "priority": now, "hours": [{"place",
    "during", "outside", "applies", "models", "deny", "priority"}], "systems"}.
    """
    places = {
        f"tenant {key.tenant}": access.get(f"tenants/{key.tenant}", OPEN),
        f"project {key.project}": access.get(f"tenants/{key.tenant}/projects/{key.project}", OPEN),
        f"key {key.id}": key.access,
    }
    permit = Permit(list(places.values()), schedules)
    gates = {"everybody": access.get("", OPEN), **places}
    return {
        "id": key.id,
        "tenant": key.tenant,
        "project": key.project,
        "state": "disabled" if not key.enabled else "expired" if key.expires and now >= key.expires else "active",
        "expires": key.expires or None,
        "previous_until": key.until or None,
        "models": sorted(permit.usable(models, now)),
        "apis": None if permit.apis is None else sorted(permit.apis),
        "addresses": [
            {"place": place, "allow": list(one.allow), "deny": list(one.deny)} for place, one in gates.items() if one.allow or one.deny
        ],
        "priority": permit.priority(now),
        "hours": [_hours(place, switch, schedules, now) for place, one in places.items() for switch in one.hours],
        "systems": list(key.systems),
    }


def _hours(place: str, switch: Switch, schedules: Mapping[str, Opens], now: float) -> dict[str, Any]:
    models = switch.models
    return {
        "place": place,
        "during": switch.during,
        "outside": switch.outside,
        "applies": schedules[switch.during or switch.outside](now) == bool(switch.during),
        "models": None if models is None else list(models.allow),
        "deny": None if models is None else list(models.deny),
        "priority": None if switch.priority < 0 else switch.priority,
    }
