"""Revisions on disk: numbered, committed by a rename, never fatal; and what a rollback does not bring back."""

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from gateway.config import edit, revisions
from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import FORMAT
from gateway.config.revisions import KEEP, Damaged, Revisions

HASH = "sha256:" + "0f" * 32
MAIN = "version: 1\nnode: first # a comment\ninclude: [keys.yaml]\ntenants: {t: {projects: {p: {}}}}\n"
KEYS = f'keys:\n  - {{id: k1, hash: "{HASH}", tenant: t, project: p, models: ["*"]}}\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gateway.yaml").write_text(MAIN)
    (tmp_path / "keys.yaml").write_text(KEYS)
    return tmp_path


def save(folder: Path, **more) -> int:
    loaded = load(folder / "gateway.yaml", {})
    config, keys = resolve(loaded)
    kept = Revisions(folder / "data")
    rev = kept.save(digest=loaded.digest, files=loaded.files, resolved=config, keys=keys, by="test", why="because", **more)
    kept.commit(rev)
    return rev


def test_a_revision_comes_back_as_it_was(folder):
    kept = Revisions(folder / "data")
    assert kept.current() is None and list(kept.list()) == [] and kept.upcoming() == 1
    assert save(folder) == 1 and save(folder) == 2
    loaded = load(folder / "gateway.yaml", {})
    found = kept.current()
    assert found is not None and (found.rev, found.by, found.why, found.digest) == (2, "test", "because", loaded.digest)
    assert (found.resolved, found.keys) == resolve(loaded) and found.files == loaded.files
    assert [told.rev for told in kept.list()] == [1, 2] and kept.damaged == ()
    for name in os.listdir(folder / "data" / "revisions"):
        assert (folder / "data" / "revisions" / name).stat().st_mode & 0o777 == 0o600
    assert (folder / "data" / "revisions").stat().st_mode & 0o777 == 0o700


def test_saving_alone_puts_nothing_in_force(folder):
    save(folder)
    loaded = load(folder / "gateway.yaml", {})
    config, keys = resolve(loaded)
    kept = Revisions(folder / "data")
    kept.save(digest="", files={}, resolved=config, keys=keys, by="", why="")
    current = kept.current()
    assert current is not None and current.rev == 1
    with pytest.raises(Damaged, match=rf"there is no revision 9 \(the last {KEEP} are kept\)"):
        kept.get(9)
    with pytest.raises(Damaged, match="no revision 9"):
        kept.commit(9)


def test_the_last_fifty_are_kept_and_the_one_in_force(folder, monkeypatch):
    monkeypatch.setattr(revisions, "KEEP", 3)
    assert KEEP == 50
    save(folder)
    kept = Revisions(folder / "data")
    config, keys = resolve(load(folder / "gateway.yaml", {}))
    for _ in range(5):
        kept.save(digest="", files={}, resolved=config, keys=keys, by="", why="")
    assert [told.rev for told in kept.list()] == [1, 4, 5, 6]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data: data[:-10], "damaged"),
        (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: b"something else", "damaged"),
    ],
)
def test_a_damaged_one_is_told_and_harms_no_other(folder, harm, said):
    save(folder)
    save(folder)
    path = folder / "data" / "revisions" / "000002.rev"
    path.write_bytes(harm(path.read_bytes()))
    kept = Revisions(folder / "data")
    assert kept.current() is None and said in kept.damaged[0]
    assert [told.rev for told in kept.list()] == [1] and len(kept.damaged) == 1 and "puts a whole one in its place" in kept.damaged[0]
    kept.commit(1)
    with pytest.raises(Damaged, match="or remove it"):
        kept.get(2)
    assert kept.get(1).rev == 1 and kept.upcoming() == 3


@pytest.mark.parametrize("text", ["", "x\n", "7\n"])
def test_a_damaged_current_is_told(folder, text):
    save(folder)
    (folder / "data" / "revisions" / "current").write_text(text)
    kept = Revisions(folder / "data")
    assert kept.current() is None and len(kept.damaged) == 1
    assert kept.upcoming() == (8 if "7" in text else 2)


def test_a_newer_format_is_refused(folder, monkeypatch):
    monkeypatch.setattr(revisions, "FORMAT", FORMAT + 1)
    save(folder)
    monkeypatch.undo()
    kept = Revisions(folder / "data")
    assert kept.current() is None and "newer gateway" in kept.damaged[0]


