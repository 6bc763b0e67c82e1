"""Questions that the ledger answers: asked of the gateway, or of its files by a child while no gateway runs."""

import time
from typing import Any, Final
from urllib.parse import urlencode

from gatewayctl.alone import take_over
from gatewayctl.programs import ledger_act
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble
from gatewayctl.words import since

PATIENCE: Final = 600.0
"""Seconds: reading months of requests takes a while."""


def ledger_says(session: Session, path: str, act: str, word: str, wanted: dict[str, str]) -> list[dict[str, Any]]:
    """path: of the admin API. act: of `gateway ledger`. word: under which the answer stands. wanted: the question's parameters."""
    try:
        found = session.client().get(f"{path}?{urlencode(wanted)}", PATIENCE)
    except Trouble as trouble:
        take_over(session, trouble, "the gateway is not running; its files are read")
        found = ledger_act(session.config, act, *(part for name, value in wanted.items() for part in (f"--{name}", value)))
    answer: list[dict[str, Any]] = found[word]
    return answer


def period(option: str, text: str) -> float:
    """When a time that is said as `24h`, or as a moment, began (Unix seconds)."""
    try:
        return since(text, time.time())
    except ValueError as error:
        raise Trouble(f"{option} wants a duration such as 7d, or a time such as 2026-11-22T18:00, not {text!r}", code=USAGE) from error
