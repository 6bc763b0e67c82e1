"""Is the running gateway the one whose files are about to be changed?"""

import os

from gatewayctl.client import Client
from gatewayctl.session import Session
from gatewayctl.trouble import USAGE, Trouble


def client_of_these_files(session: Session) -> Client | None:
    """Whom to tell that the files have changed; None when no gateway runs. Raises Trouble when another gateway's socket was named."""
    client = session.client()
    if not client.running():
        return None
    theirs = (client.get("/v1/status").get("config") or {}).get("path")
    if theirs and os.path.realpath(theirs) != os.path.realpath(session.config):
        raise Trouble(f"the gateway on {session.socket} runs with {theirs}, not with {session.config}", f"Say: --config {theirs}", USAGE)
    return client
