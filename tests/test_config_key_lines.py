"""Keys that are read fast mean what the YAML machinery makes of them, and stand where they stand: by many files that are made up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config import key_lines
from gateway.config.compose import BadFile, _composed, clean, compose, data_of
from gateway.config.key_lines import KeyLine
from gateway.config.load import ConfigError, load
from gateway.config.surgery import data

HASH = "sha256:" + "0f" * 32
ITEM = f'{{id: k1, hash: "{HASH}", tenant: retail, project: chat, models: ["*", qwen]}}'
PATH = Path("keys.yaml")


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    """Files of a hundred keys would take long to make up: it is worth while for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_lines, "FEW", 1)
        yield


def shape(node: yaml.Node | None, top: bool = True) -> Any:
    """Everything of a tree that anybody looks at."""
    if node is None:
        return None
    mark = node.start_mark
    found: list[Any] = [type(node).__name__.replace("KeyLine", "MappingNode"), node.tag, mark.name, mark.index, mark.line, mark.column]
    if isinstance(node, yaml.ScalarNode):
        return [*found, node.value, node.style or "", node.end_mark.index]
    assert isinstance(node, yaml.CollectionNode)
    flow = bool(node.flow_style)
    found += [flow, node.end_mark.index if flow else None]
    return [*found, [[shape(one, False) for one in (item if isinstance(item, tuple) else (item,))] for item in node.value]]


def looked_at(read: Any, text: str) -> Any:
    try:
        node = read(PATH, text)
    except BadFile as bad:
        return bad.message, bad.line, bad.column, bad.hint
    return shape(node), data_of(node)


def same(text: str) -> None:
    try:
        clean(text)
    except BadFile:
        return
    assert looked_at(compose, text) == looked_at(_composed, text)


def is_fast(text: str) -> bool:
    node = compose(PATH, text)
    assert isinstance(node, yaml.MappingNode)
    return any(isinstance(item, KeyLine) for key, value in node.value if key.value == "keys" for item in value.value)


def some(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


WORDS = some("id", "hash", "tenant", "models", "label", "x_y", "enabled", "a", "Id", '"id"', "id-x", "i d", "~", "1")
INSIDE = some(
    *("*", HASH, "a b", "ü 你好", "a, b", "a: b", "a # b", "{x}", "[x]", "]", "", "'", "a\\nb", "\\u00fc", 'a\\"b'),
    *("${env:X}", "  a  ", "\t", "a\rb", "a\n b", "a\n\n b", "-", "&a", "*a"),
)
BARE = some(
    *("k1", "a.b", "a/b", "1", "1e3", "010", "-5", "1.5", "~", "null", "true", "Yes", "a b", "a#b", "a #b", "a:b", "a: b"),
    *("qwen*", "*x", "&x y", "!!str 1", "a-b", "_x", "2027-01-01", "a,b", "", "@x", "a\tb", "- x", "?", "a}", "[", "|", "ü"),
)
SCALARS = st.one_of(BARE, INSIDE.map('"{}"'.format), INSIDE.map("'{}'".format))
LISTS = st.builds(lambda sep, end, items: f"[{sep.join(items)}{end}]", some(", ", ",", " , "), some("", ","), st.lists(SCALARS, max_size=3))
GROUPS = st.lists(joined(WORDS, st.just(": "), SCALARS), max_size=2).map(lambda pairs: f"{{{', '.join(pairs)}}}")
PAIRS = joined(WORDS, some(": ", ": ", ": ", ":", ":  ", " : "), st.one_of(SCALARS, SCALARS, LISTS, GROUPS))
ITEMS = st.one_of(
    st.just(ITEM),
    st.builds(lambda form, pairs: form.format(", ".join(pairs)), some("{{{}}}", "{{ {} }}", "{{{},}}"), st.lists(PAIRS, max_size=4)),
    some("{", "}", "x", "", "{id: a", '{id: "a}', "id: a\n    b: c", "&a {id: x}", "*a", "{id: a} x", "{id: {id: {id: a}}}"),
)
ENDS = some("\n", "\n", "\n", "\n", " # comment\n", "  # a } b\n", " \n", "\r\n", "\n\n", "#\n", "\t\n", "\r", "")
ASIDE = some(
    *("", "", "", "  # a comment\n", "#\n", "\n", "   \n", "\t\n", " # - {id: no}\n", "\r\n", "  - id: block\n    a: b\n", "x: 1\n")
)
DASHES = some("  - ", "  - ", "  - ", "  -  ", "- ", " - ", "    - ", "  -", "\t- ")
HEADS = some(
    *("", "", "version: 1\n", "# keys:\n", "a: |\n  x\n", "a: 'x\n  y'\n", "{a: 1,\n", "a: {b: 1,\n", 'a: "x\n', "---\n", "keys: []\n"),
    *("'x\n", "a:\n", "a: >\n", "? x\n", "- x\n", "%YAML 1.2\n---\n"),
)
TAILS = some(
    *("", "", "b: 2\n", "}\n", '"\n', "---\n", "...\n", "  b: 2\n", " x\n", "keys:\n  - {id: z}\n", "- x\n", "# end", "'\n", "  - x\n")
)
WORD = some("keys:\n", "keys:\n", "keys:\n", "keys: # all\n", "keys:  \n", "keys:\r\n", "keys :\n", " keys:\n", '"keys":\n', "keys: &a\n")
LINES = st.lists(joined(ASIDE, DASHES, ITEMS, ENDS), min_size=1, max_size=5)
FAST_LINES = st.lists(joined(ASIDE, st.just("  - "), st.one_of(st.just(ITEM), ITEMS), some("\n", " # c\n", "\r\n")), min_size=1, max_size=6)


@given(HEADS, WORD, LINES, TAILS)
@settings(max_examples=400, deadline=None)
@example("{a: 1,\n", "keys:\n", [f"  - {ITEM}\n"], "}\n")
@example('a: "x\n', "keys:\n", [f"  - {ITEM}\n"], '"\n')
@example("", "keys:\n", [f"  - {ITEM}\n", "  - {id: a, id: b}\n"], "")
@example("", "keys:\n", [f"  - {ITEM}\n", '  - {id: "a\rb", x: y}\n'], "")
@example("a: b\rc: d\n", "keys:\n", [f"  - {ITEM}\n"], "")
def test_a_file_means_the_same_however_it_is_read(head, word, lines, tail):
    same(head + word + "".join(lines) + tail)


@given(FAST_LINES)
@settings(max_examples=300, deadline=None)
def test_lines_that_are_read_fast_among_others(lines):
    same("keys:\n" + "".join(lines))
    same(("keys:\n" + "".join(lines)).replace("\n", "\r\n"))


@given(st.text(alphabet="ab1~*&!{}[]:,#'\"\\ \n\r\t-$ü", max_size=30))
@settings(max_examples=400, deadline=None)
def test_whatever_stands_in_a_line(text):
    same(f"keys:\n  - {{id: a, b: {text}}}\n  - {ITEM}\n")
    same(f"keys:\n  - {ITEM}\n{text}\n  - {ITEM}\nversion: 1\n")


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        (ITEM, True),
        ('{id: a, models: [], label: "ü # , } x"}', True),
        ("{id: a, ip: {allow: [10.0.0.0/8]}}", False),
        ("{id: 'a'}", False),
        ('{id: "a\\nb"}', False),
        ('{id: "${env:A}"}', False),
        ("{id: a,b: c}", False),
        ("{id: a, id: b}", False),
    ],
)
def test_which_lines_are_read_fast_and_that_the_others_are_none_the_less_there(line, fast):
    text = f"keys:\n  - {line}\n"
    assert is_fast(text) is fast
    node = compose(PATH, f"{text}  - {ITEM}\n")
    assert isinstance(node, yaml.MappingNode) and len(node.value[0][1].value) == 2
    same(f"{text}  - {ITEM}\n")


