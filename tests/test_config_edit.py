"""Editing files by command: what was there stays, comments too; two commands lose nothing; nothing is written over a change."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import edit, files, surgery
from gateway.config.edit import ConfigError
from gateway.config.flow import flow


def key(id: str, digest: str = "01", **more: object) -> dict[str, object]:
    return {"id": id, "hash": f"sha256:{digest * 32}", "tenant": "t", "project": "p", "models": ["*"], **more}


NEW = key("k9", tenant="retail", project="chat", models=["qwen*", "a: b"])
ROW = flow(NEW)
HASH = "sha256:" + "0f" * 32


def row(id: str) -> str:
    return f'{{id: {id}, hash: "{HASH}", tenant: t, project: p, models: ["*"]}}'


SHAPES = {
    "no file": None,
    "nothing": "",
    "only comments": "# keys\n",
    "no newline at the end": "version: 1",
    "other words": "version: 1\nnode: a # mine\n",
    "empty list": "# top\nkeys: []  # none yet\n# end\n",
    "nothing after the colon": "keys:\n  # - an example\n\nnode: a\n",
    "null": "keys: ~ # nothing\n",
    "block": f"keys:\n  - {row('a')}  # the first\n  # between\n  - {row('b')}\n\n# end\nnode: x\n",
    "block, not indented": f"keys:\n- {row('a')}\n- {row('b')}\nnode: x\n",
    "block, long form": f'keys:\n  - id: a # his\n    hash: "{HASH}"\n    tenant: t\n    project: p\n    models:\n      - "*" # all\n#\n',
    "flow": f"keys: [{row('a')}, {row('b')}] # two\n",
    "flow over lines": f"keys: [\n  {row('a')}, # one\n  {row('b')}, # two\n]\n",
    "windows": f"keys:\r\n  - {row('a')}\r\nnode: x\r\n",
    "no newline after the last": f"keys:\n  - {row('a')}",
}


def read(path: Path) -> str:
    return path.read_bytes().decode()


def ids(path: Path) -> list[str]:
    found = surgery.data(surgery.tree(read(path), path)).get("keys", [])
    return [item["id"][0] for item in found]


def comments(text: str) -> list[str]:
    return [part.split("\n")[0].strip() for part in text.split("#")[1:]]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_is_added_and_removed_and_all_else_stays(shape, tmp_path):
    path, text = tmp_path / "keys.yaml", SHAPES[shape]
    if text is not None:
        path.write_bytes(text.encode())
    before = [] if not text or "id:" not in text else ids(path)
    edit.add_keys(path, [NEW])
    assert ids(path) == [*before, "k9"], read(path)
    assert comments(read(path)) == comments(text or "")
    edit.add_keys(path, [key("k10", "02", label="Ann's: note")])
    assert ids(path) == [*before, "k9", "k10"], read(path)
    for id in ("k9", "k10"):
        edit.remove_key(path, id)
    assert ids(path) == before and comments(read(path)) == comments(text or ""), read(path)
    if before and shape != "no newline after the last":
        assert read(path) == (text or "").replace("}, # two\n]", "} # two\n]")


@pytest.mark.parametrize("gone", "abc")
def test_a_key_leaves_with_its_own_lines_and_comments_between_brackets(gone, tmp_path):
    path, end = tmp_path / "keys.yaml", "  # last\n]  # end\n"
    rows = {id: f"  # before {id}\n  {row(id)},  # of {id}\n" for id in "abc"}
    path.write_text("".join(["keys: [\n", *rows.values(), end]))
    edit.remove_key(path, gone)
    rows[gone] = f"  # before {gone}\n"
    assert read(path) == "".join(["keys: [\n", *rows.values(), end])


@pytest.mark.parametrize("gone", "ab")
def test_a_dash_may_have_a_line_of_its_own(gone, tmp_path):
    path = tmp_path / "keys.yaml"
    rows = {id: f'  - # of {id}\n    id: {id}\n    hash: "{HASH}"\n    tenant: t\n    project: p\n' for id in "ab"}
    path.write_text("".join(["keys:\n", *rows.values(), "# end\n"]))
    edit.remove_key(path, gone)
    del rows[gone]
    assert read(path) == "".join(["keys:\n", *rows.values(), "# end\n"])


@given(
    st.lists(
        st.sampled_from(
            ["# comment", "", "  # indented", "node: a", "http: {body: 1MiB}  # limits", "tenants:\n  # t\n  a: {}", "models: {}"]
        ),
        unique=True,
        max_size=6,
    ),
    st.integers(0, 6),
    st.lists(st.sampled_from("abcdef"), unique=True, max_size=4),
    st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_is_around_the_keys_stays(lines, place, there, newline):
    path = Path("/nowhere/keys.yaml")
    section = ["keys:", *(f"  - {row(id)} # {id}" for id in there)] if there else ["keys: []"]
    text = newline.join([*lines[:place], *section, *lines[place:], ""]).replace("\r\n", "\n").replace("\n", newline)
    added = surgery.add_items(text, surgery.tree(text, path), path, [ROW])
    assert added.replace(f"  - {ROW}{newline}", "", 1) == (text if there else text.replace("keys: []", "keys:"))
    removed = surgery.remove_key(added, surgery.tree(added, path), path, "k9")
    assert removed == text
    for id in there:
        removed = surgery.remove_key(removed, surgery.tree(removed, path), path, id)
    assert [line for line in removed.split(newline) if "keys:" not in line] == [
        line for line in text.split(newline) if "keys:" not in line and not line.startswith("  - {id")
    ]


def test_mode_is_kept_and_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "keys.yaml", tmp_path / "keys.yaml"
    real.write_text("keys: []\n")
    real.chmod(0o644)
    link.symlink_to(real)
    edit.add_keys(link, [NEW])
    assert link.is_symlink() and ids(real) == ["k9"] and real.stat().st_mode & 0o777 == 0o644
    edit.add_keys(tmp_path / "new.yaml", [NEW])
    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["keys.yaml", "new.yaml", "new.yaml.lock", "real"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: [\n", "the file ends too early"),
        ("{keys: []}\n", "cannot be edited by command"),
        ("keys: 7\n", "`keys` is not a list"),
        (f"keys:\n  - {row('k9')}\n", 'there is a key "k9" already'),
        (f"keys:\n  - {row('other')}\n", 'there is no key "nobody"'),
    ],
)
def test_what_cannot_be_edited_is_left_alone(text, said, tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        edit.remove_key(path, "nobody") if "nobody" in said else edit.add_keys(path, [NEW])
    assert said in caught.value.mistakes[0].message and read(path) == text


def test_a_change_in_between_is_not_written_over(tmp_path, monkeypatch):
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []\n")
    cut = surgery.add_items

    def slow(text, root, file, item):
        path.write_text("keys: [] # somebody else\n")
        return cut(text, root, file, item)

    monkeypatch.setattr(surgery, "add_items", slow)
    with pytest.raises(ConfigError) as caught:
        edit.add_keys(path, [NEW])
    assert "changed while it was being edited" in caught.value.mistakes[0].message
    assert read(path) == "keys: [] # somebody else\n"


def test_two_commands_at_once_lose_nothing(tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []\n")
    threads = [threading.Thread(target=edit.add_keys, args=(path, [key(f"k{n}", f"{n:02x}")])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(path)) == [f"k{n}" for n in range(8)]


def test_a_folder_that_takes_no_file_is_told_with_the_name_that_people_know(tmp_path):
    with pytest.raises(OSError) as caught:
        files.write(tmp_path / "gone" / "keys.yaml", b"keys:\n")
    assert caught.value.filename == str(tmp_path / "gone" / "keys.yaml")


def test_a_lock_that_cannot_be_made_is_told_with_the_file_that_it_is_for(tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []\n")
    (tmp_path / "keys.yaml.lock").symlink_to("elsewhere")
    with pytest.raises(OSError) as caught:
        edit.add_keys(path, [NEW])
    assert caught.value.filename == str(tmp_path / "keys.yaml.lock"), "what is in the way is named"
    with pytest.raises(OSError) as caught, files.locked(tmp_path / "gone" / "keys.yaml"):
        pass
    assert caught.value.filename == str(tmp_path / "gone" / "keys.yaml")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.config.files.os.fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        edit.add_keys(path, [NEW])
    assert caught.value.filename == str(path), "whoever reads it knows which disk is full"
    assert read(path) == "keys: []\n" and sorted(os.listdir(tmp_path)) == ["keys.yaml", "keys.yaml.lock"]


MAIN = """\
# top
version: 1
http:
models:
  qwen2.5:  # the big one
    targets: [{channel: gpu, weight: 3}, {channel: cpu}]  # two
    retry: {}
