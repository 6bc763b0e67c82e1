"""One word of a group is put in, replaced and taken out: what is around it stays, whatever it looks like."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config import edit
from gateway.config.flow import flow
from gateway.config.graft import pair, put, take_out
from gateway.config.load import ConfigError
from gateway.config.surgery import data, tree

PATH = Path("x.yaml")


def group_of(text: str) -> yaml.MappingNode:
    """What stands at `g`."""
    found = pair(tree(text, PATH), "g")
    assert found is not None and isinstance(found[1], yaml.MappingNode)
    return found[1]


@pytest.mark.parametrize(
    ("before", "word", "value", "after"),
    [
        ("g: {}\n", "b", "2", "g: {b: 2}\n"),
        ("g: { }\n", "b", "2", "g: {b: 2 }\n"),
        ("g: {a: 1}\n", "b", "2", "g: {a: 1, b: 2}\n"),
        ("g: {a: 1,}\n", "b", "2", "g: {a: 1, b: 2,}\n"),
        ("g: {a: 1}  # c\n", "a", "2", "g: {a: 2}  # c\n"),
        ("g: {a: [1, 2], b: 3}\n", "a", "{x: 1}", "g: {a: {x: 1}, b: 3}\n"),
        ("g: {a: , b: 3}\n", "a", "2", "g: {a: 2, b: 3}\n"),
        ("g: {\n  a: 1, # c\n  b: 2 # d\n}\n", "b", "3", "g: {\n  a: 1, # c\n  b: 3 # d\n}\n"),
        ("g: {\n  a: 1 # c\n}\n", "b", "3", "g: {\n  a: 1, b: 3 # c\n}\n"),
        ("g:\n  a: 1\n", "b", "2", "g:\n  a: 1\n  b: 2\n"),
        ("g:\n  a: 1", "b", "2", "g:\n  a: 1\n  b: 2\n"),
        ("g:\n  a: 1  # c\n# d\nh: 1\n", "b", "2", "g:\n  a: 1  # c\n  b: 2\n# d\nh: 1\n"),
        ("g:\n    a:\n      - 1\n      - 2\n\n\nh: 1\n", "b", "2", "g:\n    a:\n      - 1\n      - 2\n    b: 2\n\n\nh: 1\n"),
        ("g:\n  a: 1  # c\n", "a", "[2]", "g:\n  a: [2]  # c\n"),
        ("g:\n  a:\n    b: 1  # c\n  d: 2\n", "a", "{}", "g:\n  a: {}  # c\n  d: 2\n"),
        ("g:\n  a:  # c\n  d: 2\n", "a", "1", "g:\n  a: 1  # c\n  d: 2\n"),
        ("g:\n  a: |\n    x\n    y\n  d: 2\n", "a", "1", "g:\n  a: 1\n  d: 2\n"),
        ("g:\n  a: 'x\n    y'\n  d: 2\n", "a", "1", "g:\n  a: 1\n  d: 2\n"),
        ("g:\r\n  a: 1\r\n", "b", "2", "g:\r\n  a: 1\r\n  b: 2\r\n"),
        ("g:\n  a: |\n    x\nh: 1\n", "b", "2", "g:\n  a: |\n    x\n  b: 2\nh: 1\n"),
        ("g:\n  'a.b': 1\n", "a.b", "2", "g:\n  'a.b': 2\n"),
        ("g: {a: 1}\n", "a: b", "2", 'g: {a: 1, "a: b": 2}\n'),
    ],
)
def test_put(before, word, value, after):
    assert put(before, group_of(before), word, value) == after


@pytest.mark.parametrize(
    ("before", "word", "after"),
    [
        ("g: {a: 1}\n", "a", "g: {}\n"),
        ("g: {a: 1, b: 2}\n", "a", "g: {b: 2}\n"),
        ("g: {a: 1, b: 2}\n", "b", "g: {a: 1}\n"),
        ("g: {a: 1, b: {c: 2}, d: 3}\n", "b", "g: {a: 1, d: 3}\n"),
        ("g: {a: 1, b: 2,}\n", "b", "g: {a: 1,}\n"),
        ("g:\n  a: 1\n", "a", "g:\n  {}\n"),
        ("g:\n  a: 1  # c\n  b: 2\n", "a", "g:\n  b: 2\n"),
        ("g:\n  a: 1\n  # of b\n  b: 2\n", "a", "g:\n  # of b\n  b: 2\n"),
        ("g:\n  # of a\n  a: 1\n  b: 2\n", "b", "g:\n  # of a\n  a: 1\n"),
        ("g:\n  a: 1\n  b:\n    - 1\n    # c\n    - 2\nh: 1\n", "b", "g:\n  a: 1\nh: 1\n"),
        ("g:\n  a: |\n    x\n\n  b: 2\n", "a", "g:\n  b: 2\n"),
        ("g:\n  a: 1\n  b: 2", "b", "g:\n  a: 1\n"),
        ("g:\r\n  a: 1\r\n  b: 2\r\n", "a", "g:\r\n  b: 2\r\n"),
    ],
)
def test_take_out(before, word, after):
    assert take_out(before, group_of(before), word) == after


def test_the_first_word_after_the_dash_of_a_list():
    text = "g:\n  - a: 1\n    b: 2\n"
    found = pair(tree(text, PATH), "g")
    assert found is not None and isinstance(found[1], yaml.SequenceNode) and isinstance(found[1].value[0], yaml.MappingNode)
    assert take_out(text, found[1].value[0], "a") == "g:\n  - b: 2\n"


# -- whatever it looks like ------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["a", "b", "c", "d.e", "f"])
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([1, "x", "*", "a: b", "# no", True, "", "ü"]),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(WORDS, inner, max_size=2)),
    max_leaves=5,
)
COMMENTS = st.sampled_from(["", "", "", "  # c1", " # c2 {"])
ABOVE = st.sampled_from(["", "", "", "# above", "\n", "   "])


@st.composite
def written(draw: Any, value: Any, column: int) -> Any:
    """A value after its word, the newline at its end included, in one of many ways."""
    end = draw(COMMENTS) + "\n"
    pad = " " * column
    if isinstance(value, dict) and value and draw(st.booleans()):
        lines = [end]
        for word, one in value.items():
            above = draw(ABOVE)
            lines.append((above if not above.startswith("#") else pad + above) + ("\n" if above and above != "\n" else ""))
            lines.append(f"{pad}{word}:{draw(written(one, column + draw(st.sampled_from([1, 2, 4]))))}")
        return "".join(lines)
    if isinstance(value, list) and value and draw(st.booleans()):
        return end + "".join(f"{pad}- {flow(one)}{draw(COMMENTS)}\n" for one in value)
    if isinstance(value, dict | list) and value and draw(st.booleans()):
        opened, closed = "{}" if isinstance(value, dict) else "[]"
        items = [f"{flow(word)}: {flow(one)}" for word, one in value.items()] if isinstance(value, dict) else list(map(flow, value))
        sep = draw(st.sampled_from([", ", ",", f",\n{pad} ", f" ,\n\n{pad}  "]))
        return f" {opened}{draw(st.sampled_from(['', ' ']))}{sep.join(items)}{draw(st.sampled_from(['', ',', ' ']))}{closed}{end}"
    if isinstance(value, str) and value.isalpha() and draw(st.booleans()):
        return draw(st.sampled_from([f" |-\n{pad}{value}\n", f" >-\n{pad}{value}\n\n", f" '{value}'{end}", f'\n{pad}"{value}"{end}']))
    return f" {flow(value)}{end}"


@st.composite
def files(draw: Any) -> tuple[str, dict[str, Any]]:
    """A file and what it says."""
    said = {"g": draw(st.dictionaries(WORDS, PLAIN, max_size=3)), "h": draw(PLAIN)}
    text = "".join(f"{draw(st.sampled_from(['', '# top', '']))}\n{word}:{draw(written(value, 2))}" for word, value in said.items())
    text = text if draw(st.booleans()) else text.rstrip("\n")
    return (text.replace("\n", "\r\n") if draw(st.booleans()) else text), said


def meaning(value: Any) -> Any:
    return data(tree(f"x: {flow(value)}\n", PATH))["x"]


@given(files(), st.sampled_from(["a", "b", "c", "d.e", "new", "n.w"]), PLAIN)
@settings(max_examples=300, deadline=None)
@example(("g: {}\nh: 1", {"g": {}, "h": 1}), "a", {})
@example(("\ng:\n  a:\n   a: 1\n   b: |-\n    x\n\nh: 1", {"g": {"a": {"a": 1, "b": "x"}}, "h": 1}), "a", 1)
@example(("g:\n  a: |-\n    x\nh: 1", {"g": {"a": "x"}, "h": 1}), "a", 1)
def test_what_is_put_in_is_there_and_the_rest_as_before(file, word, value):
    text, said = file
    assert data(tree(text, PATH)) == {name: meaning(one) for name, one in said.items()}
    after = put(text, group_of(text), word, flow(value))
    assert data(tree(after, PATH)) == {"g": {**meaning(said["g"]), word: meaning(value)}, "h": meaning(said["h"])}
    gone = take_out(after, group_of(after), word)
    assert data(tree(gone, PATH)) == {"g": meaning({name: one for name, one in said["g"].items() if name != word}), "h": meaning(said["h"])}
    if word not in said["g"] and said["g"]:
        assert gone.rstrip("\r\n") == text.rstrip("\r\n"), "there and back again"


GROUPS = st.sampled_from([("g",), ("g", "a"), ("g", "d.e"), ("g", "n"), ("h",)])


@given(files(), st.dictionaries(st.tuples(GROUPS, WORDS), st.one_of(st.none(), PLAIN), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_several_words_are_set_or_nothing_is_written(tmp_path_factory, file, words):
    """The path leads where the longest names lead; what a command cannot write it leaves alone."""
    path = tmp_path_factory.mktemp("graft") / "x.yaml"
    path.write_bytes(file[0].encode())
    try:
        edited = edit.set_words(path, {(".".join(group), word): value for (group, word), value in words.items()})
    except ConfigError:
        assert path.read_bytes() == file[0].encode()
        return
    (group, word), value = list(words.items())[-1]
    found = data(tree(path.read_bytes().decode(), PATH))
    for name in group:
        for step in [name] if name in found else name.split("."):
            found = found.get(step, {}) if isinstance(found, dict) else {}
    assert (found.get(word) if isinstance(found, dict) else None) == (None if value is None else meaning(value))
    edited.undo()
    assert path.read_bytes() == file[0].encode()
