"""`gatewayctl backup` and `restore`: whole or not at all, while the gateway serves, without secrets unless told, and back again."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.locate import data_dir_of, moved
from gatewayctl import app
from gatewayctl.backup import swapping
from gatewayctl.backup.contents import FIRST, Item, Left, _order, of_configuration, of_data
from gatewayctl.backup.manifest import Entry, Manifest, decoded
from gatewayctl.backup.reading import verified
from gatewayctl.backup.writing import keep, name_of, sweep, writing
from gatewayctl.trouble import Trouble
from tests.fixtures.cli import GATEWAYCTL, actl, ctl, environment
from tests.fixtures.desk import write_config
from tests.harness import Rig, eventually
from tests.test_full_disks import small_disk

SECRET = "sk-backup-canary-0123456789"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = write_config(folder)
    (folder / "gpu.key").write_text(SECRET + "\n")
    text = (
        file.read_text()
        .replace("sk-engine-secret-1", '"${file:gpu.key}"')
        .replace("headers: {X-Team: hush}", "headers: {X: '${env:TEAM:-x}'}")
    )
    file.write_text(text.replace("data_dir: data", "data_dir: ../data"))
    (folder / "data").rmdir()
    data = tmp_path / "data"
    for name in ("journal", "limits", "metrics", "archive"):
        (data / name).mkdir(parents=True)
    for name in ("journal/0-a-000001.ndjson", "journal/0-a-000002.open", "journal/0-a.progress", "journal/reserve", "limits/00.json"):
        (data / name).write_text('{"kind":"done"}\n')
    for name in ("limits/upto.json", "metrics/x.db", "lock", "audit.log", "ledger.duckdb", "ledger.duckdb.wal", "archive/2026-10.parquet"):
        (data / name).write_text("x")
    (data / "drains.json").write_text("[]")
    return file


def names(path: Path) -> set[str]:
    with tarfile.open(path) as tar:
        return {member.name for member in tar if member.isfile()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- what is in it -----------------------------------------------------------------------------------------------------


def test_what_is_in_it_and_what_is_not(config, tmp_path):
    target = tmp_path / "b.tar"
    ran = ctl("backup", target, "-c", config)
    assert ran.code == 0 and f"{target}: 10 files" in ran.out and target.stat().st_mode & 0o777 == 0o600
    there = {name.rpartition("/")[2] for name in names(target)}
    assert there == {
        "gateway.yaml", "keys.yaml", "manifest.json", "0-a-000001.ndjson", "0-a-000002.open", "0-a.progress", "00.json", "upto.json",
        "audit.log", "2026-10.parquet", "drains.json",
    }  # fmt: skip
    assert f"not in it: {config.parent}/gpu.key (a secret: --with-secrets takes it along)" in ran.err
    assert "not in it: ${env:TEAM}" in ran.err
    assert "the ledger is not in the backup" in ran.err, "an x is no ledger"
    assert SECRET.encode() not in target.read_bytes()
    ctl("backup", tmp_path / "s.tar.gz", "-c", config, "--with-secrets")
    assert any(name.endswith("gpu.key") for name in names(tmp_path / "s.tar.gz"))


def test_a_credential_of_the_service_may_be_out_of_reach(config, monkeypatch):
    there = "/run/credentials/gateway.service/engine.key"
    config.write_text(config.read_text().replace("${file:gpu.key}", f"${{file:{there}}}"))
    stat = Path.stat

    def shut_in(path: Path, **how: Any) -> os.stat_result:
        if str(path) == there:
            raise PermissionError(13, "Permission denied", there)
        return stat(path, **how)

    monkeypatch.setattr(Path, "stat", shut_in)
    for with_secrets in (False, True):
        items, left, _ = of_configuration(config, {}, with_secrets)
        assert {item.path.name for item in items} >= {"gateway.yaml", "keys.yaml"}
        assert [one.why for one in left if one.path == there] == ["systemd makes it from what LoadCredential= of the unit names; keep that"]


def test_a_secret_in_plain_text_is_said(config, tmp_path):
    config.write_text(config.read_text().replace('"${file:gpu.key}"', SECRET))
    assert f"{config} holds a secret in plain text" in ctl("backup", tmp_path / "b.tar", "-c", config).err


def test_while_a_gateway_serves_what_is_being_written_is_left_out(config):
    data = data_dir_of(config)
    found = {
        item.name
        for item in of_data(data, data / "ledger.duckdb", serving=True, with_secrets=False, known={"data/audit.log"})
        if isinstance(item, Item)
    }
    assert "data/journal/0-a-000001.ndjson" in found and "data/audit.log" not in found
    assert not any(name.endswith((".open", ".progress", "reserve", "lock")) or "ledger" in name or "metrics" in name for name in found)


def test_what_refers_comes_before_what_it_refers_to():
    found = sorted(
        ["journal/a.ndjson", "limits/00.json", "audit.log", "revisions/000001.rev", "limits/upto.json", "revisions/current"], key=_order
    )
    assert found == ["revisions/current", "revisions/000001.rev", "limits/upto.json", "limits/00.json", "audit.log", "journal/a.ndjson"]
    assert FIRST[0] == "revisions/current"


def test_a_folder_keeps_the_newest_and_forgets_killed_ones(config, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    for hour in range(4):
        (folder / name_of("other", hour * 3600)).write_text("")
        (folder / f"gateway-backup-mine-2026112{hour}T000000Z.tar").write_text("")
    gone = keep(folder, "mine", 3)
    assert [path.name for path in gone] == ["gateway-backup-mine-20261120T000000Z.tar"] and len(list(folder.iterdir())) == 7
    config.write_text(config.read_text() + "node: mine\n")
    (folder / ".gateway-backup-mine-20261120T000000Z.tar.77.partial").write_text("half")
    ran = ctl("backup", folder, "--keep", "2", "-c", config, "-o", "json")
    assert ran.code == 0 and len(json.loads(ran.out)["deleted"]) == 2
    assert len(list(folder.glob("*mine*"))) == 2 and not list(folder.glob(".*.partial"))
    assert ctl("backup", folder / "x.tar", "--keep", "2", "-c", config).code == 2
    assert ctl("backup", folder, "-c", tmp_path / "none.yaml").code == 78


def test_backups_within_data_dir_are_not_in_the_next_one(config, tmp_path):
    """Or each night's would be twice as large as that of the night before."""
    folder = tmp_path / "data" / "backups"
    for number in range(3):
        ran = ctl("backup", folder / f"{number}.tar", "-c", config)
        assert ran.code == 0
    assert f"{folder}/*.tar*" in ran.err, "it is said"
    assert not any(".tar" in name for name in names(folder / "2.tar"))
    assert (folder / "2.tar").stat().st_size == (folder / "0.tar").stat().st_size


