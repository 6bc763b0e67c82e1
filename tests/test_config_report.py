"""The report that an operator reads: golden files, long lines, wide characters, terminals. GOLDEN=write rewrites the files."""

import os
from pathlib import Path

import pytest

from gateway.config.load import ConfigError, load
from gateway.config.report import SHOWN_MOST, Mistake, clean, cut, place, render

GOLDEN = Path(__file__).parent / "golden" / "config"


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.yaml")), ids=lambda file: file.stem)
def test_reports_are_as_agreed(file, tmp_path):
    (tmp_path / "gateway.yaml").write_bytes(file.read_bytes())
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "gateway.yaml", {})
    shown = render(caught.value.mistakes).replace(str(tmp_path), "/etc/gateway")
    wanted = file.with_suffix(".txt")
    if os.environ.get("GOLDEN") == "write":
        wanted.write_text(shown)
    assert shown == wanted.read_text()
    assert "canary" not in shown


def test_the_shape():
    mistake = Mistake("/etc/gateway/gateway.yaml", 5, 5, "channels.gpu", 'unknown word "modle"', 'did you mean "model"?', "    modle: qwen")
    assert render([mistake]) == (
        'error: unknown word "modle" in channels.gpu\n'
        "  --> /etc/gateway/gateway.yaml:5:5\n"
        "   |\n"
        " 5 |     modle: qwen\n"
        '   |     ^^^^^ did you mean "model"?\n'
    )
    coloured = render([mistake], color=True)
    assert "\x1b[1;31merror\x1b[0m" in coloured and coloured.count("\x1b[0m") >= 5
    assert render([]) == ""


def test_a_mistake_of_a_whole_file_has_no_line():
    mistake = Mistake("/x.yaml", 0, 0, "", "the file is empty", "say something")
    assert render([mistake]) == "error: the file is empty\n  --> /x.yaml\n   = say something\n"
    assert place(mistake) == "/x.yaml"


def test_at_most_a_hundred_are_shown():
    shown = render([Mistake("f", 1, 1, "", f"number {n}", None, "x") for n in range(250)])
    assert shown.count("error:") == SHOWN_MOST and shown.endswith("… and 150 more mistakes\n")


@pytest.mark.parametrize("column", [1, 50, 500, 999, 1000, 1001])
def test_a_long_line_is_cut_around_the_caret(column):
    source = "".join(chr(0x4E00 + n) for n in range(1000))
    text, at = cut(source, column)
    assert len(text) <= 162 and (column > 1000 or text[at - 1] == source[column - 1])
    assert text.startswith("…") == (column > 80) and text.endswith("…") == (column < 920)


def test_the_caret_stands_below_wide_characters():
    lines = render([Mistake("f", 1, 4, "", "m", None, "模型: x")]).splitlines()
    assert lines[-1] == "   |      ^" and lines[-2] == " 1 | 模型: x"


def test_nothing_in_a_file_can_steer_the_terminal():
    assert clean("a\x1b[2J\u202eb\tc") == "a\\x1b[2J\\x202eb\tc"
    assert "\x1b" not in render([Mistake("f\x1b", 1, 1, "p\x1b", "m\x1b", "h\x1b", "s\x1b")])
