"""May a command work on the ledger's files itself? While no gateway runs; not while one's control is only being started again."""

from pathlib import Path
from typing import Final

from gatewayctl.session import Session
from gatewayctl.trouble import UNREACHABLE, Trouble

LOCKS: Final = Path("/proc/locks")


def take_over(session: Session, trouble: Trouble, said: str) -> None:
    """Returns, having said `said`, when nobody is there who would do it. trouble: of asking control. Raises Trouble."""
    if trouble.code != UNREACHABLE or session.socket_option is not None:
        raise trouble
    folder = session.socket.parent
    owner = owner_of(folder / "lock")
    if owner is not None:
        raise unheard(folder, owner)
    session.say(said)


def unheard(folder: Path, owner: int) -> Trouble:
    """What is said where a supervisor (owner: its pid) has the data directory, and nobody listens there."""
    return Trouble(
        f"the gateway of {folder} runs (pid {owner}), but its control does not answer: it may be starting",
        "Requests are served meanwhile. Try again in a moment; the log says why, when it lasts.",
        UNREACHABLE,
    )


def owner_of(lock: Path, locks: Path = LOCKS) -> int | None:
    """The pid of the supervisor that holds a data directory. The kernel's list is read: to try the lock could keep a gateway from starting.
    None: nobody has it, or it cannot be told."""
    try:
        pid, inode = int(lock.read_text()), lock.stat().st_ino
        held = locks.read_text().splitlines()
    except (OSError, ValueError):
        return None
    for line in held:  # 1: FLOCK  ADVISORY  WRITE 6993 fd:01:131074 0 EOF
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[4] == str(pid) and words[5].endswith(f":{inode}"):
            return pid
    return None
