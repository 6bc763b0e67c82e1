"""Something was done: is everything as it should be afterwards?"""

from collections.abc import Mapping
from typing import Any

from gatewayctl.trouble import DEGRADED, Trouble


def well_done(answer: Mapping[str, Any], doubt: str = "") -> None:
    """Raises Trouble (6) when something was done, but not as it should be: a worker did not say that it knows (doubt: what it may do),
    it is not written down, or not in the audit log."""
    deaf = ", ".join(f"worker-{slot}" for slot in answer.get("deaf") or [])
    wrong = [f"no answer from {deaf}, {doubt}"] if deaf else []
    wrong += [str(answer[word]) for word in ("unwritten", "unaudited") if answer.get(word)]
    if wrong:
        hint = (
            "It hears of it when it answers again." if deaf else "It is done all the same. `gatewayctl status` says when all is well again."
        )
        raise Trouble("; ".join(wrong), hint, DEGRADED)
