"""`gatewayctl keys`: API keys. Edits the file that holds them, comments kept, and returns when every worker knows."""

import sys
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands.done import well_done
from gatewayctl.commands.live import changing, check_files, client_of_these_files, load_for_keys
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import BAD_CONFIG, UNREACHABLE, USAGE, Trouble

app = noun(
    "keys",
    "Create, list and revoke API keys.",
    """
    gatewayctl keys                                             which there are
    gatewayctl keys create --tenant retail --project chatbot    a new one; its secret is shown once
    gatewayctl keys revoke k7f3                                 nobody gets in with it any more
    """,
    default="list",
)
SHORTEST_IMPORT = 16
"""Characters. Shorter secrets can be guessed."""
HASH_SHOWN = len("sha256:") + 8

COLUMNS = [
    Column("key", lambda k: k["id"]),
    Column("tenant", lambda k: k["tenant"]),
    Column("project", lambda k: k["project"]),
    Column("models", lambda k: k["models"]),
    Column("hash", lambda k: k["hash"]),
    Column("live", lambda k: k["live"], colored=True),
    Column("label", lambda k: k["label"]),
]


@command(
    app,
    "list",
    """
    gatewayctl keys
    gatewayctl keys list -o csv
    """,
)
def list_keys(session: Session) -> None:
    """The keys in the files, and whether they are live. Of their hashes only the beginning is shown."""
    loaded = load_for_keys(session.config)
    live = _live(session)
    found = [
        {
            "id": key.id,
            "tenant": key.tenant,
            "project": key.project,
            "models": list(key.models),
            "hash": str(key.hash)[:HASH_SHOWN],
            "label": key.label,
            "live": None if live is None else live.get(key.id) == str(key.hash)[len("sha256:") : HASH_SHOWN],
        }
        for key in loaded.config.keys
    ]
    show.items(session, found, COLUMNS, "no keys; a new one: gatewayctl keys create --tenant … --project …")


def _live(session: Session) -> dict[str, str] | None:
    """Key ids and the beginning of their digests, as the running gateway has them; None when it cannot be asked."""
    try:
        return {key["id"]: key["digest"] for key in session.client().get("/v1/config/running")["keys"]}
    except Trouble as trouble:
        if trouble.code != UNREACHABLE:
            session.say(f"gatewayctl: {trouble.message}, so it is not known which keys are live")
        return None


@command(
    app,
    "create",
    """
    gatewayctl keys create --tenant retail --project chatbot
    gatewayctl keys create --tenant retail --project chatbot --models 'qwen*' --label "Ann's notebook"
    gatewayctl keys create --tenant retail --project chatbot --import-secret - < old-key.txt
    SECRET=$(gatewayctl keys create -q --tenant retail --project chatbot)
    """,
)
def create(
    session: Session,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Who will use it.")],
    project: Annotated[str, typer.Option("--project", metavar="NAME", help="For which of the tenant's projects.")],
    models: Annotated[
        list[str] | None, typer.Option("--models", "--model", metavar="GLOB", help="What it may use; * = anything. Repeat it. [default: *]")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="A note for people.")] = None,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its name in logs and records. [default: eight characters by chance]")
    ] = None,
    import_secret: Annotated[str | None, typer.Option("--import-secret", metavar="-", help="Take the secret (sk-…) from stdin.")] = None,
) -> None:
    """Create a key, and return when every worker knows it. The secret goes to stdout, once: it is kept nowhere.

    Without a running gateway the key is written and becomes live at the next start.
    """
    from gateway.config import edit
    from gatewayctl.commands.newkey import Wanted, add

    if import_secret not in (None, "-"):
        raise Trouble("a secret on the command line can be read by every process: --import-secret - takes it from stdin", code=USAGE)
    secret = _imported() if import_secret else None
    client = client_of_these_files(session)
    wanted = Wanted(tenant=tenant, project=project, models=tuple(models or ["*"]), label=label, id=id, secret=secret)
    made = edit.make_keys_file(session.config)
    try:
        check_files(session.config, client)
    except BaseException:
        if made is not None:
            made.unlink(missing_ok=True)
        raise
    try:
        with changing(session.config, client, f"keys create --tenant {tenant} --project {project}") as change:
            new = add(session.config, wanted)
            change.undo.callback(new.undo)
    except Exception as error:
        mistakes = getattr(error, "mistakes", ())
        if mistakes and all(mistake.path.startswith("keys[") for mistake in mistakes):  # its line is gone again
            said = ", and ".join(mistake.message for mistake in mistakes)
            raise Trouble(f"the key was not added: {said}", "\n".join(filter(None, (m.hint for m in mistakes))), BAD_CONFIG) from error
        raise
    _show_new(session, new.told(live=client is not None), imported=secret is not None)
    well_done(change.answer)


def _imported() -> str:
    secret = sys.stdin.readline().strip()
    if len(secret) < SHORTEST_IMPORT or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise Trouble(f"what came from stdin is no secret: one line, at least {SHORTEST_IMPORT} ASCII characters, no spaces", code=USAGE)
    return secret


def _show_new(session: Session, found: dict[str, Any], imported: bool) -> None:
    if session.machine:
        show.data(session, found)
    elif not imported:
        print(found["secret"])
    state = "is live" if found["live"] else "becomes live when the gateway starts, which is not running now"
    session.say(f"key {found['id']} of {found['tenant']}/{found['project']} for {', '.join(found['models'])} {state}")
    if not imported:
        session.say("The secret is shown this once and kept nowhere.")


@command(
    app,
    "revoke",
    """
    gatewayctl keys revoke k7f3
    gatewayctl keys revoke k7f3 --yes
    gatewayctl keys revoke k7f3 --let-finish    its open requests end in peace
    """,
)
def revoke(
    session: Session,
    id: Annotated[str, typer.Argument(help="Which one: gatewayctl keys.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    let_finish: Annotated[bool, typer.Option("--let-finish", help="Do not break its open requests off.")] = False,
) -> None:
    """Take a key out of its file, in all workers.

    Returns when no worker lets anybody in with it any more. Its open requests end with an error, unless they may finish.
    """
    from gateway.config.edit import file_of_key, remove_key

    client = client_of_these_files(session)
    check_files(session.config, client)  # with mistakes in the files the key would go on being valid
    file = file_of_key(session.config, id)
    if file is None:
        raise Trouble(f"there is no key {id!r} in {session.config} and its includes", "Which there are: gatewayctl keys")
    session.confirm(f"Revoke key {id} in {file}? Its callers are refused at once.", yes)
    gone = False
    try:
        with changing(
            session.config, client, f"keys revoke {id}{' --let-finish' if let_finish else ''}", spare=[id] if let_finish else []
        ) as change:
            remove_key(file, id)
            gone = True
    except BaseException:
        if gone and client is not None:
            session.warn(f"gatewayctl: key {id} is out of {file}, but it may be STILL VALID in the running gateway:")
        raise
    if session.machine:
        show.data(session, {"id": id, "file": str(file), "live": False})
    session.say(f"key {id} is revoked" + (" in every worker" if client else "; the gateway is not running"))
    well_done(change.answer)
