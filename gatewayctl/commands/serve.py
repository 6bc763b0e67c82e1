"""`gatewayctl serve`: becomes the gateway."""

from typing import Annotated

import typer

from gatewayctl.command import alone, command
from gatewayctl.programs import become
from gatewayctl.session import Session

app = alone()


@command(
    app,
    "serve",
    """
    gatewayctl serve
    gatewayctl serve --config ./gateway.yaml
    gatewayctl serve --resume        start with the last good revision, whatever the files say
    """,
)
def serve(
    session: Session,
    resume: Annotated[bool, typer.Option("--resume", help="Start with the last good revision when the files have mistakes.")] = False,
) -> None:
    """Run the gateway in the foreground, until SIGTERM or Ctrl-C.

    A second signal ends it without waiting for requests in flight. Exits with 78 when the configuration has mistakes.
    """
    become("serve", "--config", str(session.config), *(["--resume"] if resume else []))
