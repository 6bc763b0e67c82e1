"""`gatewayctl completion`: the script that completes commands and options in a shell."""

from typing import Annotated, Literal

import typer

from gatewayctl.command import alone, command
from gatewayctl.session import Session

app = alone()


@command(
    app,
    "completion",
    """
    gatewayctl completion bash > /etc/bash_completion.d/gatewayctl
    gatewayctl completion zsh > "${fpath[1]}/_gatewayctl"
    gatewayctl completion fish > ~/.config/fish/completions/gatewayctl.fish
    """,
)
def completion(session: Session, shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Whose script.")]) -> None:
    """Print the script that completes commands and options in bash, zsh or fish."""
    from typer._completion_shared import get_completion_script

    print(get_completion_script(prog_name="gatewayctl", complete_var="_GATEWAYCTL_COMPLETE", shell=shell))
