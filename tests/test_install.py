"""`gatewayctl install` and `uninstall` below a root of their own: what lies where, what stays, what goes."""

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayctl import app
from gatewayctl.client import Client
from gatewayctl.commands import install as module
from gatewayctl.commands import uninstall as uninstalling
from gatewayctl.manual import SCRIPTS
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble

ROOT = Path(__file__).parents[1]


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `make binary` makes it, and this process as its program."""
    folder = tmp_path / "unpacked"
    for place in (
        "_internal",
        "share/configs",
        "share/docs",
        "share/man",
        *(f"share/completions/{shell}" for shell in ("bash", "zsh", "fish")),
    ):
        (folder / place).mkdir(parents=True)
    (folder / "gatewayctl").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "gatewayctl").chmod(0o755)
    (folder / "share/sbom.cdx.json").write_text("{}")
    for file in ("gateway.yaml", "keys.yaml", "gateway.schema.json"):
        (folder / "share/configs" / file).write_text((ROOT / "configs" / file).read_text())
    shutil.copytree(ROOT / "systemd", folder / "share/systemd")
    for file in ("man/gatewayctl.1", "man/gatewayctl-keys.1", "man/gateway.yaml.5", *(f"completions/{name}" for name in SCRIPTS.values())):
        (folder / "share" / file).write_text(file)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(folder / "gatewayctl"))
    monkeypatch.setattr(module, "_version", lambda: "1.0.0")
    return folder


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the last act deletes; here it does not end this process."""
    gone: list[str] = []

    def rm(_: str, argv: list[str]) -> None:
        gone.extend(argv[3:])
        subprocess.run(argv, check=True)

    monkeypatch.setattr(os, "execvp", rm)
    return gone


def run(*arguments: object) -> int:
    return app.run([str(argument) for argument in arguments])


def test_everything_is_laid_out_and_taken_back(packaged: Path, tmp_path: Path, removed: list[str], capsys: Any) -> None:
    root = tmp_path / "root"
    assert run("install", "--root", root) == 0
    link = root / "usr/local/bin/gatewayctl"
    assert str(link.readlink()) == "../lib/gateway/1.0.0/gatewayctl" and os.access(link, os.X_OK)
    unit = (root / "etc/systemd/system/gateway.service").read_text()
    assert "ExecStart=/usr/local/bin/gatewayctl serve" in unit and "/usr/bin/gatewayctl" not in unit.replace("/usr/local", "")
    assert {path.name for path in (root / "etc/gateway").iterdir()} == {"gateway.yaml", "keys.yaml", "gateway.schema.json", "secrets"}
    assert (root / "etc/gateway").stat().st_mode & 0o777 == 0o750
    assert (root / "etc/gateway/keys.yaml").stat().st_mode & 0o777 == 0o640
    assert "ExecStart=/usr/local/bin/gatewayctl backup" in (root / "etc/systemd/system/gateway-backup.service").read_text()
    assert (root / "etc/systemd/system/gateway-backup.timer").exists()
    shown = root / "usr/local/share"
    assert (shown / "man/man1/gatewayctl-keys.1").read_text() == "man/gatewayctl-keys.1" and (shown / "man/man5/gateway.yaml.5").exists()
    assert (shown / "bash-completion/completions/gatewayctl").read_text() == "completions/bash/gatewayctl"
    (root / "var/lib/gateway").mkdir(parents=True)
    (root / "etc/systemd/system/gateway-mine.timer").write_text("mine")
    (shown / "man/man1/gatewayfoo.1").write_text("not ours")
    assert run("uninstall", "--root", root) == 0
    assert [path.name for path in (root / "etc/systemd/system").iterdir()] == ["gateway-mine.timer"]
    assert [path.name for path in shown.rglob("*") if not path.is_dir() or path.is_symlink()] == ["gatewayfoo.1"]
    assert not os.path.lexists(link) and not (root / "usr/local/lib/gateway").exists()
    assert not (root / "etc/systemd/system/gateway.service").exists()
    assert (root / "etc/gateway/gateway.yaml").exists() and (root / "var/lib/gateway").exists()
    assert "stay" in capsys.readouterr().err
    assert run("uninstall", "--root", root) == 1, "there is nothing any more"
    assert run("install", "--root", root) == 0
    assert run("uninstall", "--root", root, "--purge") == 2, "nobody can be asked"
    assert run("uninstall", "--root", root, "--purge", "--yes") == 0
    assert not (root / "etc/gateway").exists() and not (root / "var/lib/gateway").exists()
    assert removed