def test_a_backup_within_data_dir_comes_back_and_says_where_it_went(config, tmp_path):
    file = tmp_path / "data" / "backups" / "b.tar"
    assert ctl("backup", file, "-c", config).code == 0
    ran = ctl("restore", file, "--yes", "-c", config)
    assert ran.code == 0 and "restored: " in ran.out and "Move them before you delete that" in ran.err
    assert (tmp_path / "data.before-restore" / "backups" / "b.tar").exists() and not file.exists()
    assert (tmp_path / "data" / "audit.log").exists()


def test_one_that_still_writes_is_not_swept_away(tmp_path):
    with writing(tmp_path / "b.tar"):
        sweep(tmp_path, "b.tar")
        assert list(tmp_path.glob(".b.tar.*.partial"))
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]
    with contextlib.suppress(RuntimeError), writing(tmp_path / "c.tar"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_what_vanishes_meanwhile_is_looked_for_under_its_new_name(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    here, gone, there = (Item(f"data/{name}", tmp_path / name) for name in ("a", "gone", "b"))
    looks: Iterator[list[Item | Left]] = iter([[here, gone], [there, Left("c", "why")], []])
    with writing(tmp_path / "x.tar") as backup:
        backup.take_all(lambda known: next(looks))
        assert [entry.name for entry in backup.entries] == ["data/a", "data/b"] and backup.left == {"c": "why"}


def test_no_room_is_said_before(config, tmp_path, monkeypatch, capsys):
    from gatewayctl import app

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    assert app.run(["backup", str(tmp_path / "b.tar"), "-c", str(config)]) == 1
    assert "another disk" in capsys.readouterr().err and not (tmp_path / "b.tar").exists()


# -- torn, damaged, foreign --------------------------------------------------------------------------------------------


@pytest.fixture
def backup(config, tmp_path):
    target = tmp_path / "b.tar"
    assert ctl("backup", target, "-c", config).code == 0
    return target


def test_a_torn_backup_changes_nothing(backup, tmp_path, config):
    before, data, cut = tree(tmp_path), backup.read_bytes(), tmp_path / "cut.tar"
    end = max(at for at in range(0, len(data), 512) if data[at : at + 512].strip(b"\0")) + 512
    for size in [0, 1, 300, 512, 700, *range(1024, end, 1536), end - 600]:
        cut.write_bytes(data[:size])
        with pytest.raises(Trouble, match=r"torn|damaged|no backup"):
            verified(cut)
    cut.write_bytes(data[: end - 600])
    ran = ctl("restore", cut, "--yes")
    assert ran.code == 1 and "Nothing was changed" in ran.err
    cut.unlink()
    assert tree(tmp_path) == before


def test_each_flipped_byte_is_found(backup, tmp_path):
    data, bad = backup.read_bytes(), tmp_path / "bad.tar"
    end = max(at for at in range(0, len(data), 512) if data[at : at + 512].strip(b"\0")) + 512
    unseen = []
    for at in range(0, end, 97):
        if data[at] == 0:
            continue  # padding
        bad.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            verified(bad)
        except Trouble:
            continue
        unseen.append(at)
    assert all(148 <= at % 512 < 156 for at in unseen), "the blank behind a header's own sum says nothing"


def foreign(path: Path, *members: tuple[str, bytes, Any]) -> Path:
    import io

    with tarfile.open(path, "w") as tar:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/etc/passwd", b"0"),
        ("data/../../x", b"0"),
        ("data/x", b"2"),
        ("data/x", tarfile.FIFOTYPE),
        ("x", tarfile.REGTYPE),
    ],
)
def test_what_is_no_backup_of_ours_is_refused(name, kind, tmp_path):
    manifest = Manifest("n", "1", 0.0, "/c", "/d", False, [Entry(name, 0, "")], [])
    with pytest.raises(Trouble, match="no backup"):
        verified(foreign(tmp_path / "f.tar", (name, b"", kind), ("manifest.json", manifest.encoded(), tarfile.REGTYPE)))


