"""`gatewayctl usage`: what was used, and whether that is true."""

from gatewayctl.command import noun
from gatewayctl.commands import reconcile

app = noun(
    "usage",
    "What was used, and whether the engines say the same.",
    """
    gatewayctl usage reconcile                 engines' own counters against the ledger
    gatewayctl usage reconcile --last 7d --channel ascend
    """,
)
reconcile.add_to(app)
