"""`gatewayctl init`: writes a first configuration and a first key. Asks nothing, overwrites nothing unless told to."""

import contextlib
import itertools
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.programs import probe, right_url
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble

app = alone()
KINDS: Final = ("mindie", "vllm", "sglang", "openai", "auto")
TENANT: Final = "default"
PROJECT: Final = "default"
MODES: Final = {"gateway.yaml": 0o640, "keys.yaml": 0o640}
Engine = tuple[str, str, dict[str, Any] | None]


@command(
    app,
    "init",
    """
    gatewayctl init
    gatewayctl init --engine mindie=https://10.0.0.5:1025
    gatewayctl init --engine vllm=http://10.0.0.6:8000 --engine auto=http://10.0.0.7:30000
    gatewayctl init --dir ./gw --data-dir ./gw/data --bind 127.0.0.1:8080     to try it out
    """,
)
def init(
    session: Session,
    dir: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", readable=False, help="Where the files go. [default: the folder of --config]")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", metavar="KIND=URL", help=f"An engine; repeat it. KIND: {', '.join(KINDS)}.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Its model, when an engine does not answer or serves several.")
    ] = None,
    data_dir: Annotated[Path, typer.Option("--data-dir", metavar="DIR", readable=False, help="Where its journal will be.")] = Path(
        "/var/lib/gateway"
    ),
    bind: Annotated[str, typer.Option("--bind", metavar="HOST:PORT", help="Where callers reach it.")] = "0.0.0.0:8080",
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that are there; they are kept as *.bak, *.bak.2 and so on.")
    ] = False,
) -> None:
    """Write a commented gateway.yaml and keys.yaml, with a first key.

    Asks nothing. Engines that answer are filled in with their models. The key's secret goes to stdout, once.
    """
    from gateway.config.starter import starter

    _right_bind(bind)
    _each_once(engine or [])
    engines = [_asked(session, text, model) for text in engine or []]
    try:
        texts = starter(engines, data_dir=str(data_dir.absolute()), bind=bind)
    except ValueError as error:
        raise Trouble(f"an engine's URL is wrong: it {error}", code=USAGE) from error
    folder = _folder(session, dir)
    with _all_or_nothing(folder, list(texts), force) as kept:
        files = [_write(folder / name, text) for name, text in texts.items()]
        secret, key, file = _first_key(folder)
    if session.machine:
        told = {"secret": secret, **key, "file": str(file), "live": False}
        show.data(session, {"files": [str(file) for file in files], "key": told})
    else:
        print(secret)
    for file, backup in kept.items():
        session.say(f"{file} was there before: it is {backup} now.")
    _next_steps(session, folder, engines, bind)


def _folder(session: Session, dir: Path | None) -> Path:
    """Where the files go: as said, or where the main file is looked for."""
    if dir is None and session.config.name != "gateway.yaml":
        raise Trouble(f"the file is named gateway.yaml, and the configuration {session.config}", "Say in which folder: --dir DIR", USAGE)
    return (dir or session.config.parent).absolute()


def _each_once(engines: list[str]) -> None:
    """One address twice would get twice its share of the load."""
    from gateway.config.fields import url_of

    seen = set()
    for _, url in map(_parted, engines):
        if url_of(url) in seen:
            raise Trouble(f"--engine names {url} twice", code=USAGE)
        seen.add(url_of(url))


def _parted(text: str) -> tuple[str, str]:
    """Of `KIND=URL`."""
    kind, sign, url = text.partition("=")
    if not sign or kind not in KINDS or not url.startswith(("http://", "https://")):
        raise Trouble(f"--engine wants KIND=URL, such as mindie=https://10.0.0.5:1025, not {text!r}", f"KIND: {', '.join(KINDS)}", USAGE)
    right_url(url)
    return kind, url


def _asked(session: Session, text: str, model: str | None) -> Engine:
    """`KIND=URL`, and what answers there. None: nothing answers."""
    kind, url = _parted(text)
    try:
        found = probe(url)
    except Trouble as trouble:
        found = {"error": trouble.message}
    names = [one.get("id") for one in found.get("models") or []]
    session.say(_heard(url, found, names))
    if model is not None:
        if names and model not in names:
            session.say(f"{url} does not say that it serves {model}")
        found["models"] = [{"id": model}]
    return kind, url, found if found.get("reachable") or model else None