def test_a_form_that_is_not_ours_is_refused(folder):
    save(folder)
    path = folder / "data" / "revisions" / "000001.rev"
    body = msgspec.msgpack.encode({"format": FORMAT, "rev": 1})
    path.write_bytes(revisions._MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(Damaged, match="not understood"):
        Revisions(folder / "data").get(1)


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_a_rollback_brings_files_back_but_no_revoked_key(folder):
    save(folder)
    (folder / "gateway.yaml").write_text(MAIN.replace("first # a comment", "second"))
    edit.remove_key(folder / "keys.yaml", "k1")
    edit.add_keys(folder / "keys.yaml", [{"id": "k2", "hash": f"sha256:{'02' * 32}", "tenant": "t", "project": "p", "models": ["*"]}])
    today = (folder / "keys.yaml").read_text()
    save(folder)
    said = Revisions(folder / "data").restore(1)
    assert (folder / "gateway.yaml").read_text() == MAIN and (folder / "keys.yaml").read_text() == today
    assert [Path(name).name for name in said.written] == ["gateway.yaml"] and [Path(name).name for name in said.kept] == ["keys.yaml"]
    assert "keys stay as they are today" in said.said


def test_keys_among_other_words_stay_those_of_today_too(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("include: [keys.yaml]\n", "") + KEYS + "# end\n")
    save(folder)
    (folder / "gateway.yaml").write_text(MAIN.replace("include: [keys.yaml]\n", "").replace("first", "second") + "keys: [] # revoked\n")
    save(folder)
    said = Revisions(folder / "data").restore(1)
    text = (folder / "gateway.yaml").read_text()
    assert "node: first" in text and "k1" not in text and "keys: []" in text and text.endswith("# end\n")
    assert [Path(name).name for name in said.mixed] == ["gateway.yaml"]


def test_a_rollback_to_inline_keys_finds_none_when_they_live_elsewhere_today(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("include: [keys.yaml]\n", "") + KEYS)
    save(folder)
    (folder / "gateway.yaml").write_text(MAIN)
    save(folder)
    Revisions(folder / "data").restore(1)
    assert load(folder / "gateway.yaml", {}).config.keys == []


def test_lost_files_are_written_anew_and_new_ones_are_named(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("[keys.yaml]", '[keys.yaml, "conf.d/*.yaml"]'))
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "a.yaml").write_text("http: {body: 1MiB}\n")
    save(folder)
    (folder / "conf.d" / "a.yaml").unlink()
    (folder / "conf.d" / "b.yaml").write_text("journal: {sync: group}\n")
    save(folder)
    (folder / "keys.yaml").unlink()
    said = Revisions(folder / "data").restore(1)
    assert (folder / "conf.d" / "a.yaml").read_text() == "http: {body: 1MiB}\n" and (folder / "keys.yaml").read_text() == "keys: []\n"
    assert [Path(name).name for name in said.extra] == ["b.yaml"] and "left in place" in said.said


def test_a_rollback_works_when_the_file_of_today_is_broken(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("include: [keys.yaml]\n", "") + KEYS)
    save(folder)
    (folder / "gateway.yaml").write_text(MAIN.replace("include: [keys.yaml]\n", "") + KEYS.replace("k1", "k2"))
    save(folder)
    (folder / "gateway.yaml").write_text("version: [\n")
    Revisions(folder / "data").restore(1)
    assert [key.id for key in load(folder / "gateway.yaml", {}).config.keys] == ["k2"]


# -- back, and no number -------------------------------------------------------------------------------------------------


def test_back_leads_to_what_is_live_when_the_files_are_not_that(folder):
    save(folder)
    (folder / "gateway.yaml").write_text(MAIN.replace("first", "second"))
    save(folder)
    kept = Revisions(folder / "data")
    assert kept.back(2) == (1, "the files on disk are those of revision 2, which is live: back to the one before, revision 1")
    for text in ("version: [\n", MAIN, MAIN.replace("first", "third")):
        (folder / "gateway.yaml").write_text(text)
        assert kept.back(2) == (2, f"{folder / 'gateway.yaml'} on disk is not what is live: back to revision 2, which is live")
    (folder / "gateway.yaml").unlink()
    assert kept.back(2)[0] == 2


def test_back_looks_past_keys_which_no_rollback_touches(folder):
    save(folder)
    save(folder)
    edit.remove_key(folder / "keys.yaml", "k1")
    assert Revisions(folder / "data").back(2)[0] == 1
    assert Revisions(folder / "data").back(1) == (0, "there is no earlier revision to go back to")


def test_back_from_a_revision_that_is_lost_leads_to_the_one_before(folder):
    save(folder)
    save(folder)
    (folder / "data" / "revisions" / "000002.rev").write_text("damaged")
    assert Revisions(folder / "data").back(2)[0] == 1
