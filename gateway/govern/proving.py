"""Can a tokenizer.json be loaded? For control: found out by a process of its own, since `tokenizers` holds up the one that it runs in,
and every question of a worker with it. The same process keeps what it converts, for the workers.
"""

import hashlib
import subprocess
from pathlib import Path
from typing import Final

from gateway.bus.child import environment, self_command
from gateway.config.tokenizers import Unusable, prove_here

PATIENCE: Final = 60.0
"""Seconds."""
REMEMBERED: Final = 64


class Prover:
    """Remembers what it found of the last files, so that a reload that changes something else costs nothing. Blocks: threads only."""

    def __init__(self, kept: Path) -> None:
        """kept: where what is converted goes."""
        self._kept = kept
        self._known: dict[bytes, str] = {}

    def __call__(self, data: bytes, name: str, folder: Path) -> None:
        """Errors: Unusable."""
        sum = hashlib.sha256(name.encode() + b"\0" + data).digest()
        why = self._known.get(sum)
        if why is None:
            why = self._ask(data, name, folder)
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[sum] = why
        if why:
            raise Unusable(why)

    def _ask(self, data: bytes, name: str, folder: Path) -> str:
        """Why not; empty: it can."""
        command = [*self_command(), "tokenizer", f"--folder={folder}", f"--kept={self._kept}", "--", name]
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, env=environment(), check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            ended = None
        if ended is not None and ended.returncode in (0, 1) and bool(ended.stdout) == bool(ended.returncode):
            return ended.stdout.strip()
        try:
            prove_here(data, name, folder)
        except Unusable as bad:
            return str(bad)
        return ""
