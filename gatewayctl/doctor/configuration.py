"""Do the files load, and are they what is served?"""

import os

from gateway.config.report import Mistake, place
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Finding, Findings, note, ok, wrong
from gatewayctl.words import ago, plural

SHOWN = 3
DENIED = "permission denied"


def look(case: Case) -> Findings:
    yield from _files(case)
    if case.status is None:
        return
    theirs = (case.status.get("config") or {}).get("path")
    if theirs and str(theirs) != str(case.path.absolute()):
        yield note(f"the gateway that runs was started with {theirs}", str(case.path), f"gatewayctl doctor --config {theirs}")
    last = (case.status.get("config") or {}).get("last_reload") or {}
    if last.get("ok") is False:
        said = f"the last reload was refused {ago(last.get('ts')) or ''}: {last.get('message') or 'the files have mistakes'}"
        yield wrong(said, str(theirs or case.path), "gatewayctl config check && gatewayctl reload")
    found = case.ask("/v1/config/diff")
    if found and found["changes"]:
        said = f"the files differ from what is served, in {plural(len(found['changes']), 'place')}"
        yield note(said, str(case.path), "gatewayctl config diff, then: gatewayctl reload")


def _files(case: Case) -> Findings:
    if not case.mistakes:
        assert case.config is not None
        counts = {"listener": len(case.config.listeners), "channel": len(case.config.channels), "model": len(case.config.models)}
        yield ok(f"the configuration loads: {', '.join(plural(number, word) for word, number in counts.items())}", str(case.path))
        if not case.config.models:
            yield note("no model is configured, so callers get 404 for each", str(case.path), "gatewayctl config explain models")
        return
    yield from (_mistake(case, mistake) for mistake in case.mistakes[:SHOWN])
    if (more := len(case.mistakes) - SHOWN) > 0:
        yield wrong(f"{plural(more, 'further mistake')} in the configuration", str(case.path), "gatewayctl config check")
    if case.config is not None:
        yield note(f"everything below is about {case.loaded_from}, which was served last", str(case.data_dir / "revisions"))


def _mistake(case: Case, mistake: Mistake) -> Finding:
    said = f"{mistake.message}{f' in {mistake.path}' if mistake.path else ''}"
    if mistake.message.endswith(DENIED) and (case.blind or case.user.uid != os.geteuid()):  # what the service may, only root can say
        return note(f"{said}: you may not read it", place(mistake), "sudo gatewayctl doctor")
    return wrong(said, place(mistake), mistake.hint or "gatewayctl config check")
