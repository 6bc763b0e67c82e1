"""`gatewayctl keys show|whoami`: what a key is and may do."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import segment
from gatewayctl.command import command
from gatewayctl.commands.live import load_for_keys
from gatewayctl.session import Session
from gatewayctl.trouble import DEGRADED, UNREACHABLE, USAGE, Trouble

if TYPE_CHECKING:
    from gateway.config.schema import Config, Key

VARIABLE = "OPENAI_API_KEY"


def add_to(app: typer.Typer) -> None:
    """The two verbs, for the noun `keys`."""
    command(app, "show", "gatewayctl keys show k7f3\ngatewayctl keys show k7f3 -o json")(show_key)
    command(
        app,
        "whoami",
        """
        gatewayctl keys whoami < secret.txt               whose key is this?
        OPENAI_API_KEY=gw_… gatewayctl keys whoami
        """,
    )(whoami)


def state_of(key: "Key", now: float) -> str:
    """`active`, `disabled` or `expired`. now: Unix seconds."""
    from gateway.config.access import instant

    return "disabled" if not key.enabled else "expired" if key.expires and now >= instant(key.expires) else "active"


def show_key(session: Session, id: Annotated[str, typer.Argument(help="Which one: gatewayctl keys.")]) -> None:
    """What a key is bound to, and what it may do now, with what its project and its tenant say.

    Without a running gateway: what the files say of it alone.
    """
    from gateway.config.wording import nearest

    config = load_for_keys(session.config).config
    key = next((one for one in config.keys if one.id == id), None)
    if key is None:
        hint = nearest(id, (one.id for one in config.keys)) or "Which there are: gatewayctl keys"
        raise Trouble(f"there is no key {id!r} in {session.config} and its includes", hint)
    found = {**_of_file(key, time.time()), "now": _now(session, id)}
    if session.machine:
        show.data(session, found)
        return
    rows = [("key", id), ("tenant", key.tenant), ("project", key.project), *_rows(found), *_rows_now(found["now"])]
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        print(show.text_of(f"{name:<{width}}{value}"))


def _of_file(key: "Key", now: float) -> dict[str, Any]:
    """Everything but the hash, of which the beginning."""
    words = key.model_dump(exclude={"hash", "previous", "limits"}, exclude_none=True, mode="json")
    previous = {"previous_until": key.previous.until} if key.previous else {}
    return {**words, "hash": str(key.hash)[:15], **previous, "state": state_of(key, now)}


def _now(session: Session, id: str) -> dict[str, Any] | None:
    """What the running gateway says; None when there is none, or it does not have the key (yet)."""
    try:
        client = session.client()
        found: dict[str, Any] = client.get(f"/v1/keys/{segment(id)}")["key"]
        frozen = [one for one in client.get("/v1/freezes")["freezes"] if _stops(one, found)]
    except Trouble as trouble:
        if trouble.code != UNREACHABLE:
            session.say(f"gatewayctl: the running gateway: {trouble.message}")
        return None
    return {**found, "frozen": [f"{one['kind']} {one['name']}".strip() for one in frozen]}


def _stops(freeze: dict[str, Any], key: dict[str, Any]) -> bool:
    named = {"tenant": key["tenant"], "project": f"{key['tenant']}/{key['project']}", "key": key["id"], "all": ""}
    return bool(named.get(freeze["kind"]) == freeze["name"])


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What the file says."""
    meta = [f"{name}={value}" for name, value in found["meta"].items()]
    told = {
        "label": found.get("label"),
        "state": found["state"],
        "hash": f"{found['hash']}…",
        "expires": found.get("expires"),
        "old secret until": found.get("previous_until"),
        "notes": ", ".join(meta),
    }
    return [(name, str(value)) for name, value in told.items() if value]


def _rows_now(now: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What it may do."""
    if now is None:
        return [("live", "no")]
    rows = [("live", f"frozen: {', '.join(now['frozen'])}" if now["frozen"] else "yes")]
    rows.append(("models now", ", ".join(now["models"]) or "none"))
    rows.append(("APIs", "all" if now["apis"] is None else ", ".join(now["apis"]) or "none"))
    for one in now["addresses"]:
        allowed = ", ".join(one["allow"]) or "all"
        rows.append((f"addresses, {one['place']}", allowed + (f" but {', '.join(one['deny'])}" if one["deny"] else "")))
    rows.append(("priority now", str(now["priority"])))
    for one in now["hours"]:
        when = f"during {one['during']}" if one["during"] else f"outside {one['outside']}"
        what = [f"models {', '.join(one['models'])}"] if one["models"] is not None else []
        what += [f"not {', '.join(one['deny'])}"] if one["deny"] else []
        what += [f"priority {one['priority']}"] if one["priority"] is not None else []
        rows.append((f"{when}, {one['place']}", f"{'; '.join(what)}{' (applies now)' if one['applies'] else ''}"))
    if now["systems"]:
        rows.append(("systems", ", ".join(now["systems"])))
    rows += [(f"limit, {one['scope']}", _limit(one)) for one in now["limits"]]
    return rows


def _limit(limit: dict[str, Any]) -> str:
    per = f" per {limit['per']}" if limit["per"] else ""
    when = f" during {limit['during']}" if limit["during"] else f" outside {limit['outside']}" if limit["outside"] else ""
    what = (
        f"{limit['name'] or 'money'} {limit['max']} {limit['currency']}"
        if limit["count"] == "money"
        else f"{limit['count']} {limit['max']}"
    )
    return f"{what}{per}{when}{' (shadow)' if limit['shadow'] else ''}"


def whoami(session: Session) -> None:
    """Whose secret this is, from stdin or OPENAI_API_KEY. Nothing is sent anywhere, and the secret is not repeated.

    Exits with 6 when nobody gets in with it.
    """
    from gateway.config.keys import checksum_ok, hash_of

    secret = os.environ.get(VARIABLE, "") if sys.stdin.isatty() else sys.stdin.readline()
    secret = secret.strip() or os.environ.get(VARIABLE, "").strip()
    if not secret:
        raise Trouble(f"there is no secret on stdin, and none in {VARIABLE}", "gatewayctl keys whoami < secret.txt", USAGE)
    config, hashed = load_for_keys(session.config).config, hash_of(secret)
    key, old = _owner(config, hashed)
    if key is None:
        mistyped = secret.startswith("gw_") and not checksum_ok(secret)
        said = "it is mistyped or cut off: its last characters do not fit" if mistyped else "no key of these files has it"
        raise Trouble(f"nobody gets in with this secret: {said}", "A key may have been revoked: gatewayctl audit list", DEGRADED)
    now = time.time()
    found = {**_of_file(key, now), "secret": "old" if old else "current"}
    if session.machine:
        show.data(session, found)
    else:
        until = f", with its old secret, good until {key.previous.until}" if old and key.previous else ""
        print(show.text_of(f"key {key.id} of {key.tenant}/{key.project}{until}: {found['state']}"))
    if found["state"] != "active" or (old and key.previous and moment_of(key.previous.until) <= now):
        raise Trouble("nobody gets in with this secret now", f"gatewayctl keys show {key.id}", DEGRADED)


def moment_of(text: str) -> float:
    """A moment of the configuration, as Unix seconds."""
    from gateway.config.access import instant

    return instant(text)


def _owner(config: "Config", hashed: str) -> tuple["Key | None", bool]:
    """The key, and whether this is its secret before the last rotation."""
    for key in config.keys:
        if key.hash == hashed:
            return key, False
        if key.previous and key.previous.hash == hashed:
            return key, True
    return None, False
