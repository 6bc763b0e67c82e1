"""`gatewayctl demo`: the command; what is shown is in demo.py."""

from typing import Annotated

import typer

from gatewayctl.command import alone, command
from gatewayctl.session import Session

app = alone()


@command(
    app,
    "demo",
    """
    gatewayctl demo
    gatewayctl demo --keep      leave everything running, to play with
    """,
)
def demo(session: Session, keep: Annotated[bool, typer.Option("--keep", help="Leave gateway and engines running.")] = False) -> None:
    """Show the gateway at work before simulated engines. Needs no accelerator and no configuration, and leaves nothing behind."""
    from gatewayctl.commands.demo import run

    run(keep, session.color)
