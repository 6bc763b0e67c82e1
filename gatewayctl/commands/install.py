"""`gatewayctl install`: the single file puts itself in place, as a package would."""

import contextlib
import filecmp
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Final

import typer

from gatewayctl.command import alone, command
from gatewayctl.layout import MARK, USER, Layout, looked_for, must_be_root, packaged
from gatewayctl.programs import unfit
from gatewayctl.session import Session
from gatewayctl.trouble import FAILED, Trouble

app = alone()
KEPT: Final = 2
"""Versions that stay: this one and the one before, to go back to."""


@command(
    app,
    "install",
    """
    ./gatewayctl-1.0.0-linux-aarch64 install --enable
    gatewayctl install --prefix /opt/gateway
    """,
)
def install(
    session: Session,
    prefix: Annotated[Path, typer.Option("--prefix", metavar="DIR", readable=False, help="Where the program goes.")] = Path("/usr/local"),
    enable: Annotated[bool, typer.Option("--enable", help="Start the service now and at every boot.")] = False,
    root: Annotated[
        Path, typer.Option("--root", metavar="DIR", readable=False, help="Lay everything out below DIR instead; starts nothing.")
    ] = Path("/"),
) -> None:
    """Install this very program: a folder for its version, the link gatewayctl, the service, manual pages, its user, a first configuration.

    Again, with a newer file, it upgrades: a gateway that runs becomes the new version without a dropped request. What is
    in /etc/gateway and /var/lib/gateway stays as it is.
    """
    must_be_root(root)
    os.umask(0o022)  # whatever root's is: the service's user has to get at the program
    layout = Layout(root.absolute(), prefix.absolute())
    layout.must_not_be_packaged()
    source = packaged()
    _must_read(layout)
    before = layout.present()
    folder = _lay(source, layout, _version())
    _link(layout, folder)
    _units(layout, folder)
    _manual(layout, folder)
    if layout.root == Path("/"):
        _user()
    fresh = _configuration(layout, folder)
    _forget_old(layout, {folder, *filter(None, [before])})
    session.say(f"installed: {layout.link} -> {folder}")
    if layout.root == Path("/"):
        _serve(session, folder, enable)
    if fresh:
        session.say(f"A first configuration is in {layout.etc}. Add your engines and a key:")
        session.say(f"  {layout.link} init --force --engine vllm=http://10.0.0.6:8000")


def _must_read(layout: Layout) -> None:
    """What a newer version has written must not get an older one in its place."""
    from gateway.config.locate import data_dir_of

    config = layout.etc / "gateway.yaml"
    data = layout.at(data_dir_of(config)) if config.exists() else layout.data
    if why := unfit(config, data):
        raise Trouble(f"nothing was installed: {why}", code=FAILED)


def _version() -> str:
    from importlib.metadata import version

    return version("onprem-gateway")


