"""`gatewayctl keys`: API keys. Edits the file that holds them, comments kept, and returns when every worker knows."""

import time
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands import key_files, key_looks, key_states
from gatewayctl.commands.done import well_done
from gatewayctl.commands.key_looks import state_of
from gatewayctl.commands.live import changing, client_of_these_files, load_for_keys
from gatewayctl.commands.newkey import NewSecret, from_stdin, instant, limits, made, models, pairs, words
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import BAD_CONFIG, UNREACHABLE, Trouble

app = noun(
    "keys",
    "Create, list, change and revoke API keys.",
    """
    gatewayctl keys                                             which there are
    gatewayctl keys create --tenant retail --project chatbot    a new one; its secret is shown once
    gatewayctl keys show k7f3                                   what it may do, now
    gatewayctl keys rotate k7f3 --overlap 24h                   another secret for it
    gatewayctl keys revoke k7f3                                 nobody gets in with it any more
    """,
    default="list",
)
HASH_SHOWN = len("sha256:") + 8

COLUMNS = [
    Column("key", lambda k: k["id"]),
    Column("tenant", lambda k: k["tenant"]),
    Column("project", lambda k: k["project"]),
    Column("models", lambda k: k["models"]),
    Column("hash", lambda k: k["hash"].removeprefix("sha256:"), csv=lambda k: k["hash"]),
    Column("state", lambda k: k["state"], colored=True),
    Column("live", lambda k: k["live"], colored=True),
    Column("label", lambda k: k["label"]),
]


@command(
    app,
    "list",
    """
    gatewayctl keys
    gatewayctl keys list --tenant retail
    gatewayctl keys list -o csv
    """,
)
def list_keys(
    session: Session, tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only those of this tenant.")] = None
) -> None:
    """The keys in the files, and whether they are live. Of their hashes only the beginning is shown."""
    loaded, now = load_for_keys(session.config), time.time()
    live = _live(session)
    found = [
        {
            "id": key.id,
            "tenant": key.tenant,
            "project": key.project,
            "models": [*key.models.allow, *(f"not {glob}" for glob in key.models.deny)],
            "hash": str(key.hash)[:HASH_SHOWN],
            "state": state_of(key, now),
            "expires": key.expires,
            "label": key.label,
            "live": None if live is None else live.get(key.id) == str(key.hash)[len("sha256:") : HASH_SHOWN],
        }
        for key in loaded.config.keys
        if tenant in (None, key.tenant)
    ]
    known = tenant is None or tenant in loaded.config.tenants
    none = (
        "no keys; a new one: gatewayctl keys create --tenant … --project …"
        if known
        else f"there is no tenant {tenant!r}: gatewayctl tenants"
    )
    show.items(session, found, COLUMNS, none)


def _live(session: Session) -> dict[str, str] | None:
    """Key ids and the beginning of their digests, as the running gateway has them; None when it cannot be asked."""
    try:
        return {key["id"]: key["digest"] for key in session.client().get("/v1/config/running")["keys"]}
    except Trouble as trouble:
        if trouble.code != UNREACHABLE:
            session.say(f"gatewayctl: {trouble.message}, so it is not known which keys are live")
        return None


Texts = list[str] | None


