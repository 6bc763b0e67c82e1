"""A key's words for its file: from the options of a command, with a secret that is made or imported."""

import re
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import since

SHORTEST_IMPORT: Final = 16
"""Characters. Shorter secrets can be guessed."""
_limit = re.compile(r"(?P<count>[a-z_]+)=(?P<max>[0-9.]+)(?:/(?P<per>[a-z]+))?")


@dataclass(frozen=True, slots=True)
class NewSecret:
    """id: of the key. secret: None when it was imported, so that it is known already."""

    id: str
    hash: str
    secret: str | None = field(repr=False)


def made(id: str | None, imported: str | None) -> NewSecret:
    """A new secret for a key (id None: by chance), or the one that is given. Raises Trouble for an id that no secret can carry."""
    from gateway.config.keys import hash_of, new_id, new_secret

    if imported is not None:
        return NewSecret(id or new_id(), hash_of(imported), None)
    try:
        id, secret, hashed = new_secret(id)
    except ValueError as error:
        raise Trouble(str(error), code=USAGE) from error
    return NewSecret(id, hashed, secret)


def from_stdin(asked: str | None) -> str | None:
    """The secret that `--import-secret -` takes from stdin; None when it was not asked for. Raises Trouble."""
    if asked is None:
        return None
    if asked != "-":
        raise Trouble("a secret on the command line can be read by every process: --import-secret - takes it from stdin", code=USAGE)
    secret = sys.stdin.readline().strip()
    if not good_secret(secret):
        raise Trouble(f"what came from stdin is no secret: one line, at least {SHORTEST_IMPORT} ASCII characters, no spaces", code=USAGE)
    return secret


def good_secret(secret: str) -> bool:
    """Whether it can stand in a header, and is not too easily guessed."""
    return len(secret) >= SHORTEST_IMPORT and secret.isascii() and secret.isprintable() and " " not in secret


def instant(text: str | None) -> str | None:
    """When a key expires, as the file has it: as it is written, or so long from now (`90d`). Raises Trouble."""
    if text is None:
        return None
    from gateway.config.access import instant as moment

    try:
        now = time.time()
        duration = re.fullmatch(r"(\d+[a-z]+)+", text)
        at = 2 * now - since(text, now) if duration else moment(text)
        if at <= now:
            raise ValueError("that is over, so nobody would get in")
        return moment_text(at) if duration else text
    except ValueError as error:
        why = str(error).partition("; ")[0]
        said = f"{text!r} {why}" if why.startswith("is ") else f"{text!r} is no time to expire: {why}"
        raise Trouble(said, "Write 2027-01-01, 2027-01-01T18:00+08:00, or 90d from now", USAGE) from error


def moment_text(unix: float) -> str:
    """`2027-01-01T12:00:00Z`."""
    return datetime.fromtimestamp(int(unix), UTC).isoformat().replace("+00:00", "Z")


def limits(written: list[str] | None) -> list[dict[str, Any]]:
    """`requests=600/minute` and `concurrency=20`, as the file has them. Raises Trouble."""
    found = []
    for text in written or []:
        parts = _limit.fullmatch(text)
        if parts is None:
            raise Trouble(f"{text!r} is no limit", "requests=600/minute, total_tokens=2000000/day, concurrency=20", USAGE)
        amount = float(parts["max"]) if "." in parts["max"] else int(parts["max"])
        found.append({"count": parts["count"], "max": amount, **({"per": parts["per"]} if parts["per"] else {})})
    return found


def pairs(written: list[str] | None) -> dict[str, str]:
    """`name=value`, each. Raises Trouble."""
    for text in written or []:
        if "=" not in text:
            raise Trouble(f"{text!r} is not name=value", code=USAGE)
    return {name: value for name, _, value in (text.partition("=") for text in written or [])}


def models(allow: list[str] | None, deny: list[str] | None) -> Any:
    """As the file has them, `*` when nothing is said."""
    return {"allow": allow or ["*"], "deny": deny} if deny else allow or ["*"]


def words(**given: Any) -> dict[str, Any]:
    """Those that say something, in this order."""
    return {word: value for word, value in given.items() if value not in (None, [], {})}
