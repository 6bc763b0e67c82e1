"""Is the time right, and are the time zones known that schedules and limits name?"""

import ctypes
import json
import os
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Finding, Findings, note, ok, wrong
from gatewayctl.doctor.host import said_by
from gatewayctl.words import moment, span

EARLIEST: Final = 1_764_547_200
"""2025-12-01: no host that runs this can be earlier."""
LATEST: Final = EARLIEST + 30 * 31_556_952
BEHIND: Final = 60.0
"""Seconds by which the newest record may be ahead of the clock."""
TIME_ERROR: Final = 5
NTP: Final = "timedatectl set-ntp true, or: systemctl status chronyd"


def look(case: Case) -> Findings:
    yield _synchronised()
    yield from _plausible(case)
    yield from _zones(case)


def _synchronised() -> Finding:
    said = said_by("timedatectl", "show", "--property", "NTPSynchronized", "--value").strip()
    known = {"yes": True, "no": False}.get(said, _kernel_says())
    if known is None:
        return note("whether the clock is synchronised cannot be found out", "", NTP)
    if known:
        return ok("the clock is synchronised")
    return note("the clock is not synchronised: expiry, quotas and records go by it", "", NTP)


def _kernel_says() -> bool | None:
    """adjtimex, which only reads when its first field is 0."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def _plausible(case: Case) -> Findings:
    now = time.time()
    if not EARLIEST < now < LATEST:
        yield wrong(f"it cannot be {moment(now)}", "date", "sudo timedatectl set-time, then: timedatectl set-ntp true")
        return
    try:
        newest = max(_newest(case.data_dir / "journal"), default=0.0)
    except PermissionError:
        yield note(
            "the journal may not be read by you, so its times are not compared", str(case.data_dir / "journal"), "sudo gatewayctl doctor"
        )
        return
    if newest > now + BEHIND:
        said = f"the newest record is {span(newest - now)} ahead of the clock: the clock was set back"
        yield wrong(said, str(case.data_dir / "journal"), NTP)
    elif newest:
        yield ok(f"it is {moment(now)}; the newest record is {span(now - newest)} old")
    else:
        yield ok(f"it is {moment(now)}")


def _newest(journal: Path) -> Iterator[float]:
    """When the last record of each of the newest segments was accepted."""
    try:
        entries = sorted(
            (entry for entry in os.scandir(journal) if entry.name.endswith((".ndjson", ".open"))), key=lambda e: e.stat().st_mtime
        )
    except FileNotFoundError:
        return
    for entry in entries[-4:]:
        try:
            with open(entry.path, "rb") as file:
                file.seek(max(0, entry.stat().st_size - 65_536))
                lines = file.read().splitlines()
        except FileNotFoundError:
            continue
        for line in reversed(lines):
            ts = _ts(line)
            if ts:
                yield ts
                break


def _ts(line: bytes) -> float:
    try:
        found: Any = json.loads(line)
        return float(found["ts"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _zones(case: Case) -> Findings:
    if case.config is None:
        return
    wanted = {schedule.zone for schedule in case.config.schedules.values()}
    wanted |= {limit.zone for limits in case.config.limits.values() for limit in limits if limit.per in ("day", "month")}
    for name in sorted(zone for zone in wanted if zone):
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield wrong(f"the time zone {name} is not known here", "schedules", "install tzdata")
        else:
            own = any((Path(folder) / name).exists() for folder in zoneinfo.TZPATH)
            yield ok(f"the time zone {name} is known, {'by the host' if own else 'by the tzdata that the gateway brings'}", "schedules")
