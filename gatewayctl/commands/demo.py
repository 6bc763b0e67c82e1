"""The demonstration. Not part of this installation yet."""

from gatewayctl.trouble import Trouble


def run(keep: bool) -> None:
    """Show the gateway at work. keep: leave everything running."""
    raise Trouble("the demonstration is not part of this installation", "In the source tree: make demo")