def _heard(url: str, found: dict[str, Any], names: list[Any]) -> str:
    from gateway.config.starter import asks_for_a_key

    if not found.get("reachable"):
        return f"{url} does not answer yet: {found.get('error') or 'nobody there'}"
    about = found.get("engine")
    if asks_for_a_key(found):
        return f"{url}{f' is {about} and' if about else ''} asks for a key ({found['status']}): its models are not known"
    why = f" ({found['error']})" if found.get("error") and not names else ""
    return f"{url} is {about or 'none of our engines'}, models: {', '.join(map(str, names)) or f'none told{why}'}"


def _right_bind(bind: str) -> None:
    from gateway.config.fields import address_of

    try:
        address_of(bind)
    except ValueError as error:
        raise Trouble(f"--bind wants HOST:PORT, such as 0.0.0.0:8080, not {bind!r}", code=USAGE) from error


@contextlib.contextmanager
def _all_or_nothing(folder: Path, names: list[str], force: bool) -> Iterator[dict[Path, Path]]:
    """Under which name each file that was there is kept. It stays in its place until it is replaced, for a gateway that runs, and comes
    back when something cannot be written."""
    there = [folder / name for name in names if (folder / name).exists()]
    ours = [file for file in there if file.name in MODES]
    if ours and not force:
        raise Trouble(f"{', '.join(map(str, ours))}: there already, and not overwritten", "--force replaces them and keeps them as *.bak.")
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    kept = {file: _keep(file) for file in ours}
    try:
        yield kept
    except BaseException:
        for name in names:
            if (file := folder / name) in kept:
                os.replace(kept[file], file)
                kept[file].unlink(missing_ok=True)  # two names of one file are not replaced
            elif file not in there:
                file.unlink(missing_ok=True)
        raise


def _keep(file: Path) -> Path:
    """A second name of it: that needs no room on a disk that is full, and what replaces it leaves the old one alone."""
    kept = _free(file)
    if file.is_symlink():
        os.replace(file, kept)  # what it leads to is not ours to write
        return kept
    try:
        os.link(file, kept)
    except OSError:  # not every file system has second names
        shutil.copy2(file, kept)
    return kept


def _free(file: Path) -> Path:
    """A name that nothing has: an earlier backup may be the only copy of what somebody wrote by hand."""
    names = (file.with_name(f"{file.name}.bak{f'.{number}' if number > 1 else ''}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _first_key(folder: Path) -> tuple[str | None, dict[str, Any], Path]:
    """Its secret, its words, and the file that it is in now."""
    from gateway.config.edit import add_keys, keys_file
    from gatewayctl.commands.newkey import made

    made_one, file = made(None, None), keys_file(folder / "gateway.yaml")
    key = {"id": made_one.id, "tenant": TENANT, "project": PROJECT, "models": ["*"], "label": "the first key, made by gatewayctl init"}
    add_keys(file, [{"id": made_one.id, "hash": made_one.hash, **key}])
    return made_one.secret, key, file


def _write(file: Path, text: str) -> Path:
    """Owned by the folder's group, so that the service's user can read what root has written."""
    from gateway.config import files

    files.write(file, text.encode())
    file.chmod(MODES.get(file.name, 0o644))
    with contextlib.suppress(PermissionError):
        os.chown(file, -1, file.parent.stat().st_gid)
    return file


def _next_steps(session: Session, folder: Path, engines: list[Engine], bind: str) -> None:
    from gateway.config.starter import asks_for_a_key, channel_names
    from gateway.config.unfinished import PLACEHOLDER

    file = folder / "gateway.yaml"
    quoted = shlex.quote(str(file))
    option = "" if folder == Path("/etc/gateway") else f" --config {quoted}"
    session.say(f"Written: {file}, {folder / 'keys.yaml'}. The secret above is shown this once.")
    session.say("Next:")
    named = list(zip(channel_names(engines), (facts or {} for _, _, facts in engines), strict=True))
    for name in (name for name, facts in named if asks_for_a_key(facts)):
        session.say(f"  edit {quoted}        channels.{name}.credential: the engine's key")
    if not engines or not all(facts.get("models") or asks_for_a_key(facts) for _, facts in named):
        session.say(f"  edit {quoted}        engines under channels, their models under models")
    session.say(f"  gatewayctl config check{option}")
    session.say(f"  gatewayctl serve{option}        or: systemctl enable --now gateway")
    for name in (name for name, facts in named if asks_for_a_key(facts) and not facts.get("models")):
        session.say(f"  gatewayctl channels probe {name}{option}        tells its models: write one in place of {PLACEHOLDER}")
    session.say(f"  curl http://{_reached(bind)}/v1/models -H 'Authorization: Bearer <the secret>'")


def _reached(bind: str) -> str:
    """Where somebody on this machine reaches it."""
    host, _, port = bind.rpartition(":")
    return f"{ {'': '127.0.0.1', '0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"
