"""`gatewayctl keys rotate|disable|enable|revoke`: what becomes of a key that is there."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import Client
from gatewayctl.command import command
from gatewayctl.commands.done import well_done
from gatewayctl.commands.live import changing, client_of_these_files, load_for_keys
from gatewayctl.commands.newkey import from_stdin, made, moment_text
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import since

Id = Annotated[str, typer.Argument(help="Which one: gatewayctl keys.")]
LetFinish = Annotated[bool, typer.Option("--let-finish", help="Do not break its open requests off.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
OVERLAP_MOST = 366 * 86400.0


def add_to(app: typer.Typer) -> None:
    """The verbs, for the noun `keys`."""
    command(
        app,
        "rotate",
        """
        gatewayctl keys rotate k7f3                       the old secret is good for another 24 hours
        gatewayctl keys rotate k7f3 --overlap 7d
        gatewayctl keys rotate k7f3 --overlap 0s          it has leaked: nobody gets in with it any more
        """,
    )(rotate)
    command(app, "disable", "gatewayctl keys disable k7f3\ngatewayctl keys disable k7f3 --let-finish")(disable)
    command(app, "enable", "gatewayctl keys enable k7f3")(enable)
    command(
        app,
        "revoke",
        """
        gatewayctl keys revoke k7f3
        gatewayctl keys revoke k7f3 --yes
        gatewayctl keys revoke k7f3 --let-finish    its open requests end in peace
        """,
    )(revoke)


def rotate(
    session: Session,
    id: Id,
    overlap: Annotated[str, typer.Option("--overlap", metavar="TIME", help="How long the old secret stays good: 30m, 7d.")] = "24h",
    let_finish: LetFinish = False,
    import_secret: Annotated[str | None, typer.Option("--import-secret", metavar="-", help="Take the new secret from stdin.")] = None,
) -> None:
    """Give a key another secret. The old one stays good for a while; what else the key is does not change.

    Returns when every worker knows. The new secret goes to stdout, once. A secret before the old one is refused at once.
    """
    from gateway.config.edit import set_in_key

    seconds = _seconds(overlap)
    client, file = _found(session, id)
    new = made(id, from_stdin(import_secret))
    until = moment_text(time.time() + seconds)
    act = f"keys rotate {id} --overlap {overlap}{' --let-finish' if let_finish else ''}"
    with changing(session.config, client, act, spare=[id] if let_finish else []) as change:
        before = next((str(key.hash) for key in load_for_keys(session.config).config.keys if key.id == id), "")
        previous = {"hash": before, "until": until} if seconds and before else None
        change.undo.callback(set_in_key(file, id, {"hash": new.hash, "previous": previous}).undo)
    told: dict[str, Any] = {"id": id, "file": str(file), "previous_until": until if seconds else None, "live": client is not None}
    if session.machine:
        show.data(session, {**told, **({"secret": new.secret} if new.secret else {})})
    elif new.secret:
        print(new.secret)
    old = f"the old one is good until {until}" if seconds else "the old one is good no longer"
    session.say(f"key {id} has another secret{'' if client else ' when the gateway starts, which is not running now'}; {old}")
    if new.secret:
        session.say("The secret is shown this once and kept nowhere.")
    well_done(change.answer)


def disable(session: Session, id: Id, let_finish: LetFinish = False) -> None:
    """Let nobody in with a key until it is enabled again. Its open requests end with an error, unless they may finish.

    Returns when every worker knows.
    """
    _enabled(session, id, False, let_finish)


def enable(session: Session, id: Id) -> None:
    """Let a disabled key in again. Returns when every worker knows."""
    _enabled(session, id, True, False)


def _enabled(session: Session, id: str, wanted: bool, let_finish: bool) -> None:
    from gateway.config.edit import ConfigError, set_in_key

    client, file = _found(session, id)
    act = f"keys {'enable' if wanted else 'disable'} {id}{' --let-finish' if let_finish else ''}"
    try:
        with changing(session.config, client, act, spare=[id] if let_finish else []) as change:
            change.undo.callback(set_in_key(file, id, {"enabled": None if wanted else False}).undo)
    except ConfigError:
        if not wanted:
            _still_good(session, id)
        raise
    if session.machine:
        show.data(session, {"id": id, "file": str(file), "enabled": wanted, "live": client is not None})
    session.say(f"key {id} is {'enabled' if wanted else 'disabled'}{' in every worker' if client else '; the gateway is not running'}")
    well_done(change.answer)


def revoke(session: Session, id: Id, yes: Yes = False, let_finish: LetFinish = False) -> None:
    """Take a key out of its file, in all workers.

    Returns when no worker lets anybody in with it any more. Its open requests end with an error, unless they may finish.
    """
    from gateway.config.edit import ConfigError, remove_key

    client, file = _found(session, id)
    session.confirm(f"Revoke key {id} in {file}? Its callers are refused at once.", yes)
    act = f"keys revoke {id}{' --let-finish' if let_finish else ''}"
    gone = needed = False
    try:
        with changing(session.config, client, act, spare=[id] if let_finish else []) as change:
            taken = remove_key(file, id)
            gone = True

            def put_back() -> None:
                """Without it the files are wrong: a rule names it. Whatever else went wrong, it stays out, for the next reload."""
                nonlocal gone, needed
                if client is None or change.answer.get("mistakes"):
                    taken.undo()
                    gone, needed = False, True

            change.undo.callback(put_back)
    except BaseException as error:
        if gone and client is not None:
            session.warn(f"gatewayctl: key {id} is out of {file}, but it may be STILL VALID in the running gateway:")
        elif needed and isinstance(error, ConfigError):
            stops = f"what stops it now: gatewayctl freeze --key {id}"
            session.warn(f"gatewayctl: key {id} is not revoked, because the files would be wrong without it; {stops}")
        elif isinstance(error, ConfigError):
            _still_good(session, id)
        raise
    if session.machine:
        show.data(session, {"id": id, "file": str(file), "live": False})
    session.say(f"key {id} is revoked" + (" in every worker" if client else "; the gateway is not running"))
    well_done(change.answer)


def _still_good(session: Session, id: str) -> None:
    """Said before the mistakes that kept a command from stopping a key."""
    session.warn(f"gatewayctl: key {id} is as good as before, as long as this is wrong; what stops it now: gatewayctl freeze --key {id}")


def _found(session: Session, id: str) -> tuple[Client | None, Path]:
    """Whom to tell, and the file that holds the key. Raises Trouble when there is none, ConfigError when a broken file may hold it."""
    from gateway.config.edit import ConfigError, file_of_key
    from gateway.config.wording import nearest

    client = client_of_these_files(session)
    file = file_of_key(session.config, id)
    if file is None:
        try:
            known = [one.id for one in load_for_keys(session.config).config.keys]
        except ConfigError:
            session.warn(f"gatewayctl: key {id} is not found as long as this is wrong; what stops it now: gatewayctl freeze --key {id}")
            raise
        hint = nearest(id, known) or "Which there are: gatewayctl keys"
        raise Trouble(f"there is no key {id!r} in {session.config} and its includes", hint)
    return client, file


def _seconds(text: str) -> float:
    try:
        seconds = -since(text, 0.0)  # a duration counts back from now
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= OVERLAP_MOST:
        raise Trouble(f"--overlap wants a duration, such as 30m or 7d, 366d at most, 0s for none, not {text!r}", code=USAGE)
    return seconds
