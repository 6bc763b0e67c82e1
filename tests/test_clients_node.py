"""The official `openai` client for Node against the gateway. What it does is in tests/clients/node/check.mjs.

Skipped where Node, npm or the registry is missing. The package is installed once, into pytest's cache.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.config.keys import hash_of
from tests.harness import KEY, Rig, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOURCE = Path(__file__).parent / "clients/node"
NARROW = "sk-narrow-0123456789abcdef0123456789abcdef"
CHECKS = "chat stream usage tools json embeddings models completions errors request_ids timeout cancellation".split()
INSTALL = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=15000"]


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with check.mjs and the pinned client."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    wanted = json.loads((SOURCE / "package.json").read_text())["dependencies"]["openai"]
    cache = getattr(request.config, "cache", None)
    folder = Path(cache.mkdir(f"node-openai-{wanted}")) if cache else tmp_path_factory.mktemp("node")
    installed = folder / "node_modules/openai/package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != wanted:
        shutil.copy(SOURCE / "package.json", folder)
        try:
            done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=50)
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not install the client within 50 s")
        if done.returncode:
            pytest.skip(f"npm could not install openai {wanted}: {done.stderr.strip().splitlines()[-1:]}")
    shutil.copy(SOURCE / "check.mjs", folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, package: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("rig")) as rig:
        for kind in ("vllm", "sglang", "mindie"):
            await rig.engine(kind, kind, max_model_len=2000)
            rig.model(kind, {kind: 1})
        await rig.engine("slow", "vllm", tps=20, reply_tokens=400)
        rig.model("slow", {"slow": 1})
        rig.config["keys"].append({"id": "k2", "hash": hash_of(NARROW), "tenant": "acme", "project": "bot", "models": ["vllm"]})
        await rig.start()
        yield rig


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(gateway: Rig, package: Path) -> dict[str, Any]:
    """What check.mjs found, by name."""
    names = {"BASE_URL": f"{gateway.url}/v1", "KEY": KEY, "NARROW_KEY": NARROW, "NO_PROXY": "127.0.0.1"}
    node = await asyncio.create_subprocess_exec(
        "node", "check.mjs", cwd=package, env={**os.environ, **names}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(node.communicate(), 45)
    except TimeoutError:
        node.kill()
        await node.wait()
        raise
    assert node.returncode == 0, err.decode()
    return {found["name"]: found for found in map(json.loads, out.decode().splitlines())}


@pytest.mark.parametrize("check", CHECKS)
async def test_node(results: dict[str, Any], check: str) -> None:
    assert results[check]["ok"], results[check]["detail"]


async def test_all_checks_ran(results: dict[str, Any]) -> None:
    assert list(results) == CHECKS


async def test_an_aborted_stream_freed_the_engine_within_a_second(gateway: Rig, results: dict[str, Any]) -> None:
    left = results["cancellation"]["detail"]["left"] - time.time() + time.monotonic()
    engine = gateway.engines["slow"]
    aborted = await eventually(lambda: engine.requests[-1].aborted_at, within=1.0)
    assert aborted - left < 1.0
    assert (await gateway.record(model="slow", stream=True))["end"] == "CD"
