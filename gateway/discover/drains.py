"""Which channels and endpoints an operator has taken out of service: kept in a file, so that no restart brings them back."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

log = logging.getLogger("gateway.drains")

FORMAT: Final = 1
WHOLE: Final = ""
"""In place of an endpoint's URL: the whole channel, with endpoints that are yet to come."""


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """since, until: wall clock, seconds; until: None = until somebody takes it back. by: who asked for it."""

    channel: str
    endpoint: str = WHOLE
    by: str
    since: float
    until: float | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    drains: list[Drain]


class Drains:
    """All of them. Each change is on the disk before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._drains: dict[tuple[str, str], Drain] = {}

    @classmethod
    def of_file(cls, path: Path) -> "Drains":
        """What the file says. One that cannot be read is put aside and told: the gateway serves without it."""
        drains = cls(path)
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_File)
            if found.format != FORMAT:
                raise ValueError(f"it is in format {found.format}, this gateway reads {FORMAT}")
        except FileNotFoundError:
            return drains
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            log.error("%s cannot be read, nothing is drained: %s", path, error)
            with contextlib.suppress(OSError):
                os.replace(path, path.with_suffix(".bad"))
            return drains
        drains._drains = {(one.channel, one.endpoint): one for one in found.drains}
        return drains

    def of(self, channel: str, url: str) -> Drain | None:
        """Why an endpoint is drained: because its channel is, or it alone; None = it is not."""
        return self._drains.get((channel, WHOLE)) or self._drains.get((channel, url))

    def whole(self, channel: str) -> Drain | None:
        return self._drains.get((channel, WHOLE))

    def of_channel(self, channel: str) -> list[Drain]:
        """The drains of a channel and of its endpoints."""
        return [drain for drain in self._drains.values() if drain.channel == channel]

    def add(self, drain: Drain) -> None:
        """A second one of the same takes the place of the first. Raises OSError when it cannot be written down."""
        before = self._drains.get((drain.channel, drain.endpoint))
        since = before.since if before is not None else drain.since
        self._save({**self._drains, (drain.channel, drain.endpoint): msgspec.structs.replace(drain, since=since)})

    def remove(self, channel: str, endpoint: str = WHOLE) -> bool:
        """The endpoint's drain, or all of the channel. False: there was none. Raises OSError."""
        rest = {key: drain for key, drain in self._drains.items() if key[0] != channel or (endpoint != WHOLE and key[1] != endpoint)}
        if len(rest) == len(self._drains):
            return False
        self._save(rest)
        return True

    def over(self, now: float) -> list[Drain]:
        """Those whose time is over. now: wall clock."""
        return [drain for drain in self._drains.values() if drain.until is not None and drain.until <= now]

    def expire(self, now: float) -> list[Drain]:
        """Takes back those whose time is over, and names them. now: wall clock. Errors: none; they are over even if the disk is full."""
        over = self.over(now)
        if over:
            self._become({key: drain for key, drain in self._drains.items() if drain not in over})
        return over

    def shift(self, by: float) -> None:
        """The clock was put forward (or back, below 0) by so many seconds: each lasts as long as was asked for. Errors: none."""
        if self._drains:
            moved = {
                key: msgspec.structs.replace(drain, since=drain.since + by, until=None if drain.until is None else drain.until + by)
                for key, drain in self._drains.items()
            }
            self._become(moved)

    def _become(self, drains: dict[tuple[str, str], Drain]) -> None:
        """These from now on, even if the disk is full."""
        try:
            self._save(drains)
        except OSError as error:
            self._drains = drains
            log.error("%s cannot be written: %s", self._path, error)

    def _save(self, drains: dict[tuple[str, str], Drain]) -> None:
        """A rename, so that a crash leaves the old file or the new one."""
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(_File(format=FORMAT, drains=list(drains.values()))) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._drains = drains
