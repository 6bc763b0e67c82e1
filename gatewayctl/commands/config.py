"""`gatewayctl config`: check, show, explain and compare the configuration, and go back to an earlier one."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands.reload import PATIENCE, told, whose
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import BAD_CONFIG, FAILED, USAGE, Done, Trouble
from gatewayctl.words import moment, plural

app = noun(
    "config",
    "Check, show, compare and roll back the configuration.",
    """
    gatewayctl config check                  is it right?
    gatewayctl config diff                   what would a reload change?
    gatewayctl config explain channels.tls   what does this key mean?
    gatewayctl config rollback               take back what was changed last
    """,
)
DIFFERENT = 1
NOT_COMPARED = 3
"""`config diff` says 1 for a difference, so a failure must be something else."""
FIXED = ("node", "data_dir")
"""What a gateway that runs cannot change."""
WORDS = [
    Column("key", lambda w: w["path"]),
    Column("type", lambda w: w["type"]),
    Column("default", lambda w: "must be written" if w["required"] else None if w["default"] is None else _written(w["default"])),
    Column("meaning", lambda w: w["description"]),
]
REVISIONS = [
    Column("revision", lambda r: r.get("rev"), "right"),
    Column("time", lambda r: moment(r.get("ts"))),
    Column("by", lambda r: r.get("by")),
    Column("why", lambda r: r.get("why")),
    Column("digest", lambda r: str(r.get("digest") or "")[:12]),
    Column("live", lambda r: "yes" if r.get("running") else None, colored=True, csv=lambda r: bool(r.get("running"))),
]


@command(
    app,
    "check",
    """
    gatewayctl config check
    gatewayctl config check ./gateway.yaml
    gatewayctl config check -o json
    """,
)
def check(
    session: Session, path: Annotated[Path | None, typer.Argument(readable=False, help="The main file. [default: --config]")] = None
) -> None:
    """Read the files and say what is wrong with them, all at once.

    Changes nothing and needs no running gateway. Exits with 78 when there are mistakes.
    """
    from gateway.config.certificates import lapsed
    from gateway.config.load import load
    from gateway.config.report import ConfigError
    from gateway.config.unfinished import unfinished

    file = path or session.config
    try:
        loaded = load(file)
    except ConfigError as error:
        if not session.machine:
            raise
        _print_mistakes(session, file, error.mistakes)
        raise Done(BAD_CONFIG) from error
    config = loaded.config
    for said in (*unfinished(config), *lapsed(config, time.time())):
        session.warn(f"gatewayctl: {said}")
    counts = {noun: len(getattr(config, noun)) for noun in ("listeners", "channels", "models", "tenants", "keys")}
    if session.machine:
        show.data(session, {"ok": True, "path": str(loaded.path), "files": list(loaded.files), **counts, "mistakes": []})
    else:
        print(f"{loaded.path} is right: {', '.join(plural(number, noun[:-1]) for noun, number in counts.items())}")


def _print_mistakes(session: Session, file: Path, mistakes: list[Any]) -> None:
    found = [dataclasses.asdict(mistake) for mistake in mistakes]
    show.data(session, found if session.output == "csv" else {"ok": False, "path": str(file), "mistakes": found})


@command(
    app,
    "show",
    """
    gatewayctl config show                the files as they are written
    gatewayctl config show --effective    with every default filled in
    gatewayctl config show --running      what the workers have
    """,
)
def show_config(
    session: Session,
    effective: Annotated[bool, typer.Option("--effective", help="With every default filled in, includes merged.")] = False,
    running: Annotated[bool, typer.Option("--running", help="What the running gateway has, in its own form.")] = False,
) -> None:
    """The configuration, secrets covered."""
    if effective and running:
        raise Trouble("--effective is about the files, --running about the gateway: say one of them", code=USAGE)
    if running:
        found = session.client().get("/v1/config/running")
        _print(session, {"config": found["config"], "keys": found["keys"]})
        return
    from gateway.config.load import load

    loaded = load(session.config)
    if effective:
        from gateway.config.show import effective as filled_in

        _print(session, filled_in(loaded))
        return
    files = {file: _covered(text, loaded.names) for file, text in loaded.files.items()}
    if session.machine:
        show.data(session, {"files": files})
    else:
        print("\n".join(f"# {file}\n{text}" for file, text in files.items()), end="")


def _print(session: Session, value: Any) -> None:
    """A tree: people read YAML."""
    if session.machine:
        show.data(session, value)
    else:
        sys.stdout.write(show.as_yaml(value))


def _covered(text: str, names: frozenset[str]) -> str:
    from gateway.config.redact import covered

    return "".join(line + "\n" for line in covered(text.splitlines(), names))


@command(
    app,
    "schema",
    """
    gatewayctl config schema > gateway.schema.json
    # and in gateway.yaml:  # yaml-language-server: $schema=gateway.schema.json
    """,
)
def schema(session: Session) -> None:
    """The JSON Schema of the configuration, for editors that complete and check as one types."""
    import json

    from gateway.config.jsonschema import schema as found

    if session.output == "yaml":
        show.data(session, found())
    else:
        print(json.dumps(found(), indent=2, ensure_ascii=False))


@command(
    app,
    "explain",
    """
    gatewayctl config explain                          the words at the top
    gatewayctl config explain channels.timeouts
    gatewayctl config explain channels.gpu.engine      names may stand in between
    """,
)
def explain(session: Session, key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Dotted: http.body.")] = None) -> None:
    """What a word of the configuration means: its type, its default, an example, and the words below it."""
    from gateway.config.explain import explain as find
    from gateway.config.tree import words

    if key is None:
        found = [find(word) for word in words() if "." not in word]
        show.items(session, [_explained(one) for one in found], WORDS)
        return
    try:
        one = find(key)
    except LookupError as error:
        raise Trouble(str(error.args[0]), "Which there are: gatewayctl config explain") from error
    if session.machine:
        show.data(session, _explained(one))
    else:
        _print_explained(session, one)


def _explained(one: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(one), "below": list(one.below)}


def _print_explained(session: Session, one: Any) -> None:
    print(f"{show.paint(session, one.path, 'bold')}\n  {one.description}\n")
    default = "must be written" if one.required else None if one.default is None else _written(one.default)
    show.facts(session, [("type", one.type), ("default", default), ("example", None if one.example is None else _written(one.example))], 2)
    if one.below:
        print("\n  " + "\n  ".join(one.below))


def _written(value: Any) -> str:
    """A value as one would write it in YAML, on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


