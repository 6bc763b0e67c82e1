"""Reading files: includes, references, scalars, files that cannot be used, secrets, digest and what is watched."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.load import ConfigError, Loaded, Mistake, load, watched
from gateway.config.named import named
from gateway.config.report import render
from gateway.config.resolve import resolve

MAIN = """\
version: 1
node: gw-a
include: [keys.yaml, "conf.d/*.yaml"]
channels:
  gpu:
    engine: vllm
    endpoints: ["http://10.0.0.6:8000/v1", "https://[::1]"]
    credential: "${env:GPU_KEY}"
    timeouts: {connect: 500ms, total: 1h}
    planes: {management: "https://10.0.0.6:1026"}
models:
  qwen2.5:
    aliases: ["gpt-4o*"]
    targets: [{channel: gpu, model: qwen, weight: 3}, {channel: cpu}]
    retry: {on: [connect, 429]}
tenants: {retail: {projects: {chatbot: , search: {}}}}
"""
KEYS = f'keys:\n  - {{id: k1, hash: "sha256:{"0f" * 32}", tenant: retail, project: chatbot, models: ["qwen*", gpt-4o-mini]}}\n'
CPU = 'channels:\n  cpu: {engine: auto, model: "tiny", endpoints: ["http://localhost:8001/x/v1/"], credential: "${file:secret}"}\n'
ENV = {"GPU_KEY": "sk-gpu-canary-1234"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "gateway.yaml").write_text(MAIN)
    (tmp_path / "keys.yaml").write_text(KEYS)
    (tmp_path / "conf.d" / "cpu.yaml").write_text(CPU)
    (tmp_path / "conf.d" / "secret").write_text("file-canary-5678\n")
    return tmp_path


def good(folder: Path) -> Loaded:
    try:
        return load(folder / "gateway.yaml", ENV)
    except ConfigError as error:
        raise AssertionError(render(error.mistakes)) from None


def bad(folder: Path) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        load(folder / "gateway.yaml", ENV)
    return caught.value.mistakes


def test_files_references_and_defaults_come_together(folder):
    config, keys = resolve(good(folder))
    gpu, cpu = config.channels["gpu"], config.channels["cpu"]
    assert config.node == "gw-a" and config.data_dir == "/var/lib/gateway" and config.auth == "keys"
    assert [(e.scheme, e.host, e.port, e.base) for e in gpu.endpoints] == [("http", "10.0.0.6", 8000, ""), ("https", "::1", 443, "")]
    assert [(e.port, e.base) for e in cpu.endpoints] == [(8001, "/x")]
    assert gpu.credential == "sk-gpu-canary-1234" and cpu.credential == "file-canary-5678"
    assert gpu.timeouts.connect == 0.5 and gpu.timeouts.total == 3600 and gpu.keepalive == 4 and gpu.usage == "continuous"
    assert (cpu.engine, cpu.auto) == ("openai", True) and gpu.planes == {"management": "https://10.0.0.6:1026"}
    model = config.models["qwen2.5"]
    assert [(t.channel, t.model, t.weight) for t in model.targets] == [("gpu", "qwen", 3), ("cpu", "tiny", 1)]
    assert model.retry.on == ("connect", "429") and model.retry.attempts == 3 and model.aliases == ("gpt-4o*",)
    assert config.tenants == {"retail": ("chatbot", "search")}
    assert [(k.id, k.digest, k.access.models.allow) for k in keys] == [("k1", b"\x0f" * 32, ("qwen*", "gpt-4o-mini"))]
    assert [(at.host, at.port, at.serves) for at in config.listeners] == [("127.0.0.1", 8080, "api")]


def test_what_matters_is_watched(folder):
    names = {str(path.relative_to(folder)) for path in good(folder).watch}
    assert names == {"gateway.yaml", "keys.yaml", "conf.d", "conf.d/cpu.yaml", "conf.d/secret"}
    (folder / "gateway.yaml").write_text(MAIN + "{")
    assert folder / "gateway.yaml" in watched(folder / "gateway.yaml", ENV)


@pytest.mark.parametrize(
    ("pattern", "folders"),
    [
        ("later/*.yaml", {"later"}),
        ("later/*/*.yaml", {"later"}),
        ("conf.d/*/channels/*.yaml", {"conf.d", "conf.d/a", "conf.d/a/channels"}),
        ("later/x.d/*.yaml", {"later/x.d"}),
    ],
)
def test_a_folder_that_is_not_there_is_waited_for(folder, pattern, folders):
    """Otherwise nobody notices when it comes, or comes back."""
    (folder / "conf.d" / "a").mkdir()
    (folder / "gateway.yaml").write_text(MAIN.replace('"conf.d/*.yaml"', f'"conf.d/*.yaml", "{pattern}"'))
    names = {str(path.relative_to(folder)) for path in good(folder).watch}
    assert folders <= names
    assert all(path.is_file() for path in named(folder / "gateway.yaml", ENV).files), "a backup does not miss it"


def test_equal_content_has_an_equal_digest_wherever_it_is_and_any_change_another(folder, tmp_path_factory):
    first = good(folder).digest
    other = tmp_path_factory.mktemp("other") / "here"
    shutil.copytree(folder, other)
    assert good(other).digest == first
    (other / "conf.d" / "secret").write_text("another-canary")
    changed = good(other).digest
    assert changed != first
    (other / "keys.yaml").write_text("# a comment\n" + KEYS)
    assert good(other).digest not in (first, changed)
    assert load(folder / "gateway.yaml", {"GPU_KEY": "sk-other"}).digest != first


def test_a_name_in_two_files_is_a_mistake_that_names_both(folder):
    (folder / "conf.d" / "x.yaml").write_text("channels:\n  gpu: {engine: auto}\nnode: b\nversion: 1\n")
    found = bad(folder)
    assert [(m.line, m.column, m.message) for m in found] == [(2, 3, '"gpu" is written twice'), (3, 1, '"node" is written twice')]
    assert found[0].file.endswith("conf.d/x.yaml") and found[0].hint == f"first at {folder}/gateway.yaml:5"


def test_one_file_that_two_patterns_name_is_read_once(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("[keys.yaml,", "[keys.yaml, ./keys.yaml, k*.yaml, g*.yaml,"))
    assert len(good(folder).config.keys) == 1


def test_files_that_include_each_other_in_a_circle_are_refused_where_they_do(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("keys.yaml", "gateway.yaml"))
    (found,) = bad(folder)
    assert (found.line, found.column, found.message) == (3, 11, "this file includes itself")
    (folder / "gateway.yaml").write_text(MAIN.replace('"conf.d/*.yaml"', "a.yaml").replace(", {channel: cpu}", ""))
    (folder / "a.yaml").write_text("include: [b.yaml]\n")
    (folder / "b.yaml").write_text("include:\n- keys.yaml\n- ./gateway.yaml\n")
    (found,) = bad(folder)
    assert found.file == f"{folder}/b.yaml" and (found.line, found.column) == (3, 3)
    assert found.message == "files include each other in a circle" and found.hint == "gateway.yaml → a.yaml → b.yaml → gateway.yaml"


@pytest.mark.parametrize("text", ["root:$6$canary:19000:0:99999:7:::\n", "canary: [\n", "Canary canary\n  - x: y: z\n", "a:\n\tcanary\n"])
def test_of_a_file_that_is_none_of_ours_no_line_is_shown(folder, text):
    (folder / "keys.yaml").write_text(text)
    (found,) = bad(folder)
    assert found.line and "canary" not in render([found]).lower() and "keys.yaml" in render([found])
    (folder / "keys.yaml").write_text("keys: []\n" + text)
    assert any(mistake.source for mistake in bad(folder))


def test_a_literal_include_must_exist_and_a_pattern_need_not_match(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("keys.yaml", "missing.yaml"))
    (found,) = bad(folder)
    assert (found.line, found.column) == (3, 11) and found.message == f"{folder}/missing.yaml cannot be read: there is no such file"
    (folder / "gateway.yaml").write_text(MAIN.replace('"conf.d/*.yaml"', '"nowhere/*.yaml"').replace(", {channel: cpu}", ""))
    good(folder)


def test_a_broken_include_is_told_alone_without_what_follows_from_it(folder):
    (folder / "conf.d" / "cpu.yaml").write_text(CPU + "  x: [\n")
    (found,) = bad(folder)
    assert found.file.endswith("cpu.yaml") and (found.line, found.column, found.message) == (3, 6, "the file ends too early")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"# nothing\n", "the file holds only comments"),
        (b"version: 1\nnode: \xff\n", "the file is not UTF-8 text"),
        (b"version: 1\n#" + b"x" * (8 * 1024 * 1024), "it is larger than 8 MiB"),
    ],
)
def test_a_main_file_that_cannot_be_used(folder, text, said):
    (folder / "gateway.yaml").write_bytes(text)
    (found,) = bad(folder)
    assert said in found.message


def test_an_included_file_may_hold_only_comments_but_not_be_empty(folder):
    (folder / "keys.yaml").write_text("# no keys yet\n")
    good(folder)
    (folder / "keys.yaml").write_text("keys:\n  # none\n")
    good(folder)
    (folder / "keys.yaml").write_text("")
    (found,) = bad(folder)
    assert found.message == "the file is empty" and found.file.endswith("keys.yaml")


def test_files_together_have_a_limit(folder):
    for name in "abcdefghi":
        (folder / "conf.d" / f"{name}.yaml").write_text("# " + "x" * (8 * 1024 * 1024 - 100))
    (found,) = bad(folder)
    assert "i.yaml makes the configuration larger than 64 MiB" in found.message and "i.yaml" in found.message


def test_what_is_no_regular_file_is_refused_without_waiting(folder):
    path = folder / "gateway.yaml"
    path.unlink()
    assert "there is no such file" in bad(folder)[0].message
    path.mkdir()
    assert "it is a directory, not a file" in bad(folder)[0].message
    path.rmdir()
    os.mkfifo(path)
    assert "it is not a regular file" in bad(folder)[0].message
    path.unlink()
    path.symlink_to("gone.yaml")
    assert "is a symbolic link to gone.yaml, which does not exist" in bad(folder)[0].message
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read" in bad(folder)[0].message


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    opened = os.open

    def refusing(path, *rest, **named):
        if str(path).endswith("keys.yaml"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **named)

    (folder / "keys.yaml").chmod(0o640)
    monkeypatch.setattr("gateway.config.expand.os.open", refusing)
    (found,) = bad(folder)
    assert found.message == f"{folder}/keys.yaml cannot be read: permission denied" and found.line == 3
    owner = (folder / "keys.yaml").owner()
    readers = "as root" if owner == "root" else f"as {owner} or as root"
    assert found.hint == f"it belongs to {owner}, mode 0640: read it {readers}, or change that"


def test_a_main_file_that_nobody_lets_us_see_is_named_too(folder, monkeypatch):
    def refusing(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gateway.config.expand.os.open", refusing)
    monkeypatch.setattr(Path, "owner", refusing)
    (found,) = bad(folder)
    assert found.message == "the file cannot be read: permission denied"
    assert found.hint == "read it as root, or change whose it or a folder above it is"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"\xef\xbb\xbfsk-secret\r\n", "begins with a byte order mark, which would be part of the value"),
        ("sk-secret".encode("utf-16"), "is not UTF-8 text"),
    ],
    ids=["UTF-8", "UTF-16"],
)
def test_a_secret_that_an_editor_has_put_a_mark_before_is_refused(folder, held, said):
    """No caller, engine or sink would know the value: what is wrong shows much later, somewhere else, as a wrong password."""
    (folder / "secret").write_bytes(held)
    (folder / "gateway.yaml").write_text('version: 1\nnode: "${file:secret}"\n')
    (found,) = bad(folder)
    assert said in found.message and found.hint == "save it as UTF-8 without BOM" and "sk-" not in found.message


@pytest.mark.parametrize(
    ("pattern", "refused", "named"),
    [
        ("conf.d/*.yaml", "conf.d", "conf.d"),
        ("*/*.yaml", ".", "."),
        ("*/cpu.yaml", "conf.d/cpu.yaml", "conf.d/cpu.yaml"),
        ("conf.d/c?u.yaml", "conf.d", "conf.d"),
    ],
)
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(folder, monkeypatch, pattern, refused, named, error):
    """A changed mode, or a share that does not answer: everything that stands in its files would be gone."""

    def refusing(asked):
        def ask(path=".", **named):
            if os.path.normpath(path) == os.path.normpath(folder / refused):
                raise type(error)(error.errno, error.strerror, str(path))
            return asked(path, **named)

        return ask

    (folder / "gateway.yaml").write_text(MAIN.replace("conf.d/*.yaml", pattern))
    for name in ("scandir", "lstat"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    (found,) = bad(folder)
    assert found.message == f"{(folder / named).as_posix()} cannot be listed: {error.strerror.lower()}" and found.line == 3


@pytest.mark.parametrize("pattern", ["conf.d/**/*.yaml", "**/*.yaml", "conf.d/**"])
def test_a_pattern_for_folders_of_any_depth_is_a_mistake(folder, pattern):
    (folder / "gateway.yaml").write_text(MAIN.replace("conf.d/*.yaml", pattern))
    found = bad(folder)[0]
    assert "`**`" in found.message and found.line == 3 and "conf.d/*/*.yaml" in (found.hint or "")


def test_a_folder_that_is_a_link_to_nowhere_is_a_mistake(folder):
    shutil.rmtree(folder / "conf.d")
    assert "conf.d" not in render(bad(folder))  # a folder that is not there is no mistake: what it would have held is missing
    (folder / "conf.d").symlink_to(folder / "share" / "conf.d")
    assert bad(folder)[0].message == f"{folder}/conf.d cannot be listed: there is no such file"


def test_a_folder_of_any_name_has_its_files(tmp_path, folder):
    there = tmp_path / "gw[1]*?"
    there.mkdir()
    for name in ("gateway.yaml", "keys.yaml", "conf.d"):
        (folder / name).rename(there / name)
    (there / "keys.yaml").rename(there / "keys[a].yaml")
    (there / "gateway.yaml").write_text(MAIN.replace("keys.yaml", '"keys[a].yaml"'))
    loaded = good(there)
    assert [key.id for key in loaded.config.keys] == ["k1"] and set(loaded.config.channels) == {"gpu", "cpu"}
    assert there / "conf.d" in loaded.watch


def test_a_pattern_without_a_star_has_to_match(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("keys.yaml", '"key[abc].yaml"'))
    (found, *_) = bad(folder)
    assert found.message == f"{folder}/key[abc].yaml cannot be read: there is no such file"
    (folder / "gateway.yaml").write_text(MAIN.replace("keys.yaml", '"key[rst].yaml"'))
    assert [key.id for key in good(folder).config.keys] == ["k1"]


def test_references_give_text_defaults_and_numbers(folder):
    text = "version: 1\nnode: 'a${env:A}-$${x}'\nworkers: ${env:N}\ndata_dir: ${env:NONE:-state}\nauth: ${env:EMPTY:-none}\n"
    (folder / "gateway.yaml").write_text(text.replace("-$${x}", ""))
    loaded = load(folder / "gateway.yaml", {"A": "bc", "N": "3", "EMPTY": ""})
    config = loaded.config
    assert (config.node, config.workers, config.data_dir, config.auth) == ("abc", 3, str(folder / "state"), "none")
    (folder / "gateway.yaml").write_text(CPU.replace("${file:secret}", "$${env:X}") + "version: 1\n")
    assert good(folder).config.channels["cpu"].credential == "${env:X}"


def test_scalars_are_those_of_yaml_1_2(folder):
    text = "version: 1\nworkers: 010\nlisteners: {off: {bind: ':1'}, 0123: {bind: ':2'}, yes: {bind: ':3'}}\ntenants: {null: {}, 1.50: }\n"
    (folder / "gateway.yaml").write_text(text)
    config = good(folder).config
    assert config.workers == 10 and list(config.listeners) == ["off", "0123", "yes"] and list(config.tenants) == ["null", "1.50"]


def test_the_wildcard_of_ipv4_leaves_addresses_of_ipv6_alone(tmp_path):
    """Both listen: `0.0.0.0` answers no IPv6."""
    (tmp_path / "gateway.yaml").write_text('version: 1\nlisteners: {a: {bind: "0.0.0.0:80"}, m: {bind: "[::1]:80", serves: metrics}}\n')
    assert set(load(tmp_path / "gateway.yaml", {}).config.listeners) == {"a", "m"}


def test_windows_line_ends_and_a_missing_last_newline_are_fine(folder):
    (folder / "gateway.yaml").write_bytes(MAIN.rstrip().replace("\n", "\r\n").encode())
    good(folder)
    (folder / "gateway.yaml").write_bytes(MAIN.replace("qwen2.5:", "qwen 2.5:").replace("\n", "\r\n").encode())
    assert (bad(folder)[0].line, bad(folder)[0].column) == (12, 3)


def test_paths_of_tls_files_are_relative_to_their_own_file_and_may_be_references(folder):
    (folder / "conf.d" / "cpu.yaml").write_text(
        CPU.replace("http:", "https:").replace("auto,", "auto, tls: {ca: ca.pem, key: '${file:c.key}'},")
    )
    said = [m.message for m in bad(folder)]
    assert said == [
        f"{folder}/conf.d/ca.pem: there is no such file",
        f"{folder}/conf.d/c.key: there is no such file",
        "a key without its cert",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("engine: vllm", "engine: vllmm"),
        ('"${env:GPU_KEY}"', '"sk-written-canary"\n    credentail: sk-typo-canary'),
        ('"${env:GPU_KEY}"', "sk-written-canary\n    headers: {Authorization: Basic abc-canary, X-Y: 'a\tb-canary'}"),
        ('"${env:GPU_KEY}"', "sk-written-canary\n    headers:\n      X-Y: [abc-canary]\n      Host: x-canary"),
        ('"${env:GPU_KEY}"', '"sk-never-closed-canary'),
        ('"${env:GPU_KEY}"', "|\n      sk-block-canary\n     x: y-canary"),
        ('"${env:GPU_KEY}"', '"${env:GPU_KEY:-default-canary} "'),
        ('"${env:GPU_KEY}"', "'${file:conf.d/secret}'\n    api_key: other-canary"),
        ("connect: 500ms", 'connect: "${env:GPU_KEY}"'),
        ("engine: vllm", 'engine: "${env:GPU_KEY}"'),
        ("gw-a", '"${env:GPU_KEY} x"'),
        ("http://10.0.0.6", "http://user:pw-canary@10.0.0.6"),
        ('aliases: ["gpt-4o*"]', 'aliases: ["${env:GPU_KEY}", "${env:GPU_KEY}"]'),
        ("channel: gpu", 'channel: "${file:conf.d/secret}"'),
    ],
)
def test_no_report_ever_shows_a_secret(folder, change):
    (folder / "gateway.yaml").write_text(MAIN.replace(*change))
    found = bad(folder)
    shown = render(found) + repr(found)
    assert "canary" not in shown, shown


def test_reprs_show_no_secret(folder):
    loaded = good(folder)
    assert "canary" not in repr(loaded) + repr(loaded.config)


PIECES = [
    "",
    " ",
    "\n",
    "\t",
    ":",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "'",
    "#",
    "&a",
    "*a",
    "!!x ",
    "|",
    ">",
    "%",
    "@",
    "---\n",
    "? ",
    "<<",
    "${",
    "\0",
    "é",
    "通",
    "1",
    "x",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(MAIN)), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=3))
def test_whatever_is_done_to_a_file_it_loads_or_is_told_and_secrets_stay_hidden(cuts):
    text = (
        MAIN.replace("include: [keys.yaml, ", "include: [").replace('"${env:GPU_KEY}"', "sk-written-canary").replace(", {channel: cpu}", "")
    )
    for place, length, piece in cuts:
        text = text[:place] + piece + text[place + length :]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "gateway.yaml")
        path.write_bytes(text.encode())
        try:
            resolve(load(path, ENV))
        except ConfigError as error:
            assert error.mistakes and all(mistake.line <= text.count("\n") + 1 for mistake in error.mistakes)
            if "sk-written-canary" in text and "\n    credential: sk" in text:
                assert "sk-written-canary" not in render(error.mistakes)


def test_a_file_that_is_wrong_throughout_is_told_soon(folder):
    channels = "".join(f'  channel-{n}: {{engine: vllm, endpoints: ["http://h{n}:1"], credential: sk-{n:08}}}\n' for n in range(2000))
    models = "".join(f"  m{n}: {{targets: [{{channel: chanel-{n}}}]}}\n" for n in range(2000))
    keys = "".join(f'  - {{id: k{n}, hash: "sha256:{n:064x}", tenant: nobody, project: p, models: [nothing]}}\n' for n in range(2000))
    (folder / "gateway.yaml").write_text(f"version: 1\nchannels:\n{channels}models:\n{models}keys:\n{keys}")
    found = bad(folder)
    assert len(found) >= 200 and "more mistakes" in render(found)


def test_the_data_directory_is_named_in_the_main_file_where_commands_look_for_it(folder):
    (folder / "keys.yaml").write_text("data_dir: /srv\n" + KEYS)
    (found,) = bad(folder)
    assert found.message == "data_dir belongs in the main file" and (found.line, found.column) == (1, 1)


def test_includes_may_be_references(folder):
    (folder / "gateway.yaml").write_text(MAIN.replace("keys.yaml", "'${env:NAME:-keys}.yaml'"))
    assert len(good(folder).config.keys) == 1


def test_a_list_as_a_name_is_told(tmp_path):
    (tmp_path / "gateway.yaml").write_text("version: 1\nchannels:\n  ? [a, b]\n  : {engine: vllm}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "gateway.yaml")
    assert ("this cannot be a name", 3, 5) in [(m.message.partition(" in ")[0], m.line, m.column) for m in caught.value.mistakes]


def test_reading_leaves_nothing_to_the_collector(tmp_path):
    """It is put off while files are read, and what they become counts as old: what held itself would stay, with all that was read."""
    path = tmp_path / "gateway.yaml"
    keys = "".join(f'  - {{id: k{n}, hash: "sha256:{n:064x}", tenant: a, project: b, models: [m]}}\n' for n in range(200))
    models = 'models: {m: {targets: [{channel: c}]}}\nchannels: {c: {engine: vllm, endpoints: ["http://h:1"]}}\n'
    path.write_text(f"version: 1\n{models}tenants: {{a: {{models: [m], projects: {{b: {{}}}}}}}}\nkeys:\n{keys}")
    load(path, {})
    gc.collect()
    gc.disable()
    try:
        resolve(load(path, {}))
        assert gc.collect() < 100
    finally:
        gc.enable()
