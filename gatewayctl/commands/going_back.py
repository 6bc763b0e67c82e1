"""Whose hands put an earlier revision's files back: ours, where we may write them. A packaged gateway may only read its configuration.

Else the gateway is asked to, which also says what is wrong with a revision that there is not.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewayctl.client import Client
from gatewayctl.commands.live import announce, in_turn
from gatewayctl.commands.reload import PATIENCE

if TYPE_CHECKING:
    from gateway.config.revisions import Revisions


def went_back(client: Client, rev: int | None) -> tuple[int, dict[str, Any]]:
    """The files of revision `rev` (None: the gateway knows of none, and says so) are in place: its number, and what the gateway says of
    its reload."""
    from gateway.config.revisions import Revisions

    config = Path(client.get("/v1/status")["config"]["path"])
    revisions = Revisions(client.path.absolute().parent)
    number = rev or 0
    if not _may_be_ours(revisions, number, config):
        return number, client.post("/v1/config/rollback", {"rev": rev}, PATIENCE)
    with in_turn(config):
        act = announce(client, f"rollback {number}")
        said = revisions.restore(number).said
        return number, {**client.post("/v1/reload", {"act": act}, PATIENCE), "restored": said}


def _may_be_ours(revisions: "Revisions", number: int, config: Path) -> bool:
    """Whether we may read this revision, and write each of its files, which may lie elsewhere by now."""
    from gateway.config.revisions import Damaged

    try:
        files = revisions.get(number).files
    except Damaged:
        return False
    folders = {Path(os.path.realpath(file)).parent for file in (str(config), *files)}
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders if folder.exists())