@command(
    app,
    "create",
    """
    gatewayctl keys create --tenant retail --project chatbot
    gatewayctl keys create --tenant retail --project chatbot --models 'qwen*' --expires 90d --label "Ann's notebook"
    gatewayctl keys create --tenant retail --project chatbot --allow-ip 10.1.0.0/16 --limit requests=600/minute
    gatewayctl keys create --tenant retail --project chatbot --import-secret - < old-key.txt
    SECRET=$(gatewayctl keys create -q --tenant retail --project chatbot)
    """,
)
def create(
    session: Session,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Who will use it.")],
    project: Annotated[str, typer.Option("--project", metavar="NAME", help="For which of the tenant's projects.")],
    allow: Annotated[
        Texts, typer.Option("--models", "--model", metavar="GLOB", help="What it may use; * = anything. Repeat it. [default: *]")
    ] = None,
    deny: Annotated[Texts, typer.Option("--deny-model", metavar="GLOB", help="What it may not use. Repeat it.")] = None,
    apis: Annotated[Texts, typer.Option("--api", metavar="NAME", help="Only these APIs: chat, embeddings, … Repeat it.")] = None,
    allow_ip: Annotated[Texts, typer.Option("--allow-ip", metavar="CIDR", help="Only from there. Repeat it.")] = None,
    deny_ip: Annotated[Texts, typer.Option("--deny-ip", metavar="CIDR", help="Not from there. Repeat it.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="TIME", help="2027-01-01, or so long from now: 90d.")] = None,
    limit: Annotated[Texts, typer.Option("--limit", metavar="LIMIT", help="requests=600/minute, concurrency=20. Repeat it.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", metavar="0-9", help="Who goes first when engines are full.")] = None,
    systems: Annotated[Texts, typer.Option("--system", metavar="GLOB", help="x-gateway-system may tell this name. Repeat it.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="A note for people.")] = None,
    meta: Annotated[Texts, typer.Option("--meta", metavar="NAME=VALUE", help="Further notes. Repeat it.")] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its name in logs and records. [default: eight characters by chance]")
    ] = None,
    import_secret: Annotated[str | None, typer.Option("--import-secret", metavar="-", help="Take the secret (sk-…) from stdin.")] = None,
) -> None:
    """Create a key, and return when every worker knows it. The secret goes to stdout, once: it is kept nowhere.

    Without a running gateway the key is written and becomes live at the next start.
    """
    from gateway.config import edit

    secret = made(id, from_stdin(import_secret))
    key = words(
        id=secret.id,
        hash=secret.hash,
        tenant=tenant,
        project=project,
        models=models(allow, deny),
        apis=apis,
        ip=words(allow=allow_ip, deny=deny_ip),
        expires=instant(expires),
        limits=limits(limit),
        priority=priority,
        systems=systems,
        label=label,
        meta=pairs(meta),
    )
    client = client_of_these_files(session)
    act = f"keys create {secret.id} --tenant {tenant} --project {project}"
    named = f'there is no key "{secret.id}"'  # a rule may name a key before there is one
    try:
        with changing(session.config, client, act, mends=lambda mistake: mistake == named) as change:
            file = edit.keys_file(session.config)
            change.undo.callback(edit.add_keys(file, [key]).undo)
    except Exception as error:
        _say_why_not(session, error)
        raise
    _show_new(session, secret, key, {"file": str(file), "live": client is not None})
    well_done(change.answer)


def _say_why_not(session: Session, error: Exception) -> None:
    """Raises Trouble for mistakes of the new line, without the line, which is gone again; others are told as they are."""
    mistakes = getattr(error, "mistakes", ())
    if mistakes and all(mistake.path.startswith("keys[") for mistake in mistakes):
        said = ", and ".join(mistake.message for mistake in mistakes)
        raise Trouble(f"the key was not added: {said}", "\n".join(filter(None, (m.hint for m in mistakes))), BAD_CONFIG) from error
    if mistakes:
        session.say("gatewayctl: no key was made; the files would not do:")


def _show_new(session: Session, secret: NewSecret, key: dict[str, Any], where: dict[str, Any]) -> None:
    told = {} if secret.secret is None else {"secret": secret.secret}
    if session.machine:
        rest = {word: value for word, value in key.items() if word != "hash"}
        show.data(session, {"id": key["id"], **told, **rest, "label": key.get("label"), **where})
    elif secret.secret is not None:
        print(secret.secret)
    named = key["models"] if isinstance(key["models"], list) else key["models"]["allow"]
    state = "is live" if where["live"] else "becomes live when the gateway starts, which is not running now"
    session.say(f"key {key['id']} of {key['tenant']}/{key['project']} for {', '.join(named)} {state}")
    if secret.secret is not None:
        session.say("The secret is shown this once and kept nowhere.")


key_looks.add_to(app)
key_states.add_to(app)
key_files.add_to(app)