@command(
    app,
    "diff",
    """
    gatewayctl config diff
    gatewayctl config diff -q && echo "nothing to reload"
    """,
)
def diff(session: Session) -> None:
    """What a reload would change: the files on disk against what is live. Exits with 0 for nothing, 1 for something, more for a failure."""
    try:
        whose(session, client := session.client())
        changes = client.get("/v1/config/diff", PATIENCE)["changes"]
    except Trouble as trouble:
        trouble.code = NOT_COMPARED if trouble.code == FAILED else trouble.code
        raise
    if session.output == "csv":
        show.items(session, [{"change": change} for change in changes], [Column("change", lambda one: one["change"])])
    elif session.machine:
        show.data(session, changes)
    else:
        for change in changes:
            print(show.text_of(change))
    if any(change.partition(" ")[0] in FIXED for change in changes):
        session.warn("gatewayctl: a reload is refused: node and data_dir change with a restart alone")
    if changes:
        raise Done(DIFFERENT)
    session.say("the files are what is live")


@command(
    app,
    "history",
    """
    gatewayctl config history
    gatewayctl config history -o json
    """,
)
def history(session: Session) -> None:
    """The revisions that were live, oldest first: when, by whom, through what."""
    found = session.client().get("/v1/config/history")
    show.items(session, found["revisions"], REVISIONS, "no revisions yet")
    for sentence in found["damaged"]:
        session.warn(f"gatewayctl: {sentence}")


@command(
    app,
    "rollback",
    """
    gatewayctl config rollback            to what is live, when an edit was refused; else to the one before
    gatewayctl config rollback 12 --yes
    """,
)
def rollback(
    session: Session,
    rev: Annotated[
        int | None,
        typer.Argument(
            metavar="[REV]", help="Which one: gatewayctl config history. [default: what is live, if the files differ; else before]"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Go back to an earlier revision.

    Its files are put back in place and made live, in all workers or in none.
    Keys stay as they are today: a rollback brings no revoked key back.
    """
    from gatewayctl.commands.going_back import went_back

    client = session.client()
    whose(session, client)
    found = client.get("/v1/config/history")
    if not yes:
        _there_is(found, rev)
    if rev is None and found["back"]["rev"]:
        rev = int(found["back"]["rev"])
        session.say(found["back"]["why"])
    session.confirm(f"Go back to revision {rev}?", yes)
    number, answer = went_back(client, rev)
    if answer.get("ok"):
        session.say(": ".join(filter(None, (f"the files are those of revision {number} again", answer.get("restored", "")))))
    told(session, client, answer)


def _there_is(found: dict[str, Any], rev: int | None) -> None:
    """Nobody is asked about a revision that cannot be had. With --yes the gateway itself says so, and `audit.log` that it was tried."""
    if rev is None:
        if not found["back"]["rev"]:
            raise Trouble(found["back"]["why"])
    elif all(one["rev"] != rev for one in found["revisions"]):
        if damaged := next((one for one in found["damaged"] if one.startswith(f"revision {rev} ")), ""):
            raise Trouble(damaged, "Which others there are: gatewayctl config history")
        raise Trouble(f"there is no revision {rev} to go back to", "Which there are: gatewayctl config history")
