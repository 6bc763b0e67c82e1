"""`gatewayctl cost`: what is unusual in what was used and what it cost."""

from gatewayctl.command import noun
from gatewayctl.commands import anomalies

app = noun(
    "cost",
    "What requests cost, and what of it is unusual.",
    """
    gatewayctl cost anomalies                  hours that are out of the ordinary
    gatewayctl cost anomalies --last 30d --sensitivity high
    """,
)
anomalies.add_to(app)
