"""Fault scripts: the grammar, its mistakes with their places, and which request meets which fault."""

from pathlib import Path

import pytest

from gateway.simulate import script
from gateway.simulate.faults import FOREVER, OPTIONS, Play, Script

EXAMPLE = """
faults:
  - {on: 1, do: refuse}
  - {on: 2, do: reset}
  - {on: 3, do: stall, at: headers, for: 10s}
  - {on: 4, do: cut, after: 3}
  - {on: 5, do: bare_text, after: 2}
  - {on: 6, do: status, status: 503, body: {error: busy}, headers: {Retry-After: "2"}}
  - {on: 7, do: slow_body, rate: 100}
  - {on: [8, 9], do: garbage}
  - {on: "10-12", do: queue_full}
  - {on: 13, do: error_event, after: 2}
  - {on: 14, do: no_done}
  - {on: 20, do: restart, for: 2s}
  - {path: /health, do: status, status: 503}
  - {every: 30, do: stall, after: 2, for: 200ms}
  - {share: 0.5, do: reset}
  - {do: flap, up: 5s, down: 500ms}
"""


def met(play: Play, numbers: int, path: str = "/v1/chat/completions", *, inference: bool = True) -> list[str]:
    faults = (play.next(path, inference=inference) for _ in range(numbers))
    return [fault.do if fault else "" for fault in faults]


def test_the_example_reads_as_written() -> None:
    found = script.parse(EXAMPLE)
    rules = {rule.do: rule for rule in found.rules[:12]}
    assert len(found.rules) == 16
    assert rules["stall"].seconds == 10
    assert rules["status"].body == b'{"error": "busy"}'
    assert rules["status"].headers == {"Retry-After": "2"}
    assert rules["bare_text"].text == "Engine callback timeout: server tokenTimeout"
    assert (rules["restart"].seconds, rules["slow_body"].rate) == (2, 100)
    assert (found.rules[13].at, found.rules[13].after, found.rules[13].seconds) == ("mid_stream", 2, 0.2)
    assert found.flap is not None
    assert (found.flap.up, found.flap.down) == (5, 0.5)


def test_requests_meet_their_rules_by_number() -> None:
    rules = [rule for rule in script.parse(EXAMPLE).rules if rule.share is None]
    struck = met(Play(Script(tuple(rules))), 31)
    assert struck[:9] == ["refuse", "reset", "stall", "cut", "bare_text", "status", "slow_body", "garbage", "garbage"]
    assert struck[9:15] == ["queue_full"] * 3 + ["error_event", "no_done", ""]
    assert (struck[19], struck[29], struck[30]) == ("restart", "stall", "")


def test_a_path_has_its_own_count_and_other_requests_do_not_count() -> None:
    play = Play(script.of({"on": 2, "do": "status", "status": 503, "path": "/heal*"}, {"on": 1, "do": "refuse"}))
    assert met(play, 2, "/health", inference=False) == ["", "status"]
    assert met(play, 1, "/v1/models", inference=False) == [""]
    assert met(play, 2) == ["refuse", ""]


def test_a_share_is_the_same_for_the_same_seed() -> None:
    rules = script.of({"share": 0.3, "do": "reset"})
    first, again, other = (met(Play(rules, seed), 1000) for seed in (1, 1, 2))
    assert first == again != other
    assert 250 < first.count("reset") < 350


def test_the_first_matching_rule_wins_and_ranges_may_be_open() -> None:
    play = Play(script.of({"on": "3-", "do": "cut"}, {"do": "no_done"}))
    assert met(play, 5) == ["no_done", "no_done", "cut", "cut", "cut"]


