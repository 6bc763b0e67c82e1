"""Access as checked, in the compact form that workers take. Decides nothing."""

from gateway.config import resolved_access as form
from gateway.config.access import Ip, ModelSet, Switch
from gateway.config.schema import Config, Key, Project, Tenant


def resolve_places(config: Config) -> dict[str, form.Access]:
    """Of each place that does not open everything."""
    found = {"": _access(None, ip=config.ip)}
    for name, tenant in config.tenants.items():
        found[f"tenants/{name}"] = resolve_access(tenant)
        found |= {f"tenants/{name}/projects/{project}": resolve_access(one) for project, one in tenant.projects.items()}
    return {place: access for place, access in found.items() if access != form.OPEN}


def resolve_access(part: Tenant | Project | Key) -> form.Access:
    """Of one tenant, project or key."""
    priority = -1 if part.priority is None else part.priority
    return _access(part.models, part.ip, tuple(part.apis), priority, tuple(map(_switch, part.hours)))


def _access(
    models: ModelSet | None, ip: Ip | None, apis: tuple[str, ...] = (), priority: int = -1, hours: tuple[form.Switch, ...] = ()
) -> form.Access:
    allow, deny = (tuple(ip.allow), tuple(ip.deny)) if ip else ((), ())
    found = form.Access(_models(models) or form.EVERY, apis, allow, deny, priority, hours)
    return form.OPEN if found == form.OPEN else found


def _models(models: ModelSet | None) -> form.Models | None:
    return None if models is None else form.Models(tuple(models.allow), tuple(models.deny))


def _switch(switch: Switch) -> form.Switch:
    priority = -1 if switch.priority is None else switch.priority
    return form.Switch(switch.during or "", switch.outside or "", _models(switch.models), priority)
