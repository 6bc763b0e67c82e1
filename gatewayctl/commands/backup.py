"""`gatewayctl backup`: a consistent copy of configuration, keys, journal, ledger and counters, while the gateway serves."""

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.commands.version import PROGRAM, version_of
from gatewayctl.session import Session
from gatewayctl.trouble import BAD_CONFIG, FORBIDDEN, USAGE, Trouble
from gatewayctl.words import plural, size

if TYPE_CHECKING:
    from gatewayctl.backup.contents import Item, Left
    from gatewayctl.backup.manifest import Manifest
    from gatewayctl.place import Place

app = alone()
FILES = (".tar", ".tar.gz", ".tgz")


@command(
    app,
    "backup",
    """
    gatewayctl backup /var/backups/gateway --keep 7     a new file in this folder; the seven newest stay
    gatewayctl backup before-the-upgrade.tar
    gatewayctl backup everything.tar.gz --with-secrets
    gatewayctl backup small.tar.gz --without-ledger     its database is made anew from the journal when it is restored
    gatewayctl restore --check before-the-upgrade.tar
    """,
)
def backup(
    session: Session,
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE.tar", readable=False, help="A folder, or a file .tar, .tar.gz or .tgz.")],
    keep: Annotated[int | None, typer.Option("--keep", min=1, metavar="N", help="In a folder, delete all but the newest N.")] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Take files of ${file:…}, private keys and resolved revisions along.")
    ] = False,
    without_ledger: Annotated[
        bool, typer.Option("--without-ledger", help="Leave the ledger's database out: journal and archives are enough to make it anew.")
    ] = False,
) -> None:
    """Copy configuration, keys, revisions, counters of limits, drains, freezes, audit log, journal and ledger into one file, mode 0600.

    The gateway may serve meanwhile. References to secrets stay references; what is not in the backup is said. A ledger that is damaged,
    or cannot be copied in ten minutes, is left out with a warning.
    """
    whole = target.name.endswith(FILES) and not target.is_dir()
    if keep is not None and whole:
        raise Trouble("--keep is about backups in a folder, and this is a file", code=USAGE)
    if not session.config.exists():
        raise Trouble(f"there is no configuration {session.config}", "Say which: --config FILE", BAD_CONFIG)
    from gatewayctl.backup.ledger import copied
    from gatewayctl.backup.writing import keep as keep_newest
    from gatewayctl.backup.writing import name_of, sweep
    from gatewayctl.place import place_of

    at, now = place_of(session), time.time()
    node = at.node(session.config)
    file = target if whole else target / name_of(node, now)
    sweep(file.parent, file.name if whole else f"gateway-backup-{node}-*")
    ledger = at.ledger(session)
    _room(file, at.data_dir, None if without_ledger else ledger)
    with copied(session, at, ledger, file, wanted=not without_ledger) as copy:
        manifest, literal = _written(session, file, at, ledger, copy, with_secrets, now)
    gone = keep_newest(target, node, keep) if keep is not None else []
    for path in literal:
        session.say(f"{path} holds a secret in plain text, so the backup does too")
    for one in manifest.left_out:
        session.say(f"not in it: {one['path']} ({one['why']})")
    total = sum(entry.size for entry in manifest.files)
    if session.machine:
        told = {"file": str(file), "files": len(manifest.files), "bytes": total, "left_out": manifest.left_out}
        show.data(session, {**told, "deleted": [str(path) for path in gone]})
    else:
        print(f"{file}: {plural(len(manifest.files), 'file')}, {size(total)}")


def _written(
    session: Session, file: Path, at: "Place", ledger: Path, copy: "Iterable[Item | Left]", with_secrets: bool, now: float
) -> "tuple[Manifest, list[Path]]":
    """The backup, whole and on the disk; YAML files in it with a secret in plain text."""
    from gatewayctl.backup.contents import DATA, of_configuration, of_data
    from gatewayctl.backup.manifest import Manifest
    from gatewayctl.backup.writing import writing

    try:
        with writing(file) as backup:
            items, left, literal = of_configuration(session.config, at.environ, with_secrets)
            backup.take([*items, *left])
            if at.data_dir.is_dir():
                backup.folder(at.data_dir, DATA)
            backup.take(copy)
            backup.take_all(lambda known: of_data(at.data_dir, ledger, at.serving, with_secrets, known))
            manifest = Manifest(
                node=at.node(session.config),
                version=version_of(PROGRAM) or "",
                created=round(now, 3),
                config=os.path.abspath(session.config),
                data_dir=str(at.data_dir),
                with_secrets=with_secrets,
                files=backup.entries,
                left_out=[{"path": path, "why": why} for path, why in backup.left.items()],
            )
            backup.finish(manifest)
    except PermissionError as error:
        raise Trouble(f"{error.filename}: you may not read or write it", "sudo, or as the gateway's user", FORBIDDEN) from error
    return manifest, literal


def _room(file: Path, data_dir: Path, ledger: Path | None) -> None:
    """A backup that fills the disk would stop the journal."""
    from gatewayctl.backup.writing import need

    folder = next(parent for parent in file.absolute().parents if parent.exists())
    wanted, free = need(data_dir, ledger), shutil.disk_usage(folder).free
    if wanted > free:
        raise Trouble(f"{folder} has {size(free)} free, and the backup may take {size(wanted)}", "Put it on another disk.")
