"""The files about to be changed, and the gateway that runs with them: is it the same, would it take them, and did it?"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gatewayctl.client import Client
from gatewayctl.commands.reload import PATIENCE, refused
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble

if TYPE_CHECKING:
    from gateway.config.load import Loaded

Mends = Callable[[str], bool]
"""Whether an edit mends a mistake, by its message."""

TURN: Final = 30.0
"""Seconds that a command waits for others that change the same files."""


def client_of_these_files(session: Session) -> Client | None:
    """Whom to tell that the files have changed; None when no gateway runs. Raises Trouble when another gateway's socket was named."""
    client = session.client()
    if not client.running():
        return None
    theirs = (client.get("/v1/status").get("config") or {}).get("path")
    if theirs and os.path.realpath(theirs) != os.path.realpath(session.config):
        raise Trouble(f"the gateway on {client.path} runs with {theirs}, not with {session.config}", f"Say: --config {theirs}", USAGE)
    return client


def _without_mistakes(config: Path, client: Client | None, mends: Mends | None) -> None:
    """Raises ConfigError when the files are wrong already, and not only in what is about to be mended."""
    try:
        if client is None:
            load_for_keys(config)
        else:
            _known_mistakes(client)
    except Exception as error:
        mistakes = getattr(error, "mistakes", ())
        if mends is None or not mistakes or not all(mends(mistake.message) for mistake in mistakes):
            raise


def _known_mistakes(client: Client) -> None:
    """Raises ConfigError when the running gateway has refused the files already, and would refuse them again. It judges, since it has
    the environment that they refer to."""
    last = (client.get("/v1/status").get("config") or {}).get("last_reload") or {}
    if not last.get("ok", True):
        client.get("/v1/config/diff", PATIENCE)


class Change:
    """A change of the files that is on its way to the gateway. `undo` what fails; `answer` is what the gateway said of it."""

    def __init__(self) -> None:
        self.undo = contextlib.ExitStack()
        self.answer: dict[str, Any] = {}


def announce(client: Client, what: str, spare: Sequence[str] = ()) -> int:
    """Says that files are about to be edited; the number goes with the reload that ends it. See `changing`."""
    return int(client.post("/v1/acts", {"what": what, "spare": list(spare)})["act"])


@contextlib.contextmanager
def changing(config: Path, client: Client | None, what: str, *, spare: Sequence[str] = (), mends: Mends | None = None) -> Iterator[Change]:
    """Around an edit of the files: it is announced, so that the gateway's watcher does not come first, and live when the block is over.

    what: the command, for the audit log: `keys revoke k7f3`. spare: ids of keys whose open requests may end in peace. Whatever goes
    wrong, in the block or after it, does what the block has put into `undo.callback(…)`, and is raised. Files that are wrong already are
    not touched, unless the edit `mends` all that is wrong. Without a gateway (None) they are only checked. Another command waits until
    the block is over: what it reads in its own block is what this one has left, and neither takes back, or is refused for, what the
    other wrote.
    """
    from gateway.config.compose import no_collecting

    with in_turn(config), _keys_file_made(config), no_collecting():
        _without_mistakes(config, client, mends)
        yield from _changed(config, client, what, spare)


def _changed(config: Path, client: Client | None, what: str, spare: Sequence[str]) -> Iterator[Change]:
    act = announce(client, what, spare) if client is not None else None
    change = Change()
    try:
        yield change
        if client is None:
            load_for_keys(config)
        else:
            change.answer = client.post("/v1/reload", {"act": act, "undone": True}, PATIENCE)
            if not change.answer.get("ok"):
                raise refused(change.answer)
    except BaseException as error:
        try:
            change.undo.close()
        except Exception as left:
            raise Trouble(f"{_said(error)}; and what was written could not be taken back: {_said(left)}", "Edit it by hand.") from error
        raise


def _said(error: BaseException) -> str:
    return "; ".join(mistake.message for mistake in getattr(error, "mistakes", ())) or str(error) or type(error).__name__


@contextlib.contextmanager
def in_turn(config: Path) -> Iterator[None]:
    """One command after the other, by a lock on the folder of the configuration. Where none can be had, and after TURN seconds, it goes on
    without: each edit by itself is safe."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder = os.open(Path(os.path.realpath(config)).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, folder)
            end = time.monotonic() + TURN
            while not _locked(folder) and time.monotonic() < end:
                time.sleep(0.02)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _keys_file_made(config: Path) -> Iterator[None]:
    """An included `keys.yaml` that does not exist yet is there inside the block, and stays when it ends well."""
    from gateway.config.edit import make_keys_file

    made = make_keys_file(config)
    try:
        yield
    except BaseException:
        if made is not None:
            made.unlink(missing_ok=True)
        raise


def load_for_keys(config: Path, instead: Mapping[str, str] | None = None) -> "Loaded":
    """The configuration, for what it says of keys: variables that only the service's environment has are no mistake here. instead: texts
    that files are read as if they had."""
    from gateway.config.absent import Environment
    from gateway.config.load import load

    return load(config, Environment(), instead)