MISTAKES = [
    ("faults:\n  - {do: {do: cut}}", "f.yaml:2:10: `do` is one word"),
    ("faults:\n  - {do: [cut]}", "f.yaml:2:10: `do` is one word"),
    ("faults:\n  - {[on]: 1, do: cut}", "f.yaml:2:6: a word is needed here"),
    ("faults:\n  - {do: status, status: 500, body: !mine x}", "f.yaml:2:37: body: this is no plain value"),
    ("faults:\n  - {do: status, status: 500, body: 2026-01-01}", "f.yaml:2:37: body: this is no plain value"),
    ("faults:\n  - {on: &a [*a], do: cut}", "f.yaml:2:10: on: this is no plain value"),
    ("faults:\n  - {path: health, do: refuse}", "f.yaml:2:12: path: `health` is no path, write one like /health or /v1/*"),
    ("faults:\n  - {do: flap, up: 0s}", "f.yaml:2:20: up: `0s` is too short, write one above 0s"),
    (
        'faults:\n  - {do: status, status: 500, headers: {X: "a\\r\\nY: b"}}',
        "f.yaml:2:40: headers: `X` holds a line break or another character that no header has",
    ),
    ("faults:\n  - {on: 1, do: stal}", "f.yaml:2:17: unknown fault `stal`, did you mean `stall`?"),
    ("faults:\n  - {on: 1, do: refuse, fro: 3}", "f.yaml:2:25: unknown word `fro` for `refuse`, known: on, every, share, path, do"),
    ("faults:\n  - {on: 1, do: cut, aftr: 3}", "f.yaml:2:22: unknown word `aftr` for `cut`, did you mean `after`?"),
    ("faults:\n  - {on: 0, do: cut}", "f.yaml:2:10: on: `0` names no requests, write a number from 1, a list of them, or a range "
     "like 5-8 or 5-"),
    ('faults:\n  - {on: "8-5", do: cut}', "f.yaml:2:10: on: `8-5` names no requests, write a number from 1, a list of them, or a range "
     "like 5-8 or 5-"),
    ("faults:\n  - {share: 2, do: cut}", "f.yaml:2:13: share: `2` is no share, write a number from 0 to 1"),
    ("faults:\n  - {on: 1, every: 2, do: cut}", "f.yaml:2:13: a rule has one of on, every, share; `on` stands already"),
    ("faults:\n  - {on: 1, do: stall, at: tail}", "f.yaml:2:28: at: `tail` is no place, write headers, first_event or mid_stream"),
    ("faults:\n  - {do: stall, for: 10 days}", "f.yaml:2:22: for: `10 days` is no duration, write one like 200ms, 10s, 2m or forever"),
    ("faults:\n  - {do: status}", "f.yaml:2:5: `status` needs `status`"),
    ("faults:\n  - {do: flap, on: 3}", "f.yaml:2:6: `flap` goes by the clock, it takes no on, every, share or path"),
    ("faults:\n  - {on: 3}", "f.yaml:2:5: a rule needs `do`"),
    ("fault: []", "f.yaml:1:1: unknown word `fault`, did you mean `faults`?"),
    ("faults: 3", "f.yaml:1:9: `faults` is a list of rules"),
    ("", "f.yaml: a fault script begins with `faults:` and has a list of rules below it, such as - {on: 1, do: refuse}"),
    ("faults: [", "f.yaml:1:10: did not find expected node content"),
    ("faults:\n  - {on: 1, do: cut, on: 2}", "f.yaml:2:22: `on` is written twice, first in line 2"),
    ("faults: []\nfaults: []", "f.yaml:2:1: `faults` is written twice, first in line 1"),
    ("faults:\n  - do: status\n    status: 503\n    headers: {A: 1, A: 2}", "f.yaml:4:21: `A` is written twice, first in line 4"),
    ("faults:\n  - {do: status, status: 503, headers: {Retry-After: [1, 2]}}",
     "f.yaml:2:40: headers: `Retry-After` must be text or a number"),
    ("faults:\n  - {do: status, status: 503, headers: {X: null}}", "f.yaml:2:40: headers: `X` must be text or a number"),
    ("faults:\n  - {on: 1, do: cut, after: yes}", "f.yaml:2:29: after: `True` must be a whole number from 0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "mistake"), MISTAKES)
def test_a_mistake_is_named_with_its_place(text, mistake) -> None:
    with pytest.raises(script.ScriptError) as caught:
        script.parse(text, "f.yaml")
    assert len(caught.value.mistakes) == 1
    if "expected node" in mistake:  # the parser's own words differ between its versions
        assert caught.value.mistakes[0].startswith("f.yaml:1:")
    else:
        assert caught.value.mistakes[0] == mistake


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(script.ScriptError) as caught:
        script.parse("faults:\n  - {do: x}\n  - {do: cut, after: -1}\nmore: 1", "f.yaml")
    assert [line.split(": ")[0] for line in caught.value.mistakes] == ["f.yaml:2:10", "f.yaml:3:22", "f.yaml:4:1"]


@pytest.mark.parametrize(("text", "seconds"), [("200ms", 0.2), ("1s", 1), ("1.5", 1.5), ("2m", 120), ("1h", 3600), ("forever", FOREVER)])
def test_durations(text, seconds) -> None:
    assert script.duration(text) == seconds


def test_every_fault_is_in_the_docs() -> None:
    text = (Path(__file__).parents[1] / "docs" / "simulators.md").read_text(encoding="utf-8")
    assert [word for word in OPTIONS if f"`{word}`" not in text] == []


def test_a_script_that_is_no_text_is_a_mistake_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(script.ScriptError) as caught:
        script.load(tmp_path / "f.yaml")
    assert caught.value.mistakes == [f"{tmp_path / 'f.yaml'}: it is not UTF-8 text"]
