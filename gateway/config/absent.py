"""An environment for those who read the service's file without being the service."""

import os
from collections.abc import Iterator, Mapping
from typing import Any


class Environment(Mapping[str, str]):
    """Ours, and `1` for what it does not have: it passes for a secret, a number, a port or a host."""

    def __getitem__(self, name: str) -> str:
        return os.environ.get(name, "1")

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]