def _lay(source: Path, layout: Layout, version: str) -> Path:
    """The folder of this version: whole or not there. One that is there is taken when it is the same."""
    first = layout.versions / version
    for folder in (first, *(first.with_name(f"{version}-{number}") for number in range(2, 1000))):
        if not folder.exists():
            break
        if folder == source or _same(folder, source):
            return folder  # any other was built anew under the same version: what runs from it keeps it
    half = folder.with_name(f".{folder.name}.{os.getpid()}")
    layout.versions.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, half, symlinks=True)
        for path in (half, *half.rglob("*")):
            if os.geteuid() == 0:
                os.chown(path, 0, 0, follow_symlinks=False)
        if not os.access(half / "gatewayctl", os.X_OK):
            hint = "It is mounted `noexec`: choose another --prefix."
            raise Trouble(f"nothing can be executed in {layout.versions}; nothing was installed", hint)
        half.replace(folder)
    except shutil.Error as error:  # every file that could not be copied, a thousand of them
        raise Trouble(f"{layout.versions} cannot be written; nothing was installed: {error.args[0][0][2]}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _same(one: Path, other: Path) -> bool:
    """Whether two folders have the same files with the same bytes. Sizes and the bill of materials are not enough: a compiled module may
    change without changing either."""
    files = [{path.relative_to(place) for path in place.rglob("*") if not path.is_dir()} for place in (one, other)]
    return files[0] == files[1] and not any(filecmp.cmpfiles(one, other, map(str, files[0]), shallow=False)[1:])


def _link(layout: Layout, folder: Path) -> None:
    if layout.link.exists() and not layout.link.is_symlink():
        raise Trouble(f"{layout.link} is there and is not ours", "Move it away, or choose another --prefix.")
    layout.link.parent.mkdir(parents=True, exist_ok=True)
    new = layout.link.with_name(f".gatewayctl.{os.getpid()}")
    new.symlink_to(os.path.relpath(folder / "gatewayctl", layout.link.parent))
    new.replace(layout.link)


def _units(layout: Layout, folder: Path) -> None:
    """The packaged units with our paths. One that somebody else wrote stays."""
    layout.units.mkdir(parents=True, exist_ok=True)
    for packed in sorted((folder / "share/systemd").iterdir()):
        unit = layout.units / packed.name
        if unit.exists() and MARK not in unit.read_text():
            continue
        text = packed.read_text().replace("/usr/bin/gatewayctl", str(layout.prefix / "bin/gatewayctl"))
        text = text.replace("/usr/share/doc/gateway", str(layout.prefix / "lib/gateway" / folder.name / "share/docs"))
        unit.write_text(f"{MARK}\n{text}")


def _manual(layout: Layout, folder: Path) -> None:
    """Links for man and the shells. A file that is there and not ours stays."""
    layout.unlink_manual()
    for file, place in looked_for(folder / "share"):
        link = layout.share / place
        if not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(file, link.parent))


def _user() -> None:
    """The service's user and group. A group of the name may be there already: `userdel` leaves one that has other members."""
    import grp
    import pwd

    wanted = []
    try:
        grp.getgrnam(USER)
    except KeyError:
        wanted.append(["groupadd", "--system", USER])
    try:
        pwd.getpwnam(USER)
    except KeyError:
        options = ["--system", "--gid", USER, "--no-create-home", "--home-dir", "/var/lib/gateway", "--shell", "/usr/sbin/nologin"]
        wanted.append(["useradd", *options, USER])
    for argv in wanted:
        try:
            subprocess.run(argv, check=True, stderr=subprocess.PIPE, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip()
            raise Trouble(f"{shlex.join(argv)} failed: {why}", "Make user and group by hand, then say this again.", FAILED) from error


def _configuration(layout: Layout, folder: Path) -> bool:
    """What is there stays. True when a first configuration was written."""
    import grp

    (layout.etc / "secrets").mkdir(parents=True, exist_ok=True)
    layout.etc.chmod(0o750)
    (layout.etc / "secrets").chmod(0o700)
    fresh = not (layout.etc / "gateway.yaml").exists()
    for file in sorted((folder / "share/configs").iterdir()) if fresh else ():
        target = layout.etc / file.name
        if file.is_file() and not target.exists():
            shutil.copyfile(file, target)
            target.chmod(0o640)
    with contextlib.suppress(KeyError, PermissionError):
        group = grp.getgrnam(USER).gr_gid
        ours = layout.etc.glob("*.*") if fresh else (layout.etc / file for file in ("gateway.yaml", "keys.yaml"))
        for path in (layout.etc, *filter(Path.exists, ours)):
            os.chown(path, 0, group)
    return fresh


def _forget_old(layout: Layout, kept: set[Path]) -> None:
    """Versions before the one before go, unless something still runs from them."""
    used = set()
    for process in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            used.add(process.readlink().parent)
    old = sorted((place for place in layout.versions.iterdir() if place.is_dir()), key=lambda place: place.stat().st_ctime, reverse=True)
    for place in old[KEPT:]:
        if place not in kept and place not in used:
            shutil.rmtree(place)


def _serve(session: Session, folder: Path, enable: bool) -> None:
    """A gateway that runs becomes this version; with `enable` one that does not is started."""
    systemd = Path("/run/systemd/system").is_dir()
    if systemd:
        subprocess.run(["systemctl", "daemon-reload"], check=True)
    if session.client().running():
        from gatewayctl.commands.upgrade import upgraded

        upgraded(session, folder / "gatewayctl")
    elif enable and not systemd:
        session.say("systemd does not run here: start the gateway yourself (gatewayctl serve)")
    if enable and systemd:
        subprocess.run(["systemctl", "enable", "--now", "gateway"], check=True)
