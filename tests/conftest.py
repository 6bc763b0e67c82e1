"""Fixtures that many tests share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.harness import Rig

settings.register_profile("ci", derandomize=True)
"""In CI the same examples each time: what is found by chance is found while developing, and then stands as a test of its own."""
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway that the test configures and starts; stopped with its engines at the end."""
    async with Rig(tmp_path) as rig:
        yield rig
