"""What callers of the admin API say, checked: bodies and queries become values, or a `Wrong` that says what was meant."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.auth.freezes import ALL, KINDS

BODY_MOST: Final = 64 * 1024
DRAIN_MOST: Final = 366 * 86400
"""Seconds that a drain with an end may last."""
LIMIT_DEFAULT, LIMIT_MOST = 20, 10_000
WORDS_MOST: Final = 500
"""Characters of a reason, a name, or what an act is called."""
SPARED_MOST: Final = 1000
LABELS_MOST: Final = 20
SILENCE_MOST: Final = 366 * 86400
"""Seconds that a silence may last."""


class Wrong(Exception):
    """A call that cannot be answered: HTTP status, short code, the sentence for the operator, and more fields of `error`."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more


async def body_of(request: web.Request, most: int = BODY_MOST) -> dict[str, Any]:
    data = await request.read()
    if len(data) > most:
        raise Wrong(413, "bad_request", f"the body is larger than {most} bytes")
    try:
        found = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError as error:
        raise Wrong(400, "bad_request", f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Wrong(400, "bad_request", "the body must be a JSON object")
    return found


def said_of_endpoint(body: dict[str, Any]) -> str | None:
    endpoint = body.get("endpoint")
    if endpoint is not None and not isinstance(endpoint, str):
        raise Wrong(400, "bad_request", '"endpoint" must be an endpoint\'s URL, or null for the whole channel')
    return endpoint


def said_of_drain(body: dict[str, Any]) -> float | None:
    """Seconds; None: until undrain."""
    seconds = body.get("seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= DRAIN_MOST):
        raise Wrong(400, "bad_request", f'"seconds" must be a number above 0, {DRAIN_MOST} at most, or null for no end')
    return seconds


def said_of_upgrade(body: dict[str, Any]) -> str:
    """The path of an executable; empty: where the present one was started from."""
    to = body.get("to", "")
    if not isinstance(to, str) or (to and not to.startswith("/")):
        raise Wrong(400, "bad_request", '"to" must be the absolute path of an executable, or empty')
    return to


def said_of_freeze(body: dict[str, Any]) -> tuple[str, str, str]:
    """Kind, name and reason."""
    kind, name, reason = body.get("kind"), _words(body, "name"), _words(body, "reason")
    if kind not in KINDS:
        raise Wrong(400, "bad_request", f'"kind" must be one of {", ".join(KINDS)}')
    if bool(name) == (kind == ALL):
        raise Wrong(400, "bad_request", f'"name" must say which {kind}' if kind != ALL else 'everything has no "name"')
    return kind, name, reason


def said_of_silence(body: dict[str, Any]) -> tuple[dict[str, str], float, str]:
    """Labels, seconds and comment."""
    labels, seconds, comment = body.get("labels"), body.get("seconds"), _words(body, "comment")
    if (
        not isinstance(labels, dict)
        or not 0 < len(labels) <= LABELS_MOST
        or not all(isinstance(one, str) and one for one in labels.values())
    ):
        raise Wrong(400, "bad_request", f'"labels" must say which alerts, with 1 to {LABELS_MOST} labels and their values')
    if any(len(one) > WORDS_MOST or not one.isprintable() for pair in labels.items() for one in pair):
        raise Wrong(400, "bad_request", f'each of "labels" must be a text of one line, {WORDS_MOST} characters at most')
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= SILENCE_MOST:
        raise Wrong(400, "bad_request", f'"seconds" must be a number above 0, {SILENCE_MOST} at most')
    return labels, seconds, comment


def said_of_test(body: dict[str, Any]) -> tuple[str, str]:
    """Sink and kind, "" = any."""
    return _words(body, "sink"), _words(body, "kind")


def said_of_act(body: dict[str, Any]) -> tuple[str, list[str]]:
    """What it is called, and the ids of keys that it spares."""
    what, spare = _words(body, "what"), body.get("spare") or []
    if not what:
        raise Wrong(400, "bad_request", '"what" must say what is about to be done')
    if not isinstance(spare, list) or len(spare) > SPARED_MOST or not all(isinstance(id, str) for id in spare):
        raise Wrong(400, "bad_request", f'"spare" must be a list of keys\' ids, {SPARED_MOST} at most')
    return what, spare


def said_of_audit(query: Mapping[str, str]) -> tuple[int, float]:
    """How many lines, and since when (Unix seconds)."""
    try:
        since = float(query.get("since", "0"))
    except ValueError:
        raise Wrong(400, "bad_request", '"since" must be a time in seconds since 1970') from None
    return count_in(query, "last"), since


def count_in(query: Mapping[str, str], word: str) -> int:
    asked = query.get(word, str(LIMIT_DEFAULT))
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= LIMIT_MOST:
        raise Wrong(400, "bad_request", f"{word} must be a number from 1 to {LIMIT_MOST}, not {asked!r}")
    return int(asked)


def number_in(body: dict[str, Any], word: str, meaning: str) -> int | None:
    number = body.get(word)
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise Wrong(400, "bad_request", f'"{word}" must be {meaning}')
    return number


def _words(body: dict[str, Any], word: str) -> str:
    found = body.get(word) or ""
    if not isinstance(found, str) or len(found) > WORDS_MOST or not found.isprintable():
        raise Wrong(400, "bad_request", f'"{word}" must be a text of one line, {WORDS_MOST} characters at most')
    return found
