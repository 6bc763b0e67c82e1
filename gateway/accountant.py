"""The role `ledger`: `gateway ledger ACT` does on the files what control does while it runs. Started by gatewayctl when no gateway runs."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from gateway.admin.audit import Audit
from gateway.admin.desk import Failed, Misasked
from gateway.admin.peer import Peer
from gateway.admin.truth_routes import SENSITIVITIES
from gateway.config.absent import Environment
from gateway.config.load import load
from gateway.config.report import render
from gateway.config.resolve import resolve
from gateway.config.resolved import Key, Resolved
from gateway.errors import ConfigError
from gateway.ledger.copying import copy_file
from gateway.ledger.keeper import Ledger, path_of
from gateway.ledger.store import StoreFailure
from gateway.meter.orphans import close_orphans
from gateway.report.books import Books
from gateway.report.reports import Reports, ledger_book
from gateway.report.truth import Truth
from gateway.upgrade.formats import UNREADABLE, Newer, check

BAD_CONFIG = 78
ASKED = ("report", "file", "capacity", "budgets", "forecast", "reprice")
"""Acts that are asked with `--asked`."""
TOLD = ("reconcile", "anomalies")


def main(argv: Sequence[str]) -> int:
    """Prints the answer as JSON, of `export` the file itself. Returns 1 when it failed, with the reason on stderr; 65 when a newer version
    has written there: nothing is touched then."""
    parser = argparse.ArgumentParser(prog="gateway ledger", description="The ledger, while no gateway runs.")
    parser.add_argument("act", choices=["status", "verify", "compact", "archive", "rebuild", "export", "copy", *ASKED, *TOLD])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--channel", default="")
    parser.add_argument("--sensitivity", choices=SENSITIVITIES, default="normal")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--format", choices=["csv", "json", "parquet"], default="csv")
    parser.add_argument("--since", type=float, default=0.0)
    parser.add_argument("--until", type=float, default=4e9)
    parser.add_argument("--asked", default="{}", help="JSON, as the admin API takes it")
    parser.add_argument("--to", type=Path, help="the file that `copy` makes")
    options = parser.parse_args(argv)
    try:
        config, keys = resolve(load(options.config, Environment()))
    except ConfigError as error:
        print(render(error.mistakes), file=sys.stderr)
        return BAD_CONFIG
    try:
        if options.act == "copy":
            os.umask(0o077)
            copy_file(path_of(Path(config.data_dir), config.ledger), options.to)
            return 0
        check(Path(config.data_dir))  # also for a report: what waits in the journal is loaded first
        return asyncio.run(_act(options, config, keys))
    except Newer as newer:
        print(f"gateway: {newer}", file=sys.stderr)
        return UNREADABLE
    except (Failed, Misasked, StoreFailure, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1


async def _act(options: argparse.Namespace, config: Resolved, keys: Sequence[Key]) -> int:
    data_dir = Path(config.data_dir)
    journal = data_dir / "journal"
    if not journal.is_dir():
        raise Failed(f"there is no journal in {data_dir}, so nothing was ever served there")
    ledger, audit = Ledger(data_dir, config.ledger), Audit(data_dir)
    ledger.price_by(ledger_book(config))
    by = str(Peer(os.getppid(), os.getuid(), frozenset()))
    try:
        await asyncio.to_thread(close_orphans, journal)
        with contextlib.suppress(StoreFailure):  # the act itself will say it
            await ledger.mend(keeping=False)  # who asks for a report does not ask for that
        if options.act in ASKED:
            answer = await _reported(options, Reports(ledger, lambda: config, lambda: keys, audit.note), by)
        elif options.act in TOLD:
            answer = await _told(options, Truth(ledger, journal))
        else:
            answer = await _answer(options, Books(ledger, audit.note), by)
    finally:
        await ledger.close()
        _give_to_the_owner(data_dir, ledger.path)
    if answer is not None:
        print(json.dumps(answer))
    return 0


async def _told(options: argparse.Namespace, truth: Truth) -> dict[str, Any]:
    if options.act == "reconcile":
        return {"hours": await truth.reconcile(options.since, options.channel)}
    return {"anomalies": await truth.anomalies(options.since, options.sensitivity)}


async def _answer(options: argparse.Namespace, books: Books, by: str) -> dict[str, Any] | None:
    match options.act:
        case "status":
            return books.status()
        case "verify":
            return await books.verify()
        case "compact":
            return await books.compact(by=by)
        case "archive":
            return await books.archive(by=by)
        case "rebuild":
            return await books.rebuild(options.force, by=by)
    await _print(await books.export(options.format, options.since, options.until))
    return None


async def _reported(options: argparse.Namespace, reports: Reports, by: str) -> dict[str, Any] | None:
    asked: dict[str, Any] = json.loads(options.asked)
    match options.act:
        case "report":
            return await reports.report(asked)
        case "capacity":
            return await reports.capacity(asked)
        case "budgets":
            return await reports.budgets()
        case "forecast":
            return await reports.forecast(asked)
        case "reprice":
            return await reports.reprice(asked, by=by)
    await _print(await reports.write(asked, options.format))
    return None


async def _print(pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _give_to_the_owner(data_dir: Path, ledger: Path) -> None:
    """What root has made belongs to whom the directory belongs to, else the service could not open it."""
    owner = data_dir.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    archives = ledger.parent / "archive"
    made = [*ledger.parent.glob(f"{ledger.name}*"), archives, *archives.glob("*"), data_dir / "audit.log"]
    for path in [*made, *(data_dir / "journal").rglob("*")]:
        with contextlib.suppress(OSError):
            shutil.chown(path, owner.st_uid, owner.st_gid)
