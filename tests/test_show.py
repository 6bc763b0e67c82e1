"""Tables on terminals of any width: numbers stay whole, and nothing is left out."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.compose import compose, data_of
from gatewayctl import show
from gatewayctl.session import Session
from gatewayctl.show import Column

COLUMNS = [
    Column("tenant", lambda row: row["tenant"]),
    Column("requests", lambda row: f"{row['requests']:,}", "right"),
    Column("in CNY", lambda row: row["amount"], "right"),
    Column("", lambda row: "█" * 10),
    Column("why", lambda row: row["why"]),
]
ROWS = [
    {"tenant": "a-tenant-with-a-long-name", "requests": 1_234_567, "amount": "1,451.63", "why": "it is far from what such an hour has"},
    {"tenant": "零售", "requests": 2, "amount": "0.00042", "why": ""},
]


def drawn(monkeypatch: pytest.MonkeyPatch, width: int | None, rows: list[dict[str, Any]] = ROWS) -> str:
    """width: of the terminal; None = a pipe."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: width is not None)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width or 80, 24)))
    return show.table(Session(Path("gateway.yaml"), color="never"), rows, COLUMNS)


@pytest.mark.parametrize("width", [*range(8, 130), None])
def test_no_number_is_ever_torn(monkeypatch, width):
    """Half of a number, with its rest a line below, reads as another number."""
    text = drawn(monkeypatch, width)
    for number in ("1,234,567", "1,451.63", "0.00042"):
        assert number in text.split(), f"{width}: {text}"


@pytest.mark.parametrize(
    ("width", "kept", "bars"), [(None, True, True), (120, True, True), (64, True, True), (44, True, False), (30, False, False)]
)
def test_a_narrow_one_has_no_bars_and_a_very_narrow_one_paragraphs(monkeypatch, width, kept, bars):
    text = drawn(monkeypatch, width)
    assert ("█" in text) == bars and (text.count("TENANT") == 1) == kept
    if width is not None and kept:
        assert max(map(show.width_of, text.split("\n"))) <= width
    if not kept:
        assert "IN CNY    1,451.63" in text.split("\n") and "TENANT    零售" in text.split("\n")


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "\t=1", "\r=1", '=HYPERLINK("http://x")', "=a\r=b\n=c"]
)
def test_a_spreadsheet_gets_no_formula(text, capsys):
    show.data(Session(Path("gateway.yaml"), output="csv"), [{"model": text}])
    (cell,) = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))[1]  # a cell with a break in it is one cell
    assert cell == f"'{text}" and show.without_guard(cell) == text


@pytest.mark.parametrize("text", ["1e3", "505303e30486", "12E4", "+1e1", "no", "0x1f", "2027-01-01", "~", "", "plain", "a: b # c", "零售"])
def test_text_is_text_in_yaml_for_readers_of_either_version(text, tmp_path):
    said = show.as_yaml([{"id": text, text or "e": 1}])
    assert yaml.safe_load(said) == [{"id": text, text or "e": 1}]  # 1.1
    assert data_of(compose(tmp_path, said)) == [{"id": text, text or "e": 1}]  # 1.2


@pytest.mark.parametrize("value", ["--", "-D", "CD", "-", "-1.5", "+7.57%", -3, -0.5, "'=quoted", "a=b", ""])
def test_what_is_no_formula_stays_as_it_is(value, capsys):
    show.data(Session(Path("gateway.yaml"), output="csv"), [{"model": value, "more": 1}])
    assert next(csv.DictReader(io.StringIO(capsys.readouterr().out)))["model"] == str(value)


STEERS = "v\x1b[31m\x00\x7f\x9b2J"
"""A model that a caller asked for: a terminal would turn red and go blank, and most readers of CSV refuse the NUL."""


@pytest.mark.parametrize("output", ["csv", "json", "yaml"])
def test_what_steers_a_terminal_is_written_out_for_programs_too(output, capsys):
    show.data(Session(Path("gateway.yaml"), output=output), [{"model": STEERS}, {"model": "a\tb\r\nc\u3000零售"}])
    out = capsys.readouterr().out
    assert not set(STEERS[1:]) & set(out) - set("[31m2J")
    if output == "csv":
        assert [row[0] for row in csv.reader(io.StringIO(out, newline=""))][1:] == [r"v\x1b[31m\x00\x7f\x9b2J", "a\tb\r\nc\u3000零售"]
    else:
        read = json.loads(out) if output == "json" else yaml.safe_load(out)
        assert [row["model"] for row in read] == [STEERS, "a\tb\r\nc\u3000零售"]


def test_a_row_that_comes_by_itself_steers_no_terminal_either(capsys):
    show.Rows(Session(Path("gateway.yaml"), output="json"), COLUMNS).add({"model": STEERS})
    out = capsys.readouterr().out
    assert "\x9b" not in out and json.loads(out) == {"model": STEERS}


def test_a_tab_in_a_cell_costs_nothing_of_it(monkeypatch):
    assert "one two three" in drawn(monkeypatch, None, [{"tenant": "t", "requests": 1, "amount": "1", "why": "one\ttwo\tthree"}])
