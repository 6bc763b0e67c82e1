"""`gatewayctl keys import|export`: many keys at once, from and to a file."""

import csv
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gatewayctl import show
from gatewayctl.command import command
from gatewayctl.commands.done import well_done
from gatewayctl.commands.live import changing, client_of_these_files, load_for_keys
from gatewayctl.commands.newkey import good_secret, words
from gatewayctl.incoming import called, given
from gatewayctl.session import Session
from gatewayctl.trouble import BAD_CONFIG, USAGE, Trouble
from gatewayctl.words import plural

MOST_BYTES: Final = 64 * 1024 * 1024
_LISTS: Final = ("models", "apis", "systems")
"""Columns of a table that hold several values, with spaces, commas or semicolons between them, or JSON."""
_GROUPS: Final = ("ip", "hours", "limits", "meta", "previous")
"""Columns that hold JSON."""
_BETWEEN: Final = (",", ";", "\t")
"""What stands between the columns of a table: spreadsheets take that of their country."""
_apart = re.compile(r"[,;\s]+")
_number = re.compile(r"[0-9]{1,9}")


def add_to(app: typer.Typer) -> None:
    """The two verbs, for the noun `keys`."""
    command(
        app,
        "import",
        """
        gatewayctl keys import keys-of-the-old-gateway.csv
        gatewayctl keys import --tenant retail --project chatbot - < secrets.csv
        gatewayctl keys import --dry-run keys.yaml
        """,
    )(import_keys)
    command(
        app,
        "export",
        """
        gatewayctl keys export > keys-backup.yaml
        gatewayctl keys export --tenant retail -o csv
        """,
    )(export_keys)


def import_keys(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML, JSON (also one object a line) or CSV; - = stdin.")],
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Of keys that name none.")] = None,
    project: Annotated[str | None, typer.Option("--project", metavar="NAME", help="Of keys that name none.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check them, change nothing.")] = False,
) -> None:
    """Add many keys, all or none. Words are those of `keys` in the configuration; `secret` in place of `hash` is hashed on the way.

    Returns when every worker knows them. A key without `id` gets one, without `models` may use all.
    """
    from gateway.config import edit

    rows = _read(file)
    keys = [_key(row, number, {"tenant": tenant, "project": project}) for number, row in enumerate(rows, 1)]
    if not keys:
        raise Trouble(f"there are no keys in {called(file)}", code=USAGE)
    client = client_of_these_files(session)
    try:
        if dry_run:
            into = edit.missing_keys_file(session.config) or edit.keys_file(session.config)
            load_for_keys(session.config, {os.path.realpath(into): edit.add_keys(into, keys, dry=True).after})
            session.say(f"{plural(len(keys), 'key')} could be imported; nothing was changed")
            return
        with changing(session.config, client, f"keys import of {len(keys)}") as change:
            into = edit.keys_file(session.config)
            change.undo.callback(edit.add_keys(into, keys).undo)
    except Exception as error:
        if getattr(error, "mistakes", ()):
            session.warn("gatewayctl: no key was imported; the lines are those that they would have had:")
        raise
    if session.machine:
        show.data(session, [{"id": key["id"], "tenant": key["tenant"], "project": key["project"]} for key in keys])
    session.say(
        f"{plural(len(keys), 'key')} imported into {into}" + (", live in every worker" if client else "; the gateway is not running")
    )
    well_done(change.answer)