def test_a_manifest_of_a_newer_gateway_and_one_that_lies(tmp_path):
    whole = Manifest("n", "1", 0.0, "/c", "/d", False, [], [])
    assert decoded(whole.encoded()) == whole
    newer = Manifest("n", "1", 0.0, "/c", "/d", False, [], [], format=2)
    with pytest.raises(Trouble, match="format 2"):
        decoded(newer.encoded())
    with pytest.raises(Trouble, match="damaged"):
        decoded(whole.encoded().replace(b'"/d"', b'"/e"'))
    missing = Manifest("n", "1", 0.0, "/c", "/d", False, [Entry("data/x", 1, "0")], [])
    with pytest.raises(Trouble, match="data/x is not what its manifest says"):
        verified(foreign(tmp_path / "f.tar", ("manifest.json", missing.encoded(), tarfile.REGTYPE)))


def test_a_backup_that_is_killed_leaves_no_file_of_its_name(config, tmp_path):
    with (data_dir_of(config) / "archive/big.parquet").open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
    target = tmp_path / "b.tar.gz"
    child = subprocess.Popen([*GATEWAYCTL, "backup", str(target), "-c", str(config)], env=environment(), stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".b.tar.gz.*.partial")):
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    [half] = tmp_path.glob(".b.tar.gz.*.partial")
    ran = ctl("restore", half, "--yes")
    assert ran.code == 1 and "torn" in ran.err and not target.exists()


# -- back again --------------------------------------------------------------------------------------------------------


def test_it_comes_back_and_what_was_there_stays(backup, config, tmp_path):
    data, before = data_dir_of(config), config.read_text()
    config.write_text("version: 1\n")
    (config.parent / "keys.yaml").unlink()
    (data / "audit.log").write_text("later")
    ran = ctl("restore", backup)
    assert ran.code == 2 and "--yes" in ran.err and config.read_text() == "version: 1\n"
    (config.parent / "gpu.key").unlink()
    (tmp_path / ".data.killed.restoring").mkdir()
    ran = ctl("restore", backup, "--yes")
    assert ran.code == 0, ran.err
    assert config.read_text() == before and (config.parent / "keys.yaml").exists() and (data / "audit.log").read_text() == "x"
    assert (data.parent / "data.before-restore/audit.log").read_text() == "later" and config.with_name(
        "gateway.yaml.before-restore"
    ).exists()
    assert f"needed: {config.parent}/gpu.key" in ran.err and "${env:TEAM}" in ran.err
    assert not (data / "ledger.duckdb").exists() and not list(tmp_path.rglob("*.restoring"))
    assert ctl("restore", backup, "--yes").code == 0 and (data.parent / "data.before-restore-2").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_owners_and_modes_come_back(config, tmp_path):
    data, target = data_dir_of(config), tmp_path / "b.tar"
    for path in (data, data / "audit.log", config):
        os.chown(path, 65534, 65534)
    data.chmod(0o710)
    (data / "audit.log").chmod(0o604)
    assert ctl("backup", target, "-c", config).code == ctl("restore", target, "--yes").code == 0
    facts = [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in (data, data / "audit.log", config)]
    assert facts[:2] == [(65534, 0o710), (65534, 0o604)] and facts[2][0] == 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders away")
