"""`gatewayctl uninstall`: takes back what `gatewayctl install` did. Configuration and data stay, unless they are to go too."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from gatewayctl.command import alone, command
from gatewayctl.layout import MARK, USER, Layout, must_be_root
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble

app = alone()


@command(
    app,
    "uninstall",
    """
    gatewayctl uninstall
    gatewayctl uninstall --purge --yes     configuration, keys, journal and user as well
    """,
)
def uninstall(
    session: Session,
    prefix: Annotated[Path, typer.Option("--prefix", metavar="DIR", readable=False, help="As at the installation.")] = Path("/usr/local"),
    purge: Annotated[bool, typer.Option("--purge", help="Delete /etc/gateway, /var/lib/gateway and the user too.")] = False,
    root: Annotated[Path, typer.Option("--root", metavar="DIR", readable=False, help="As at the installation.")] = Path("/"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the service and remove the program. /etc/gateway and /var/lib/gateway stay, unless --purge is said."""
    must_be_root(root)
    layout = Layout(root.absolute(), prefix.absolute())
    layout.must_not_be_packaged()
    if not layout.link.is_symlink() and not layout.versions.is_dir() and not (purge and layout.etc.is_dir()):
        raise Trouble(f"nothing is installed below {layout.prefix}", "Say the --prefix that it was installed with.")
    if purge:
        session.confirm("The journal of all requests, the keys and the configuration will be deleted.", yes)
    here = layout.root == Path("/")
    if here:
        _stop(session)
    for unit in layout.units.glob("gateway*"):
        if unit.is_file() and MARK in unit.read_text():
            unit.unlink()
    layout.unlink_manual()
    if here and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=False)
    layout.link.unlink(missing_ok=True)
    if purge:
        for place in (layout.etc, layout.data):
            shutil.rmtree(place, ignore_errors=True)
        _orphan(layout)
        if here:
            for argv in (["userdel", USER], ["groupdel", USER]):  # `userdel` leaves a group that has other members
                subprocess.run(argv, check=False, stderr=subprocess.DEVNULL)
    kept = "" if purge else f"; {layout.etc} and {layout.data} stay"
    session.say(f"removed: {layout.link}, {layout.versions}{kept}")
    # The last act, by another program: this one may well run from there.
    gone = [str(layout.versions), *([str(layout.at("/var/cache/gatewayctl"))] if purge else [])]
    os.execvp("rm", ["rm", "-rf", "--", *gone])


def _stop(session: Session) -> None:
    """Whoever has started it: nothing is taken away from under a gateway that runs. Raises Trouble."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", "--now", "gateway", "gateway-backup.timer"], check=False)
    client = session.client()
    if client.running():
        stop = f"Stop it first, as it was started; its pid is in {client.path.with_name('lock')}"
        raise Trouble("a gateway runs here that is not the service; nothing was removed", stop)


def _orphan(layout: Layout) -> None:
    """Backups and what a restore has put aside stay, and must not become the next user's who gets the number of ours."""
    layout.at("/var/lib/systemd/timers/stamp-gateway-backup.timer").unlink(missing_ok=True)
    for kept in (layout.at("/var/lib/gateway-backup"), *layout.data.parent.glob(f"{layout.data.name}.before-restore*")):
        for path in (kept, *kept.rglob("*")) if kept.is_dir() and os.geteuid() == 0 else ():
            os.chown(path, 0, 0, follow_symlinks=False)
