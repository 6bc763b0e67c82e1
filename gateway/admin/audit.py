"""Who did what, when, and what was before and after: the audit log, as control writes it. Each line is on the disk before its act is
answered; one that cannot be written is said loudly, and holds no act up."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.admin.peer import uid_of
from gateway.config import audit_file
from gateway.config.diff import Change

log = logging.getLogger("gateway.audit")

CHANGES_MOST: Final = 500
"""Changes of one reload that are written out; of more, their number is said."""


class Audit:
    """The log of one gateway."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / audit_file.NAME
        self._writing = asyncio.Lock()
        self.failing = ""
        """Why the last line could not be written; "" = it was."""

    async def note(
        self, what: str, *, by: str, before: Any = None, after: Any = None, ok: bool = True, message: str = "", rev: int = 0
    ) -> str:
        """Writes a line. Returns why it could not be written; "" = it is. before, after: what JSON can hold, never a secret."""
        line = {
            "ts": round(time.time(), 3),
            "by": by,
            "uid": uid_of(by),
            "what": what,
            "before": before,
            "after": after,
            "ok": ok,
            "message": message,
            "rev": rev,
        }
        async with self._writing:
            try:
                await asyncio.to_thread(audit_file.append, self.path, msgspec.json.encode(line))
            except OSError as error:
                self.failing = f"{what} by {by} is NOT IN THE AUDIT LOG: {self.path}: {error.strerror or error}"
                log.error("%s", self.failing)
                return self.failing
            self.failing = ""
            return ""

    async def read(self, *, last: int, since: float, by: str) -> list[dict[str, Any]]:
        """See `audit_file.read`."""
        return await asyncio.to_thread(audit_file.read, self.path, last=last, since=since, by=by)


def sides(changes: Sequence[Change]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What was before and what is after, by place. Of secrets only that they changed."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for change in changes[:CHANGES_MOST]:
        hidden = change.kind == "changed"
        if hidden or change.kind in ("->", "-"):
            before.setdefault(change.path, []).append("(hidden)" if hidden else change.old)
        if hidden or change.kind in ("->", "+"):
            after.setdefault(change.path, []).append("(hidden)" if hidden else change.new)
    if len(changes) > CHANGES_MOST:
        after["(more)"] = [f"{len(changes) - CHANGES_MOST} further changes"]
    return _plain(before), _plain(after)


def _plain(side: dict[str, list[str]]) -> dict[str, Any] | None:
    return {path: found[0] if len(found) == 1 else found for path, found in side.items()} or None