def _read(file: str) -> list[Any]:
    """The rows of a file. Raises Trouble."""
    data, file = given(file, MOST_BYTES, "Import it in parts."), called(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Trouble(f"{file} is not UTF-8 text", "Save it as UTF-8; a spreadsheet calls that `CSV UTF-8`.", BAD_CONFIG) from error
    head = text.lstrip()[:1]
    if head in ("{", "["):
        return _json(file, text)
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    between = next((sign for sign in _BETWEEN if sign in first and ":" not in first), None)
    if between is None and first.strip(' "') in ("secret", "hash"):
        between = _BETWEEN[0]  # one column; the rest may come from options
    return _yaml(file, text) if between is None else _csv(file, text, between)


def _json(file: str, text: str) -> list[Any]:
    try:
        if text.lstrip().startswith("{") and not _whole(text):
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        found = json.loads(text)
    except ValueError as error:
        raise Trouble(f"{file} is no JSON: {error}", code=BAD_CONFIG) from error
    except RecursionError as error:
        raise Trouble(f"{file} is nested too deep for a list of keys", code=BAD_CONFIG) from error
    return _list(file, found)


def _whole(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _yaml(file: str, text: str) -> list[Any]:
    from gateway.config.compose import BadFile, compose, data_of

    try:
        found = data_of(compose(Path(file), text))
    except BadFile as bad:
        raise Trouble(f"{file}:{bad.line}:{bad.column}: {bad.message}", bad.hint or "", BAD_CONFIG) from None
    return _list(file, found)


def _list(file: str, found: Any) -> list[Any]:
    if isinstance(found, dict) and isinstance(found.get("keys"), list):
        found = found["keys"]
    if isinstance(found, dict) and ("hash" in found or "secret" in found):
        found = [found]
    if not isinstance(found, list):
        hint = "A list, or `keys:` with a list below it; CSV begins with a line of words, such as `secret`."
        raise Trouble(f"{file} is no list of keys", hint, BAD_CONFIG)
    return found


def _csv(file: str, text: str, between: str) -> list[dict[str, Any]]:
    table = csv.DictReader(io.StringIO(text), delimiter=between)
    rows = []
    try:
        for row in table:
            if None in row:
                raise Trouble(f"{file}: line {table.line_num} has more columns than the first", code=BAD_CONFIG)
            rows.append(_cells(file, row))
    except csv.Error as error:
        raise Trouble(f"{file}: line {table.line_num + 1} is no line of a table: {error}", "Is a quote not closed?", BAD_CONFIG) from error
    return rows


def _cells(file: str, row: Mapping[str, str | None]) -> dict[str, Any]:
    """The words of one line. What is empty is not said."""
    key: dict[str, Any] = {}
    for name, cell in row.items():
        word, value = name.strip(), show.without_guard((cell or "").strip())
        if word in _GROUPS or (word in _LISTS and value.startswith(("{", "["))):
            key |= {word: _group(file, word, value)} if value else {}
        elif value:
            key[word] = _apart.split(value.strip(",; ")) if word in _LISTS else value
    if _number.fullmatch(key.get("priority", "")):
        key["priority"] = int(key["priority"])
    if "enabled" in key:
        key["enabled"] = {"true": True, "false": False}.get(key["enabled"].lower(), key["enabled"])
    return key


def _group(file: str, word: str, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise Trouble(f"{file}: column {word} holds JSON, not {value[:40]!r}", code=BAD_CONFIG) from error


def _key(row: Any, number: int, otherwise: Mapping[str, str | None]) -> dict[str, Any]:
    """One key's words. Raises Trouble; never repeats a secret."""
    from gateway.config.keys import hash_of, new_id

    if not isinstance(row, dict):
        raise Trouble(f"key number {number} is no group of words", code=BAD_CONFIG)
    key = {str(word): value for word, value in row.items() if value is not None}
    secret = key.pop("secret", None)
    if secret is not None:
        if not isinstance(secret, str) or not good_secret(secret):
            raise Trouble(f"the secret of key number {number} is none: at least 16 ASCII characters, no spaces", code=BAD_CONFIG)
        if key.setdefault("hash", hash_of(secret)) != hash_of(secret):
            raise Trouble(f"the hash of key number {number} is that of another secret", "Leave one of them out.", BAD_CONFIG)
    if "hash" not in key:
        raise Trouble(f"key number {number} has neither hash nor secret", code=BAD_CONFIG)
    for word, value in otherwise.items():
        if word not in key and value is not None:
            key[word] = value
        if word not in key:
            raise Trouble(f"key number {number} names no {word}", f"--{word} says it for all that name none.", BAD_CONFIG)
    rest = {word: value for word, value in key.items() if word not in ("id", "hash", "tenant", "project", "models")}
    named = words(id=str(key.get("id") or new_id()), hash=key["hash"], tenant=key["tenant"], project=key["project"])
    return {**named, "models": key.get("models", ["*"]), **rest}


def export_keys(
    session: Session, tenant: Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only those of this tenant.")] = None
) -> None:
    """All keys with all that is known of them, as `keys import` reads it: YAML, or JSON or CSV with -o. No secret is in it."""
    from gateway.config.flow import flow

    config = load_for_keys(session.config).config
    found = [key for key in config.keys if tenant in (None, key.tenant)]
    rows = [_plain(key.model_dump(mode="json", exclude_unset=True)) for key in found]
    if session.output == "csv":
        show.data(session, [_flat(row) for row in rows])
    elif session.machine:
        show.data(session, rows)
    else:
        print("\n".join(["keys:", *(f"  - {flow(row)}" for row in rows)]) if rows else "keys: []")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Models as a list, where a list says it all."""
    models = row["models"]
    return {**row, "models": models["allow"]} if isinstance(models, dict) and not models.get("deny") else row


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """For a table: lists with spaces in between, groups as JSON."""
    simple = {word: " ".join(value) if isinstance(value, list) and word in _LISTS else value for word, value in row.items()}
    return {word: json.dumps(value) if isinstance(value, dict | list) else value for word, value in simple.items()}
