"""The files about to be changed, and the gateway that runs with them: is it the same, and would it take them?"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewayctl.client import Client
from gatewayctl.commands.reload import PATIENCE
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble

if TYPE_CHECKING:
    from gateway.config.load import Loaded


def client_of_these_files(session: Session) -> Client | None:
    """Whom to tell that the files have changed; None when no gateway runs. Raises Trouble when another gateway's socket was named."""
    client = session.client()
    if not client.running():
        return None
    theirs = (client.get("/v1/status").get("config") or {}).get("path")
    if theirs and os.path.realpath(theirs) != os.path.realpath(session.config):
        raise Trouble(f"the gateway on {client.path} runs with {theirs}, not with {session.config}", f"Say: --config {theirs}", USAGE)
    return client


def check_files(config: Path, client: Client | None) -> None:
    """Raises ConfigError when the files have mistakes. The running gateway judges, since it has the environment that they refer to."""
    if client is not None:
        client.get("/v1/config/diff", PATIENCE)
    else:
        load_for_keys(config)


def load_for_keys(config: Path) -> "Loaded":
    """The configuration, for what it says of keys: variables that only the service's environment has are no mistake here."""
    from gateway.config.load import load

    return load(config, _Environment())


class _Environment(Mapping[str, str]):
    """Ours, and `1` for what it does not have: it passes for a secret, a number, a port or a host."""

    def __getitem__(self, name: str) -> str:
        return os.environ.get(name, "1")

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]
