"""Fixtures that many tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that the test configures and starts; stopped with its engines at the end."""
    async with Rig(tmp_path) as rig:
        yield rig
