"""systemd, our unit in it, and whether the processes of a gateway that runs are well."""

import re
import shutil
from typing import Final

from gatewayctl.commands.status import complaints
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, typed, wrong
from gatewayctl.doctor.host import said_by
from gatewayctl.words import plural

OLDEST: Final = 247
"""The first with LoadCredential=, which hands over secrets; the oldest that was tried."""
MANY: Final = 3
"""Restarts that are worth a look."""
LOG: Final = "journalctl -u gateway -n 50"


def look(case: Case) -> Findings:
    yield from _systemd()
    yield from _unit(case)
    yield from _processes(case)


def _systemd() -> Findings:
    found = re.match(r"systemd (\d+)", said_by("systemctl", "--version")) if shutil.which("systemctl") else None
    if found is None:
        yield note(
            "there is no systemd here: something else has to start the gateway again", "", "run `gatewayctl serve` under a supervisor"
        )
    elif int(found[1]) < OLDEST:
        remedy = "let the group gateway read the files of ${file:…}: sudo chgrp gateway FILE; sudo chmod 640 FILE"
        said = f"systemd {found[1]} is older than {OLDEST}: it passes over LoadCredential= and some of the unit's sandbox"
        yield note(said, "systemctl --version", remedy)
    else:
        yield ok(f"systemd {found[1]}", "systemctl --version")


def _unit(case: Case) -> Findings:
    unit = case.unit
    if not unit:
        return
    where = unit.get("FragmentPath") or "gateway.service"
    if unit.get("LoadState") != "loaded":
        remedy = "install the package, or: sudo ./gatewayctl-… install (docs/install.md)"
        yield note(f"the unit gateway.service is {unit.get('LoadState', 'not there')}", "gateway.service", remedy)
        return
    state, restarts = f"{unit.get('ActiveState')} ({unit.get('SubState')})", int(unit.get("NRestarts") or 0)
    if unit.get("ActiveState") == "failed" or unit.get("SubState") == "auto-restart":
        yield wrong(f"the unit is {state}, result {unit.get('Result')}", where, LOG)
    elif unit.get("ActiveState") != "active":
        yield note(f"the unit is {state}", where, "sudo systemctl enable --now gateway")
    else:
        yield ok(f"the unit is {state}", where)
    if restarts >= MANY:
        yield note(f"systemd has started it again {restarts} times", where, LOG)


def _processes(case: Case) -> Findings:
    if case.status is None:
        said = f"the gateway cannot be asked: {case.silent}" if case.silent else "the gateway is not running"
        start = (
            "sudo systemctl start gateway" if case.unit.get("LoadState") == "loaded" else f"gatewayctl serve --config {typed(case.path)}"
        )
        yield note(said, str(case.data_dir / "admin.sock"), "sudo gatewayctl doctor" if case.silent else start)
        return
    for sentence in complaints(case.status):
        if not sentence.startswith("the last reload"):  # said by `configuration`
            yield wrong(sentence, "gatewayctl status", LOG)
    processes = case.status.get("processes") or []
    for one in processes:
        if one.get("restarts", 0) >= MANY:
            yield note(f"{one.get('name')} was started again {one['restarts']} times", "gatewayctl status", LOG)
    if lost := (case.status.get("journal") or {}).get("lost"):
        yield wrong(f"{plural(lost, 'record')} could not be written and are lost", "journal", "df -h; gatewayctl status")
    yield ok(f"gateway {case.status.get('version')} runs with {len(processes)} processes", f"pid {case.status.get('pid')}")