def test_a_newer_version_lies_beside_the_one_before_and_the_files_stay(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, prefix = tmp_path / "root", tmp_path / "root/opt/gw"
    assert run("install", "--root", root, "--prefix", "/opt/gw") == 0
    (root / "etc/gateway/gateway.yaml").write_text("mine")
    for version in ("1.1.0", "1.2.0"):
        monkeypatch.setattr(module, "_version", lambda version=version: version)
        assert run("install", "--root", root, "--prefix", "/opt/gw") == 0
        assert str((prefix / "bin/gatewayctl").readlink()) == f"../lib/gateway/{version}/gatewayctl"
    assert {path.name for path in (prefix / "lib/gateway").iterdir()} == {"1.1.0", "1.2.0"}
    assert (root / "etc/gateway/gateway.yaml").read_text() == "mine"
    assert os.path.realpath(prefix / "share/man/man1/gatewayctl.1") == str(prefix / "lib/gateway/1.2.0/share/man/gatewayctl.1")
    assert "/opt/gw/bin/gatewayctl" in (root / "etc/systemd/system/gateway.service").read_text()


def test_the_same_again_changes_nothing_and_another_build_of_it_gets_its_own_folder(packaged: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    versions = root / "usr/local/lib/gateway"
    for _ in range(2):
        assert run("install", "--root", root) == 0
        assert [path.name for path in versions.iterdir()] == ["1.0.0"]
    (packaged / "_internal/pipeline.so").write_text("another one, of the same size as before")
    for _ in range(2):
        assert run("install", "--root", root) == 0
        assert {path.name for path in versions.iterdir()} == {"1.0.0", "1.0.0-2"}
        assert "1.0.0-2" in str((root / "usr/local/bin/gatewayctl").readlink())


def test_a_strict_umask_of_root_does_not_shut_the_service_out(packaged: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert run("install", "--root", tmp_path / "root") == 0
    finally:
        os.umask(before)
    link = tmp_path / "root/usr/local/bin/gatewayctl"
    for path in (link.parent, Path(os.path.realpath(link)).parent.parent, tmp_path / "root/etc/systemd/system"):
        assert path.stat().st_mode & 0o777 == 0o755, path


def test_a_place_where_it_cannot_lie_or_run_is_said_and_nothing_is_done(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(source: Path, target: Path, **_: Any) -> None:
        """As shutil says it: of each file."""
        target.mkdir()
        raise shutil.Error([(f"{source}/{number}", f"{target}/{number}", "[Errno 28] No space left on device") for number in range(1000)])

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", full)
        assert run("install", "--root", tmp_path / "full") == 1
    said = capsys.readouterr().err
    assert "nothing was installed" in said and "No space left" in said and len(said) < 500
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as where it is mounted noexec
    assert run("install", "--root", tmp_path / "noexec") == 1
    assert "--prefix" in capsys.readouterr().err
    assert not [path for name in ("full", "noexec") for path in (tmp_path / name).rglob("*") if not path.is_dir()]


@pytest.mark.parametrize(("group", "user"), [(False, False), (True, False), (True, True)])
def test_a_group_of_the_name_may_be_there_without_its_user(group: bool, user: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"getgrnam": group, "getpwnam": user}
    said: list[str] = []

    def known(name: str) -> Any:
        def ask(_: str) -> None:
            if not there[name]:
                raise KeyError

        return ask

    monkeypatch.setattr(grp, "getgrnam", known("getgrnam"))
    monkeypatch.setattr(pwd, "getpwnam", known("getpwnam"))
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: said.append(" ".join(argv)))
    module._user()
    assert [line.split()[0] for line in said] == ["groupadd"] * (not group) + ["useradd"] * (not user)
    assert user or ("--gid gateway" in said[-1] and "--user-group" not in said[-1]), "it fails where there is a group of the name"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_files_that_were_restored_before_it_are_the_groups_too(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = tmp_path / "root/etc/gateway"
    etc.mkdir(parents=True)
    (etc / "gateway.yaml").write_text("version: 1\n")
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=4321))
    assert run("install", "--root", tmp_path / "root") == 0
    assert [path.stat().st_gid for path in (etc, etc / "gateway.yaml")] == [4321] * 2 and not (etc / "keys.yaml").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_purge_leaves_backups_to_root(packaged: Path, tmp_path: Path, removed: list[str]) -> None:
    root = tmp_path / "root"
    assert run("install", "--root", root) == 0
    kept = [root / "var/lib" / name for name in ("gateway-backup/b.tar", "gateway.before-restore/journal/x", "gateway.before-restore-2/x")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("x")
        for one in (path, path.parent):
            os.chown(one, 4321, 4321)
    assert run("uninstall", "--root", root, "--purge", "--yes") == 0
    assert [(one.stat().st_uid, one.stat().st_gid) for path in kept for one in (path, path.parent)] == [(0, 0)] * 6


def test_nothing_is_taken_away_from_under_a_gateway_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing that `uninstall` does; with systemd it stops the service before it looks."""
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: None)
    for runs in (False, True):
        monkeypatch.setattr(Client, "running", lambda self, runs=runs: runs)
        with pytest.raises(Trouble, match="nothing was removed") if runs else contextlib.nullcontext():
            uninstalling._stop(Session(Path("gateway.yaml"), Path("admin.sock")))


def test_one_that_cannot_read_what_is_there_is_refused(packaged: Path, tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "root"
    assert run("install", "--root", root) == 0
    config = root / "etc/gateway/gateway.yaml"
    for place in ("var/lib/gateway", "srv/gw"):
        config.write_text(f"version: 1\ndata_dir: /{place}\n")
        stamp = root / place / "formats.json"
        stamp.parent.mkdir(parents=True)
        stamp.write_text('{"version": "9.9.9", "formats": {"ledger": 99}}')
        (packaged / "share/sbom.cdx.json").write_text(place)
        before = sorted(root.rglob("*"))
        assert run("install", "--root", root) == 1
        assert "version 9.9.9: its ledger has format 99" in capsys.readouterr().err and sorted(root.rglob("*")) == before


def test_what_is_not_ours_is_left_alone(packaged: Path, tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "root"
    (root / "usr/local/bin").mkdir(parents=True)
    (root / "usr/local/bin/gatewayctl").write_text("somebody's")
    assert run("install", "--root", root) == 1
    assert "is there and is not ours" in capsys.readouterr().err
    (root / "usr/local/bin/gatewayctl").unlink()
    unit = root / "etc/systemd/system/gateway.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n# an admin's own\n")
    assert run("install", "--root", root) == 0
    assert "an admin's own" in unit.read_text()
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "usr/lib/systemd/system/gateway.service").write_text("")
    for verb in ("install", "uninstall"):
        assert run(verb, "--root", root) == 1
        assert "as a package" in capsys.readouterr().err


def test_a_checkout_does_not_install_itself(tmp_path: Path, capsys: Any) -> None:
    assert run("install", "--root", tmp_path) == 1
    assert "only a packaged gatewayctl can install itself" in capsys.readouterr().err