def test_folders_without_a_file_of_their_own_come_back_as_they_were(config, tmp_path):
    """A journal whose segments are all bundled has nothing but `kept/`; root restores it, and another user has to write there."""
    data, target = data_dir_of(config), tmp_path / "b.tar"
    kept = data / "journal/kept"
    kept.mkdir()
    (kept / "0-a.ndjson.gz").write_text("x")
    for file in data.glob("journal/*.*"):
        file.unlink()
    for folder in (data / "journal", kept):
        os.chown(folder, 65534, 65534)
        folder.chmod(0o710)
    assert ctl("backup", target, "-c", config).code == ctl("restore", target, "--yes").code == 0
    assert [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in (data / "journal", kept)] == [(65534, 0o710)] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_an_owner_who_is_nobody_here_is_root_and_told_of(backup, config, tmp_path):
    """On an empty host the number of the backup's user is free, or somebody else's, who is not to read keys and secrets."""
    foreign = tmp_path / "foreign.tar"
    with tarfile.open(backup) as old, tarfile.open(foreign, "w", format=tarfile.PAX_FORMAT) as new:
        for member in old:
            member.uid, member.gid, member.uname, member.gname = 65534, 65534, "no-such-user", "no-such-group"
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    ran = ctl("restore", foreign, "--yes")
    facts = [(path.stat().st_uid, path.stat().st_gid) for path in (config, data_dir_of(config), data_dir_of(config) / "audit.log")]
    assert ran.code == 0 and facts == [(0, 0)] * 3
    assert "nobody here is user no-such-user, group no-such-group: what was theirs is root's" in ran.err
    assert "nobody here" not in ctl("restore", backup, "--yes").err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_no_room_for_a_restore_is_said_and_changes_nothing(config, tmp_path):
    data = data_dir_of(config)
    with (data / "archive/2026-11.parquet").open("wb") as file:
        file.write(os.urandom(3 << 20))
    assert ctl("backup", tmp_path / "b.tar", "-c", config).code == 0
    data.rename(tmp_path / "was")
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", "1m"):
        data.symlink_to(tmp_path / "disk/data")
        ran = ctl("restore", tmp_path / "b.tar", "--yes")
        assert ran.code == 1 and "archive/2026-11.parquet: No space left on device; everything is as it was" in ran.err
        assert "--into" in ran.err and not list((tmp_path / "disk").iterdir())


def test_no_room_in_the_middle_of_a_backup_is_said_with_its_name(config, tmp_path, monkeypatch, capsys):
    (tmp_path / "disk").mkdir()
    with (data_dir_of(config) / "archive/2026-11.parquet").open("wb") as file:
        file.write(os.urandom(3 << 20))
    monkeypatch.setattr("gatewayctl.commands.backup._room", lambda *_: None)  # as if it went meanwhile
    with small_disk(tmp_path / "disk", "1m"):
        assert app.run(["backup", str(tmp_path / "disk/b.tar"), "--without-ledger", "-c", str(config)]) == 1
        assert f"{tmp_path}/disk/b.tar: No space left on device" in capsys.readouterr().err and not list((tmp_path / "disk").iterdir())


def test_a_data_dir_and_a_folder_of_the_configuration_that_are_links(config, tmp_path):
    """What is behind the links comes back behind the links, on the disk where it was."""
    (tmp_path / "disk").mkdir()
    data = data_dir_of(config)
    data.rename(tmp_path / "disk/data")
    data.symlink_to("disk/data")
    config.parent.rename(tmp_path / "disk/etc")
    config.parent.symlink_to("disk/etc")
    (data / "archive").rename(tmp_path / "disk/months")
    (data / "archive").symlink_to(tmp_path / "disk/months")
    ran = ctl("backup", tmp_path / "b.tar", "-c", config)
    assert ran.code == 0 and f"not in it: {data}/archive (a link to {tmp_path}/disk/months, which is not followed" in ran.err
    assert ctl("restore", tmp_path / "b.tar", "--check").code == 0
    (data / "audit.log").write_text("later")
    ran = ctl("restore", tmp_path / "b.tar", "--yes")
    assert ran.code == 0 and data.is_symlink() and (data / "audit.log").read_text() == "x", ran.err
    assert (tmp_path / "disk/data.before-restore/audit.log").read_text() == "later" and config.parent.is_symlink()
    shutil.rmtree(tmp_path / "disk/data")
    assert ctl("restore", tmp_path / "b.tar", "--yes").code == 0 and (tmp_path / "disk/data/audit.log").exists(), "a link to nothing yet"


