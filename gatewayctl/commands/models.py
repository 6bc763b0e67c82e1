"""`gatewayctl models`: the virtual models, and where their requests go."""

from typing import Any

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands.routes import tree_text
from gatewayctl.session import Session
from gatewayctl.show import Column

app = noun(
    "models",
    "The virtual models, and where their requests go.",
    """
    gatewayctl models
    gatewayctl models -o json
    """,
    default="list",
)


def _targets(model: Any) -> list[str]:
    """With their weights, where those mean something."""
    weighed = model.get("policy") == "proportional"
    return [f"{tree_text(target)} ×{target.get('weight', 1)}" if weighed else tree_text(target) for target in model.get("targets") or []]


COLUMNS = [
    Column("model", lambda m: m.get("name")),
    Column("aliases", lambda m: m.get("aliases")),
    Column("policy", lambda m: m.get("policy")),
    Column("targets", _targets),
]


@command(
    app,
    "list",
    """
    gatewayctl models
    gatewayctl models list -o yaml
    """,
)
def list_models(session: Session) -> None:
    """The virtual models as they are live: the names that callers use, and the targets (channel:model ×weight) behind them."""
    show.items(session, session.client().get("/v1/models")["models"], COLUMNS, "no models")
