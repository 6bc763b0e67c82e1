"""A gateway is found although its configuration no longer says where it listens."""

import asyncio
import os
from pathlib import Path

import pytest

from gateway.admin.server import serve_admin
from gatewayctl import app, elsewhere
from tests.fixtures.cli import actl
from tests.fixtures.desk import FakeDesk, write_config
from tests.harness import Rig

TABLE = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/a/admin.sock
0000000000000000: 00000003 00000000 00000000 0001 03 2 /run/a/admin.sock
0000000000000000: 00000003 00000000 00000000 0001 03 3 /run/connected/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 4 /run/with space/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 5 @/abstract/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 6 /run/other.sock
0000000000000000: 00000003 00000000 00000000 0001 03 7
"""


@pytest.fixture
async def desk(tmp_path):
    config = write_config(tmp_path)
    desk = FakeDesk(config)
    server = await serve_admin(desk, tmp_path / "data/admin.sock")
    yield desk
    await server.close()


def test_candidates_are_listening_sockets_of_our_name(tmp_path):
    (tmp_path / "unix").write_text(TABLE)
    assert list(elsewhere.candidates(tmp_path / "unix")) == [Path("/run/a/admin.sock"), Path("/run/with space/admin.sock")]
    assert list(elsewhere.candidates(tmp_path / "missing")) == []


@pytest.mark.parametrize("spoil", ["", None, "data_dir: another\n"])
async def test_the_gateway_of_a_configuration_that_no_longer_says_where(desk, spoil):
    if spoil is None:
        desk.path.unlink()
    else:
        desk.path.write_text(spoil)
    ran = await actl("status", "-o", "json", "--config", desk.path)
    assert ran.code == 0 and f'"path": "{desk.path}"' in ran.out
    ran = await actl("reload", "--config", desk.path)
    assert ran.code == 78 and str(desk.path) in ran.err
    assert [what for what, _ in desk.calls] == ["reload"]


async def test_another_gateways_socket_is_not_taken_for_it(desk, tmp_path):
    ran = await actl("reload", "--config", tmp_path / "sub/gateway.yaml")
    assert ran.code == 5 and "cannot be found" in ran.err and desk.calls == []


async def test_without_a_configuration_the_default_place_is_not_taken_for_ours(desk, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gateway.config.locate.DATA_DIR", str(tmp_path / "data"))
    code = await app_run("reload", "--config", str(tmp_path / "gone.yaml"))
    assert code == 5 and "cannot be found" in capsys.readouterr().err and desk.calls == []


async def test_strangers_are_not_believed(desk, tmp_path, monkeypatch):
    path = tmp_path / "data/admin.sock"
    assert elsewhere.believed(path, desk.path)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(elsewhere, "_credentials", FakeCredentials(uid=4444, gid=4444))
    assert not elsewhere.believed(path, desk.path)
    monkeypatch.setattr(elsewhere, "_credentials", FakeCredentials(uid=4444, gid=tmp_path.stat().st_gid))
    assert elsewhere.believed(path, desk.path)
    with pytest.raises(OSError):
        elsewhere.believed(tmp_path / "nobody.sock", desk.path)


async def test_a_real_gateways_deleted_file_is_78_with_controls_words(rig: Rig):
    await rig.engine("a")
    rig.model("qwen")
    await rig.start()
    rig.path.unlink()
    ran = await actl("reload", "--config", rig.path)
    assert ran.code == 78 and str(rig.path) in ran.err and "no such file" in ran.err
    assert (await rig.chat("qwen", max_tokens=2)).status == 200


class FakeCredentials:
    """Another user at the other end."""

    size = 12

    def __init__(self, uid: int, gid: int) -> None:
        self._who = (1, uid, gid)

    def unpack(self, data: bytes) -> tuple[int, int, int]:
        return self._who


async def app_run(*arguments: str) -> int:
    return await asyncio.to_thread(app.run, list(arguments))