def test_below_another_folder(backup, config, tmp_path):
    into = tmp_path / "there"
    ran = ctl("restore", backup, "--into", into, "-o", "json")
    told = json.loads(ran.out)
    main = Path(told["config"])
    assert ran.code == 0 and told["data_dir"] == str(into / "data") and told["before"] == []
    assert data_dir_of(main) == into / "data" and (main.parent / "keys.yaml").exists() and (into / "data/audit.log").exists()
    assert ctl("restore", "--check", backup).code == 0 and ctl("restore", "--check", backup, "--into", into).code == 2
    (into / "mine").write_text("x")
    assert ctl("restore", backup, "--into", into).code == 0 and (tmp_path / "there.before-restore/mine").exists()


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\n",
        "data_dir: /a b # c\nx: 1\n",
        'data_dir: "/a"\n',
        "data_dir: '/a'\n",
        "{version: 1, data_dir: /a}\n",
        "{version: 1}\n",
    ],
)
def test_a_main_file_gets_another_data_dir(text, tmp_path):
    file = tmp_path / "g.yaml"
    file.write_text(moved(text, Path("/new/place")))
    assert data_dir_of(file) == Path("/new/place")
    assert len(file.read_text().splitlines()) in (len(text.splitlines()), len(text.splitlines()) + 1)


def test_renames_are_all_or_none(tmp_path, monkeypatch):
    for name in ("a", "b", "new-a", "new-b"):
        (tmp_path / name).write_text(name)
    rename = os.rename

    def failing(source: Any, target: Any) -> None:
        if Path(source).name == "new-b":
            raise OSError(16, "Device or resource busy", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(Trouble, match="everything is as it was") as caught:
        swapping.swap([(tmp_path / "new-a", tmp_path / "a"), (tmp_path / "new-b", tmp_path / "b")])
    assert "mount point" in caught.value.hint
    assert (tmp_path / "a").read_text() == "a" and (tmp_path / "b").read_text() == "b"


@pytest.mark.hard
async def test_under_load_and_back_again(rig: Rig, tmp_path: Path) -> None:
    await rig.engine("a", "vllm")
    rig.model("qwen")
    rig.config["tenants"]["acme"]["limits"] = [{"count": "requests", "max": 10_000, "per": "day"}]
    rig.config["channels"]["a"]["credential"] = "${env:BACKUP_KEY}"
    await rig.start(env={"BACKUP_KEY": SECRET})
    asked = 0

    async def load() -> None:
        nonlocal asked
        while True:
            answer = await rig.chat("qwen", max_tokens=2)
            asked += answer.status == 200

    callers = [asyncio.create_task(load()) for _ in range(4)]
    await eventually(lambda: len(list(rig.data_dir.glob("journal/*.ndjson"))) >= 3 and (rig.data_dir / "limits/upto.json").exists(), 20)
    known = rig.records()[0]["id"]
    target = tmp_path / "b.tar"
    ran = await actl("backup", target, "-c", rig.path)
    assert ran.code == 0, ran.err
    refused = await actl("restore", target, "--yes")
    assert refused.code == 1 and "a gateway (pid" in refused.err and "--into" in refused.err
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await rig.stop()
    assert SECRET.encode() not in target.read_bytes() and SECRET.encode() in b"".join(tree(rig.data_dir / "revisions").values())

    shutil.rmtree(rig.data_dir)
    rig.path.write_text("lost\n")
    ran = await actl("restore", target, "--yes")
    assert ran.code == 0, ran.err
    rig.log_path.unlink()
    written, rig.write = rig.path.read_text(), lambda: None  # type: ignore[method-assign]
    await rig.start(env={"BACKUP_KEY": SECRET})
    assert rig.path.read_text() == written
    assert (await rig.chat("qwen")).status == 200, "keys work"
    assert (await actl("requests", "show", known, "-c", rig.path)).code == 0, "records can be found"
    [counter] = (await rig.admin("GET", "/v1/limits/counters?tenant=acme"))["counters"]
    assert 3 <= counter["used"] <= asked + 1, "limits have counted what was before"
    history = json.loads((await actl("config", "history", "-o", "json", "-c", rig.path)).out)
    assert [one["rev"] for one in history] == [1, 2]
    assert (await actl("config", "rollback", "1", "--yes", "-c", rig.path)).code == 0
