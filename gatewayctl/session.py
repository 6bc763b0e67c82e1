"""What every command is given: where the configuration and the socket are, how to print, whom to ask. Loads nothing by itself."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from gatewayctl.trouble import INTERRUPTED, USAGE, Done, Trouble

if TYPE_CHECKING:
    from gatewayctl.client import Client

DEFAULT_CONFIG: Final = "/etc/gateway/gateway.yaml"


@dataclass(frozen=True, slots=True)
class Session:
    """The options that all commands share, resolved: option after the command, option before it, environment, default."""

    config: Path
    socket_option: Path | None = None
    output: str = "table"
    color: str = "auto"
    quiet: bool = False

    @classmethod
    def of(cls, *layers: dict[str, Any]) -> "Session":
        """layers: options as given, the strongest first; None means not given."""

        def first(name: str) -> Any:
            return next((layer[name] for layer in layers if layer.get(name)), None)

        config = first("config") or os.environ.get("GATEWAY_CONFIG") or DEFAULT_CONFIG
        socket = first("socket") or os.environ.get("GATEWAY_SOCKET")
        return cls(
            config=Path(config),
            socket_option=Path(socket) if socket else None,
            output=first("output") or "table",
            color=first("color") or "auto",
            quiet=bool(first("quiet")),
        )

    @property
    def socket(self) -> Path:
        """The admin socket: as said, or in the configuration's data directory."""
        if self.socket_option is not None:
            return self.socket_option
        from gateway.config.locate import data_dir_of

        return data_dir_of(self.config) / "admin.sock"

    @property
    def machine(self) -> bool:
        """Whether a program reads stdout."""
        return self.output != "table"

    def client(self) -> "Client":
        from gatewayctl.client import Client

        return Client(self.socket, self.config, told=self.socket_option is not None)

    def colored(self, stream: TextIO) -> bool:
        if self.color != "auto":
            return self.color == "always"
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, message: str) -> None:
        """A message for people, on stderr; --quiet leaves it out."""
        if not self.quiet:
            print(message, file=sys.stderr)

    def warn(self, message: str) -> None:
        """A message that --quiet does not leave out."""
        print(message, file=sys.stderr)

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before something dangerous. Without a terminal there is nobody to ask, so `--yes` must have been said."""
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Trouble(f"{question} This needs --yes when nobody can be asked.", code=USAGE)
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was changed.", file=sys.stderr)
            raise Done(INTERRUPTED)
