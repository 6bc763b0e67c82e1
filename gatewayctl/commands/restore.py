"""`gatewayctl restore`: brings a backup back, in its place or below another folder. Changes nothing before every byte is verified."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.session import DEFAULT_CONFIG, Session
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import moment, plural

if TYPE_CHECKING:
    from gatewayctl.backup.restoring import Restored

app = alone()


@command(
    app,
    "restore",
    """
    gatewayctl restore --check backup.tar              is it whole? Changes nothing
    gatewayctl restore backup.tar --yes                where it was; what is there stays as *.before-restore
    gatewayctl restore backup.tar --into /tmp/look     everything below this folder
    """,
)
def restore(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="What `gatewayctl backup` has written.")],
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", readable=False, help="Not where it was, but as DIR/config and DIR/data.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only verify it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Bring configuration, keys, counters and journal back as they were. Refused while a gateway runs on that data_dir.

    The whole backup is verified first; a damaged or torn one changes nothing. Keys are those of the backup: one that was revoked
    since works again.
    """
    from gatewayctl.backup.reading import verified
    from gatewayctl.backup.restoring import in_place
    from gatewayctl.backup.restoring import into as below

    if check and into is not None:
        raise Trouble("--check changes nothing, so there is no --into", code=USAGE)
    manifest = verified(file)
    head = f"{file}: {plural(len(manifest.files), 'file')} of {manifest.node}, {moment(manifest.created)}"
    if check:
        told = {"file": str(file), "node": manifest.node, "created": manifest.created, "version": manifest.version}
        if session.machine:
            show.data(session, {**told, "files": len(manifest.files), "left_out": manifest.left_out})
        else:
            print(f"{head}: whole")
        return
    if into is None:
        session.confirm(f"{head}. Put it in place of {manifest.data_dir} and of the files of {manifest.config}?", yes)
    _tell(session, below(file, manifest, into) if into is not None else in_place(file, manifest))
    if not file.exists():
        session.warn(f"{file} lay in what changed places: the backups there are in what was there now. Move them before you delete that")


def _tell(session: Session, done: "Restored") -> None:
    if session.machine:
        before = [str(path) for path in done.before]
        show.data(
            session,
            {
                "config": str(done.config),
                "data_dir": str(done.data_dir),
                "before": before,
                "missing": done.missing,
                "strangers": done.strangers,
            },
        )
    else:
        print(f"restored: {done.config} and {done.data_dir}")
    for path in done.before:
        session.say(f"what was there: {path}")
    for needed in done.missing:
        session.warn(f"not in the backup, and needed: {needed}")
    if done.strangers:
        session.warn(f"nobody here is {', '.join(done.strangers)}: what was theirs is root's. Install the gateway, then restore once more")
    option = "" if str(done.config) == DEFAULT_CONFIG else f" --config {shlex.quote(str(done.config))}"
    session.say(f"Next: gatewayctl config check{option}, then start the gateway")
