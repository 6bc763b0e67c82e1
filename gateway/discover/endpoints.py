"""Stub."""
from collections.abc import Callable
from typing import Any

from gateway.config.resolved import Channel


class Endpoints:
    def __init__(self, on_detected: Callable[[str, str], None] | None = None) -> None: ...
    def adopt(self, channels: dict[str, Channel]) -> None: ...
    async def run(self) -> None: ...
    def engine_of(self, channel: str) -> str | None:
        return None
    def states(self) -> list[dict[str, Any]]:
        return []
    async def probe_channel(self, name: str) -> dict[str, Any]:
        return {}
    async def detect_all(self, timeout: float) -> None: ...
