"""May the gateway read and write what it has to, and nobody else read what is secret? By the modes, for the user it runs as."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.config.named import named
from gateway.config.resolved import Tls
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, typed, wrong
from gatewayctl.programs import unfit

LONGEST = 90
"""Bytes of data_dir's path; the sockets in it have a limit."""
LOOKED_AT = 10_000
STAMP = "formats.json"


def look(case: Case) -> Findings:
    yield from _data_dir(case)
    yield from _formats(case)
    fine = 0
    for file, secret in sorted(secrets_of(case).items()):
        found = list(_file(case, file, secret))
        fine += not found
        yield from found
    if fine:
        yield ok(
            f"{fine} file(s) of the configuration can be read by {case.user.name}, those with secrets by nobody else", str(case.path.parent)
        )


def _data_dir(case: Case) -> Findings:
    folder, name = case.data_dir, case.user.name
    where = str(folder)
    if len(os.fsencode(folder)) > LONGEST:
        yield wrong(f"the path of data_dir has more than {LONGEST} bytes, and no socket fits into it", where, "choose a shorter data_dir")
    try:
        facts = folder.stat()
    except FileNotFoundError:
        yield from _missing(case)
        return
    except PermissionError:
        yield note(f"{folder} may not be looked at by you", where, "sudo gatewayctl doctor --only files")
        return
    if not stat.S_ISDIR(facts.st_mode):
        yield wrong("data_dir is no folder", where, f"mv {typed(folder)} {typed(f'{folder}.old')}")
        return
    try:
        able = case.user.may(folder, 7)
    except PermissionError:
        able = True
    owner = f"sudo chown -R {name}: {typed(folder)} && sudo chmod 750 {typed(folder)}"
    if not able:
        yield wrong(f"{name}, as whom the gateway runs, cannot write into data_dir", where, owner)
    elif facts.st_mode & 0o007:
        yield wrong(f"data_dir is open to everybody (mode {stat.S_IMODE(facts.st_mode):04o})", where, f"sudo chmod o-rwx {typed(folder)}")
    else:
        yield ok(f"data_dir belongs to {name}, mode {stat.S_IMODE(facts.st_mode):04o}", where)
    yield from _strangers(case, owner)


def _formats(case: Case) -> Findings:
    """Whether this version may start there. One that runs has found that out."""
    stamp = case.data_dir / STAMP
    if case.status is None and os.access(stamp, os.R_OK) and (why := unfit(case.path, case.data_dir)):
        yield wrong(why, str(stamp), "install the version that wrote there, or a newer one (docs/install.md)")


def _missing(case: Case) -> Findings:
    if case.data_dir.is_symlink():
        leads = os.path.realpath(case.data_dir)
        make = f"mount its disk, or: sudo install -d -o {case.user.name} -m 750 {typed(leads)}"
        yield wrong(f"data_dir is a link to {leads}, which is not there", str(case.data_dir), make)
        return
    above = next(parent for parent in case.data_dir.parents if parent.exists())
    try:
        able = case.user.may(above, 3)
    except PermissionError:
        able = False
    make = f"sudo install -d -o {case.user.name} -m 750 {typed(case.data_dir)}"
    if able or case.unit.get("LoadState") == "loaded":
        yield note("data_dir does not exist yet; the gateway makes it when it starts", str(case.data_dir))
    else:
        yield wrong(f"data_dir does not exist, and {case.user.name} cannot make it in {above}", str(case.data_dir), make)


def _strangers(case: Case, remedy: str) -> Findings:
    """Files that somebody else has made there: `gatewayctl serve` as root, once, is enough."""
    others = []
    try:
        for number, entry in enumerate(_walk(case.data_dir)):
            if number >= LOOKED_AT:
                break
            if entry.stat(follow_symlinks=False).st_uid != case.user.uid and case.user.uid != 0:
                others.append(entry.path)
    except PermissionError as error:
        yield note(f"{error.filename} may not be looked at by you", str(case.data_dir), "sudo gatewayctl doctor --only files")
        return
    except FileNotFoundError:  # a segment was sealed
        pass
    if others:
        yield wrong(f"{len(others)} file(s) in data_dir do not belong to {case.user.name}", others[0], remedy)


def _walk(folder: Path) -> "Iterator[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))


def secrets_of(case: Case) -> dict[Path, bool]:
    """Every file that the configuration needs → whether it holds a secret."""
    found = named(case.path, case.environ)
    return {file: kind == "secret" or file in found.literal for file, kind in found.files.items()}


def tls_of(case: Case) -> list[Tls]:
    """Every TLS part, each once."""
    if case.config is None:
        return []
    parts = [listener.tls for listener in case.config.listeners]
    for channel in case.config.channels.values():
        parts += [channel.tls, *channel.plane_tls.values()]
    return list({(part.cert, part.key, part.ca): part for part in parts if part is not None}.values())


def _file(case: Case, file: Path, secret: bool) -> Findings:
    try:
        mode = file.stat().st_mode
        readable = case.user.may(file, 4)
    except FileNotFoundError:
        return  # the configuration does not load, which is said there
    except OSError:
        yield note(f"{file} may not be looked at by you", str(file), "sudo gatewayctl doctor --only files")
        return
    if not readable:
        yield wrong(
            f"{case.user.name}, as whom the gateway runs, cannot read it",
            str(file),
            f"sudo chgrp {case.user.name} {typed(file)}; sudo chmod g+r {typed(file)}",
        )
    if secret and mode & stat.S_IROTH:
        yield wrong(
            f"it holds a secret and is readable by everybody (mode {stat.S_IMODE(mode):04o})", str(file), f"sudo chmod o-r {typed(file)}"
        )
    if mode & stat.S_IWOTH:
        yield wrong(f"everybody may write it (mode {stat.S_IMODE(mode):04o})", str(file), f"sudo chmod o-w {typed(file)}")