channels:
  gpu:
    engine: vllm  # ours
    timeouts:
      connect: 3s

# end
"""


@pytest.mark.parametrize(
    ("where", "value", "old", "new"),
    [
        ("version", 2, "version: 1", "version: 2"),
        ("models.qwen2.5.targets[0].weight", 10, "weight: 3", "weight: 10"),
        ("models.qwen2.5.targets[1].weight", 0, "{channel: cpu}", "{channel: cpu, weight: 0}"),
        ("models.qwen2.5.retry.attempts", 2, "retry: {}", "retry: {attempts: 2}"),
        ("channels.gpu.engine", "mindie", "vllm ", "mindie "),
        ("channels.gpu.credential", 'a"b: c', "connect: 3s\n", 'connect: 3s\n    credential: "a\\"b: c"\n'),
        ("channels.gpu.timeouts.idle", "30s", "connect: 3s\n", "connect: 3s\n      idle: 30s\n"),
        ("channels.gpu.tls.verify", False, "connect: 3s\n", "connect: 3s\n    tls:\n      verify: false\n"),
        ("http.body", "1MiB", "http:", "http: {body: 1MiB}"),
        ("node", "010", "connect: 3s\n", 'connect: 3s\nnode: "010"\n'),
    ],
)
def test_a_single_value_is_set_where_it_belongs(where, value, old, new, tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(MAIN)
    edit.set_scalar(path, where, value)
    assert read(path) == MAIN.replace(old, new)


@pytest.mark.parametrize("where", ["models", "models.qwen2.5.targets", "models.qwen2.5.targets[7].weight", "version.x"])
def test_what_is_no_single_value_is_not_set(where, tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(MAIN)
    with pytest.raises(ConfigError):
        edit.set_scalar(path, where, 1)
    assert read(path) == MAIN


def test_the_file_for_keys_is_found_even_when_others_are_broken(tmp_path):
    main = tmp_path / "gateway.yaml"
    main.write_text("version: 1\ninclude: [broken.yaml, 'conf.d/*', keys.yaml]\n")
    (tmp_path / "broken.yaml").write_text("[")
    assert edit.keys_file(main) == main
    (tmp_path / "keys.yaml").write_text("# none\n")
    assert edit.keys_file(main) == tmp_path / "keys.yaml"
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "k.yaml").write_text(f"keys:\n  - {row('a')}\n")
    assert edit.keys_file(main) == edit.file_of_key(main, "a") == tmp_path / "conf.d" / "k.yaml"
    assert edit.file_of_key(main, "b") is None