def test_few_keys_are_left_to_the_machinery(monkeypatch):
    monkeypatch.setattr(key_lines, "FEW", 100)
    assert not is_fast("keys:\n" + f"  - {ITEM}\n" * 99) and is_fast("keys:\n" + f"  - {ITEM}\n" * 100)


def test_a_line_compares_like_its_tree():
    text = f"keys:\n  - {ITEM}\n"
    fast, slow = (data(node) for node in (compose(PATH, text), _composed(PATH, text)) if node is not None)
    assert fast == slow and slow == fast and fast["keys"][0] == fast["keys"][0] and fast["keys"][0] != {"id": ("k2", False)}


TOP = """\
version: 1
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}
models: {qwen: {targets: [{channel: gpu}]}}
tenants: {retail: {projects: {chat: {}}}}
"""


@pytest.mark.parametrize(
    "wrong",
    [
        "expire: 2027-01-01",
        "tenant: nobody",
        "models: [qwem]",
        "models: [qwen, qwem]",
        "models: qwen",
        "models: []",
        "hash: nohash",
        f'hash: "{HASH}"',
        "enabled: yes",
        "enabled: 1",
        "priority: 10",
        "expires: 2027",
        "id: k0",
        "id: 5",
        'id: "a b"',
        "apis: [chat, chat]",
        "label: 7",
        "systems: [crm, 'x y']",
        "ip: {allow: [10.0.0.1/8]}",
        "limits: [{count: requests, max: 1}]",
        "project: ~",
    ],
)
def test_mistakes_are_told_at_the_same_place(wrong, tmp_path, monkeypatch):
    rows = [{"id": f"k{n}", "hash": f'"sha256:{n:064x}"', "tenant": "retail", "project": "chat", "models": "[qwen]"} for n in range(5)]
    word, _, value = wrong.partition(": ")
    rows[3] |= {word: value}
    if value.startswith('"sha'):
        rows[2] |= {word: value}
    lines = ["  - {" + ", ".join(f"{word}: {value}" for word, value in row.items()) + "}\n" for row in rows]
    path = tmp_path / "gateway.yaml"
    path.write_text(TOP + "keys:\n  # the keys\n" + "\n".join(lines))
    told = []
    for few in (1, 100):
        monkeypatch.setattr(key_lines, "FEW", few)
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        told.append(caught.value.mistakes)
    assert told[0] == told[1] and told[0][0].line == 13
