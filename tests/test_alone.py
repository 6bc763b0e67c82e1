"""Commands take the ledger's files over only where no gateway has them, and do not get in the way of one that starts."""

import errno
import os
from pathlib import Path

import pytest

from gateway.upgrade.claim import Claimed, claim
from gatewayctl.alone import owner_of, take_over
from gatewayctl.session import Session
from gatewayctl.trouble import FORBIDDEN, UNREACHABLE, Trouble

NOBODY = Trouble("the gateway is not running", code=UNREACHABLE)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    config = tmp_path / "gateway.yaml"
    config.write_text("version: 1\ndata_dir: data\n")
    (tmp_path / "data").mkdir()
    return Session(config)


def test_files_of_a_gateway_whose_control_is_away_are_left_alone(session, capsys):
    folder = session.config.parent / "data"
    take_over(session, NOBODY, "by ourselves")
    held = claim(folder)
    try:
        assert owner_of(folder / "lock") == os.getpid()
        with pytest.raises(Trouble, match=f"pid {os.getpid()}.*does not answer") as told:
            take_over(session, NOBODY, "by ourselves")
        assert told.value.code == UNREACHABLE and "Try again" in told.value.hint
    finally:
        os.close(held)
    assert owner_of(folder / "lock") is None, "its pid still stands there"
    take_over(session, NOBODY, "by ourselves")
    assert capsys.readouterr().err == "by ourselves\n" * 2


def test_a_full_disk_is_no_reason_not_to_start(session, monkeypatch):
    """After a reboot the disk is as full as before, and what served on it must serve again. The lock itself takes no room."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = session.config.parent / "data"
    os.close(claim(folder))
    monkeypatch.setattr(os, "pwrite", full)
    held = claim(folder)
    with pytest.raises(Claimed):
        claim(folder)
    os.close(held)


def test_what_is_no_absence_is_told_as_it_is(session):
    with pytest.raises(Trouble, match="not for you"):
        take_over(session, Trouble("not for you", code=FORBIDDEN), "")
    with pytest.raises(Trouble, match="is not running"):
        take_over(Session(session.config, session.socket), NOBODY, "")


@pytest.mark.parametrize("text", ["", "no pid\n", "4194305\n"])
def test_a_lock_that_says_nothing_is_nobodys(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    assert owner_of(tmp_path / "lock") is None is owner_of(tmp_path / "none") is owner_of(tmp_path / "lock", tmp_path / "locks")
