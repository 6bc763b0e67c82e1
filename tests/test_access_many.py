"""Very many keys: a hundred thousand over several files, two real workers. What it costs is measured by bench/auth.py."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fixtures.cli import actl
from tests.harness import Rig, eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.hard]
EACH, FILES = 20_000, 5


def secret(number: int) -> str:
    return f"sk-{number}-0123456789abcdef"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("many"), workers=2) as rig:
        await rig.engine("a", model="m")
        rig.model("m", {"a": 1})
        rig.config["include"] = [f"keys-{number}.yaml" for number in range(FILES)]
        for number, name in enumerate(rig.config["include"]):
            numbers = range(number * EACH, (number + 1) * EACH)
            hashes = {n: hashlib.sha256(secret(n).encode()).hexdigest() for n in numbers}
            rows = [f'  - {{id: k{n}, hash: "sha256:{hashes[n]}", tenant: acme, project: bot, models: ["m"]}}' for n in numbers]
            (rig.tmp / name).write_text("\n".join(["keys:", *rows, ""]))
        del rig.config["keys"]
        await rig.start(wait=False)
        await eventually(lambda: "ready:" in rig.log(), within=120)
        yield rig


def resident(rig: Rig, name: str) -> int:
    """MiB."""
    return int(Path(f"/proc/{rig.pid_of(name)}/statm").read_text().split()[1]) * 4 // 1024


async def test_the_first_and_the_last_are_known_and_a_stranger_is_not(rig):
    for number in (0, EACH, EACH * FILES - 1):
        assert (await rig.chat("m", key=secret(number), max_tokens=1)).status == 200
    assert (await rig.chat("m", key=secret(EACH * FILES), max_tokens=1)).status == 401


async def test_a_new_key_is_live_everywhere_and_workers_do_not_grow_by_each(rig):
    before = 0
    for number in range(6):
        made = await actl("keys", "create", "--tenant", "acme", "--project", "bot", "-q", timeout=120, GATEWAY_CONFIG=str(rig.path))
        assert made.code == 0, made.err
        for _ in range(6):
            answer = await rig.chat("m", key=made.out.strip(), max_tokens=1, headers={"Connection": "close"})
            assert answer.status == 200
        before = resident(rig, "worker-0") if number == 1 else before
    assert resident(rig, "worker-0") - before < 60, "of 100,000 keys a revision takes about that"
    gone = await actl("keys", "revoke", "k99999", "--yes", timeout=120, GATEWAY_CONFIG=str(rig.path))
    assert gone.code == 0, gone.err
    assert (await rig.chat("m", key=secret(99_999), max_tokens=1)).status == 401
