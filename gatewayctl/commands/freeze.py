"""`gatewayctl freeze` and `unfreeze`: the kill switch, for a tenant, a project, a key, a model, or everything."""

from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.commands.done import well_done
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import moment

app, thaw = alone(), alone()
PATIENCE = 30.0

Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="A tenant, with all its projects and keys.")]
Project = Annotated[str | None, typer.Option("--project", metavar="TENANT/PROJECT", help="A project, with all its keys.")]
Key = Annotated[str | None, typer.Option("--key", metavar="ID", help="An API key.")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="A virtual model, also where rules and fallbacks lead to it.")]
Everything = Annotated[bool, typer.Option("--all", help="Everything.")]

COLUMNS = [
    Column("frozen", lambda f: f.get("kind")),
    Column("name", lambda f: f.get("name")),
    Column("since", lambda f: moment(f.get("since"))),
    Column("by", lambda f: f.get("by")),
    Column("reason", lambda f: f.get("reason")),
]


@command(
    app,
    "freeze",
    """
    gatewayctl freeze                                        what is frozen now
    gatewayctl freeze --tenant retail --reason "ticket 4711"
    gatewayctl freeze --project retail/chatbot
    gatewayctl freeze --key k7f3
    gatewayctl freeze --model qwen
    gatewayctl freeze --all
    """,
)
def freeze(
    session: Session,
    tenant: Tenant = None,
    project: Project = None,
    key: Key = None,
    model: Model = None,
    everything: Everything = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="For colleagues; callers do not see it.")] = None,
) -> None:
    """Stop somebody or something at once: new requests get 403 `frozen`, open ones end with it. Until unfreeze, whatever restarts.

    Returns when every worker knows; exits with 6 when one did not answer. Without options: what is frozen.
    """
    target = _target(tenant, project, key, model, everything)
    if target is None:
        if reason:
            raise Trouble("--reason of what?", "Say: --tenant, --project, --key, --model or --all", USAGE)
        show.items(session, session.client().get("/v1/freezes")["freezes"], COLUMNS, "nothing is frozen")
        return
    found = session.client().post("/v1/freeze", {**target, "reason": reason or ""}, PATIENCE)["freeze"]
    session.say(f"{_told(found)} {'is' if found.get('changed') else 'was already'} frozen")
    if session.machine:
        show.data(session, found)
    well_done(found, "which may still serve it")


@command(
    thaw,
    "unfreeze",
    """
    gatewayctl unfreeze --tenant retail
    gatewayctl unfreeze --key k7f3
    gatewayctl unfreeze --all           what froze everything; not what was frozen by its name
    """,
)
def unfreeze(
    session: Session, tenant: Tenant = None, project: Project = None, key: Key = None, model: Model = None, everything: Everything = False
) -> None:
    """Take a freeze back. Returns when every worker knows. `--all` also repairs a file of freezes that cannot be read."""
    target = _target(tenant, project, key, model, everything)
    if target is None:
        raise Trouble("say what: --tenant, --project, --key, --model or --all", "What is frozen: gatewayctl freeze", USAGE)
    found = session.client().post("/v1/unfreeze", target, PATIENCE)["freeze"]
    session.say(f"{_told(found)} {'is no longer frozen' if found.get('changed') else 'was not frozen'}")
    if session.machine:
        show.data(session, found)
    still = ", ".join(_told(one) for one in found.get("frozen") or [])
    if still and not session.machine:
        session.say(f"still frozen: {still}")
    well_done(found, "which may still refuse it")


def _target(tenant: str | None, project: str | None, key: str | None, model: str | None, everything: bool) -> dict[str, str] | None:
    """What is meant, as the admin API says it; None: nothing was named."""
    if tenant is not None and project is not None and "/" not in project:
        tenant, project = None, f"{tenant}/{project}"  # as `keys create` names it
    named = {"tenant": tenant, "project": project, "key": key, "model": model}
    said = [(kind, name) for kind, name in named.items() if name is not None] + ([("all", "")] if everything else [])
    if len(said) > 1:
        raise Trouble("one at a time: --tenant, --project, --key, --model or --all", code=USAGE)
    if not said:
        return None
    kind, name = said[0]
    if kind == "project" and "/" not in name:
        raise Trouble(f"whose project {name!r}?", f"Say: --project TENANT/{name}", USAGE)
    return {"kind": kind, "name": name}


def _told(one: dict[str, Any]) -> str:
    return "everything" if one.get("kind") == "all" else f"{one.get('kind')} {one.get('name')}"
