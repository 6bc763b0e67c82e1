"""What each kind of rule says of what control knows: tables. And that no kind lacks its file, its line or its words in the docs."""

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.alert.anomaly import WEEK
from gateway.alert.facts import Budget, Certificate, Counted, Drift, Endpoint, Facts, KeyEnd, Ledger, Process
from gateway.alert.kinds import KINDS, ttft
from gateway.alert.windows import Windows
from gateway.config import alert_kinds
from gateway.config.resolved_alerts import rule_of
from gateway.govern.alerting import LABELS

ROOT = Path(__file__).parents[1]
NOW = 1_800_000_000.0
DAY = 86400.0


def facts(**known: Any) -> Facts:
    return Facts(now=NOW, **known)


def at(state: str, **more: Any) -> Endpoint:
    return Endpoint(**{"channel": "gpu", "url": "http://h:1", "state": state, **more})


def counted(**known: Any) -> Facts:
    return facts(counted=lambda seconds: Counted(**known))


class Steady:
    """The same every hour, then what is said: a double of the ledger's series."""

    def __init__(self, *last: float) -> None:
        self.last = last

    def series(self, kind: str, by: str, hours: int) -> dict[str, list[float | None]]:
        return {"retail": [*[10_000.0] * (3 * WEEK), *self.last], "lab": [10_000.0] * (3 * WEEK + len(self.last))}


Q = ("qwen", "gpu")
HOLDS: list[tuple[str, dict[str, Any], Facts, list[str]]] = [
    # kind, the rule's words, what is known, texts
    ("endpoint_down", {}, facts(endpoints=[at("up"), at("down", why="refused"), at("ejected")]), ["down: refused", "ejected"]),
    ("endpoint_down", {}, facts(endpoints=[at("down", drained=True), at("draining"), at("wedged"), at("busy")]), []),
    ("endpoint_down", {"channel": "a*"}, facts(endpoints=[at("down"), at("down", channel="asc")]), ["down"]),
    ("endpoint_wedged", {}, facts(endpoints=[at("wedged", why="no token for 60 s"), at("down")]), ["wedged: no token for 60 s"]),
    ("error_share", {}, counted(requests={Q: 100}, failed={Q: 6}), ["6% of 100 requests failed in 5 min"]),
    ("error_share", {}, counted(requests={Q: 100}, failed={Q: 5}), []),
    ("error_share", {}, counted(requests={Q: 19}, failed={Q: 19}), []),
    ("error_share", {"model": "x"}, counted(requests={Q: 100}, failed={Q: 50}), []),
    ("error_share", {}, counted(requests={Q: 50, ("qwen", "asc"): 50}, failed={Q: 50}), ["50% of 100 requests failed in 5 min"]),
    ("error_share", {"channel": "gpu"}, counted(requests={Q: 50, ("qwen", "asc"): 50}, failed={Q: 50}),
     ["100% of 50 requests failed in 5 min"]),
    ("error_share", {}, counted(requests={("", ""): 100}, failed={("", ""): 100}), []),
    ("ttft", {"over": 1.0}, counted(first={Q: {0.5: 80.0, 2.5: 20.0}}), ["15% of 100 streams took longer than 1s in 5 min"]),
    ("ttft", {"over": 2.5}, counted(first={Q: {0.5: 80.0, 2.5: 20.0}}), []),
    ("ttft", {"over": 1.0}, counted(first={Q: {0.5: 1.0, 2.5: 18.0}}), []),
    ("budget", {}, facts(budgets=[Budget({"owner": "a"}, "a", 81.0, "81 of 100"), Budget({}, "", 80.0, "")]), ["81% used: 81 of 100"]),
    ("budget", {}, facts(budgets=[Budget({}, "", 99.9944, "0.249986 of 0.25")]), ["99% used: 0.249986 of 0.25"]),
    ("budget", {"tenant": "b"}, facts(budgets=[Budget({"owner": "a"}, "a", 81.0, ""), Budget({}, "", 99.0, "")]), []),
    ("disk", {}, facts(disk=91.2, free=2**31), ["91% of the disk of data_dir is used, 2.0 GiB are free"]),
    ("disk", {"over": 95.0}, facts(disk=91.2), []),
    ("ledger", {}, facts(ledger=Ledger(301.0)), ["it is 5 min behind the journal"]),
    ("ledger", {}, facts(ledger=Ledger(300.0)), []),
    ("ledger", {}, facts(ledger=Ledger(0.0, "disk full")), ["it is 0 s behind the journal: disk full"]),
    ("ledger", {}, facts(ledger=Ledger(0.0, "", 2)), ["lines of the journal that are no records, put aside in the last day: 2"]),
    ("budget", {}, facts(budgets=[Budget({"owner": "a"}, "a", 60.0, "6 of 10", (50, 60, 95))]),
     ["60% used: 6 of 10 (it warns at 50%)", "60% used: 6 of 10 (it warns at 60%)"]),
    ("budget", {"over": 10.0}, facts(budgets=[Budget({"owner": "a"}, "a", 49.0, "", (50,))]), []),
    ("drift", {}, facts(usage=[Drift("gpu", 8.0, 12_300, NOW), Drift("asc", 90.0, 999, NOW), Drift("x", 4.0, 10**6, NOW)]),
     ["its engines generated 12,300 tokens (8%) past this gateway in the hour from 08:00 UTC"]),
    ("drift", {"channel": "a*", "over": 1.0},
     facts(drift=[("files", "x")], usage=[Drift("asc", -5.0, -1000, NOW), Drift("b", 9, 9999, NOW)]),
     ["the ledger has 1,000 tokens (5%) that its engines did not count, in the hour from 08:00 UTC"]),
    ("drift", {}, facts(drift=[("worker-1", "it serves revision 3")]), ["it serves revision 3"]),
    ("certificate_expiry", {}, facts(certificates=[Certificate("a.crt", NOW + 13.5 * DAY), Certificate("b.crt", NOW + 15 * DAY)]),
     ["the certificate ends in 13 days"]),
    ("certificate_expiry", {}, facts(certificates=[], endpoints=[at("down", not_after=NOW - 3 * DAY)]),
     ["the certificate ended 3 days ago"]),
    ("key_expiry", {}, facts(keys=[KeyEnd("k1", "a", NOW + 6.5 * DAY), KeyEnd("k2", "a", NOW + 8 * DAY), KeyEnd("k3", "a", NOW - 2 * DAY)]),
     ["the key ends in 6 days"]),
    ("key_expiry", {}, facts(keys=[KeyEnd("k1", "a", NOW - 7200)]), ["the key ended 2 h ago"]),
    ("key_expiry", {"tenant": "b"}, facts(keys=[KeyEnd("k1", "a", NOW + DAY)]), []),
    ("config_refused", {}, facts(refused="gateway.yaml:3:1: unknown word"), ["gateway.yaml:3:1: unknown word"]),
    ("config_refused", {}, facts(refused=""), []),
    ("unpriced", {}, facts(unpriced={"qwen": 3, "small": 0}), ["3 requests have no price"]),
    ("journal_lost", {}, facts(journal_failing=True), ["the disk refuses records of requests"]),
    ("journal_lost", {}, facts(journal_failing=False, counted=lambda seconds: Counted(lost=7.0)), ["7 records were given up in 10 min"]),
    ("journal_lost", {}, facts(journal_failing=False, counted=lambda seconds: Counted()), []),
    ("control_restarted", {}, facts(processes=[Process("control", 2, NOW - 30), Process("worker-0", 1, NOW - 30)]),
     ["it was started again 30 s ago, 2 times in all"]),
    ("control_restarted", {}, facts(processes=[Process("control", 0, NOW - 30)]), []),
    ("control_restarted", {}, facts(processes=[Process("control", 1, NOW + DAY)]), []),
    ("control_restarted", {}, facts(processes=[Process("control", 1, NOW - 601)]), []),
    ("worker_restarted", {}, facts(processes=[Process("control", 2, NOW), Process("worker-0", 1, NOW - 30)]),
     ["it was started again 30 s ago, 1 time in all"]),
    ("frozen", {}, facts(frozen=[("tenant", "retail", "ticket 4711"), ("all", "", "")]),
     ["tenant retail is frozen: ticket 4711", "everything is frozen"]),
    ("usage_anomaly", {}, facts(series=Steady(90_000.0, 0.0)), ["tokens spike: 90,000 in an hour, usual are 10,000"]),
    ("usage_anomaly", {}, facts(series=Steady(10_000.0, 90_000.0)), ["tokens spike: 90,000 in an hour, usual are 10,000"]),
    ("usage_anomaly", {}, facts(series=Steady(10_000.0, 0.0)), []),
    ("usage_anomaly", {"tenant": "lab"}, facts(series=Steady(90_000.0, 0.0)), []),
    ("cost_anomaly", {}, facts(series=Steady(90_000.0, 0.0)), ["cost spike: 90,000 in an hour, usual are 10,000"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "words", "known", "texts"), HOLDS, ids=[f"{one[0]}-{number}" for number, one in enumerate(HOLDS)])
def test_what_holds(kind, words, known, texts):
    found = KINDS[kind](rule_of(kind, **words), known)
    assert [condition.text for condition in found.conditions] == texts
    for condition in found.conditions:
        assert set(condition.labels) <= set(LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_known_is_not_sure(kind):
    assert KINDS[kind](rule_of(kind), facts()) == ([], False)


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("endpoint_down", facts(endpoints=[at("up", seen=False)])),
        ("endpoint_wedged", facts(endpoints=[at("up", seen=False)])),
        ("certificate_expiry", facts(certificates=[], endpoints=[at("up", seen=False)])),
        ("error_share", counted(complete=False)),
        ("ttft", counted(complete=False)),
    ],
)
def test_what_was_not_looked_at_is_not_sure(kind, known):
    assert KINDS[kind](rule_of(kind), known) == ([], False)


def test_each_kind_has_its_file_its_line_its_words_and_its_place_in_the_docs():
    files = {file.stem for file in (ROOT / "gateway/alert/kinds").glob("*.py")} - {"__init__"}
    assert files == set(KINDS), "a line in KINDS of gateway/alert/kinds/__init__.py"
    assert list(KINDS) == list(alert_kinds.KINDS), "an entry in gateway/config/alert_kinds.py"
    docs = (ROOT / "docs/alerts.md").read_text()
    for kind, words in alert_kinds.KINDS.items():
        row = re.search(rf"^\| `{kind}` \|(.*)$", docs, re.M)
        assert row, f"docs/alerts.md has no row for {kind}"
        assert words.severity in row[1] and all(f"`{word}`" in row[1] for word in words.words), kind


@pytest.mark.parametrize(("objective", "slow"), [(0.1, 99.0), (0.5, 60.0), (1.0, 35.0), (1.5, 10.0), (2.0, 10.0), (0.25, 80.0)])
def test_slower_than_an_objective(objective, slow):
    assert ttft.slower({0.5: 40.0, 1.5: 50.0, float("inf"): 10.0}, objective) == pytest.approx(slow, abs=8.1 if objective < 0.5 else 0.01)


# -- counters --------------------------------------------------------------------------------------------------------------

R, F, B = ("requests", "m", "c"), ("failed", "m", "c"), ("first", "m", "c", "0.5")


def known(windows: Windows, now: float, seconds: float) -> Counted:
    found = windows.counted(now, seconds)
    assert found is not None
    return found


def test_windows_say_how_much_was_counted():
    windows = Windows()
    assert windows.counted(0, 60) is None
    for now in range(0, 121, 10):
        windows.add(now, {R: 100.0 + now, F: now / 10, B: float(now), ("lost",): 0.0}, 60)
    found = windows.counted(120, 60)
    assert found == Counted(True, {("m", "c"): 60.0}, {("m", "c"): 6.0}, {("m", "c"): {0.5: 60.0}}, 0.0)
    assert known(windows, 120, 30).requests == {("m", "c"): 30.0}
    assert len(windows._times) <= 8, "what nobody asks for is forgotten"


def test_at_first_nothing_was_counted_and_it_is_not_complete():
    windows = Windows()
    windows.add(0, {R: 1e6}, 60)
    assert windows.counted(0, 60) == Counted(complete=False)
    windows.add(30, {R: 1e6 + 5}, 60)
    found = known(windows, 30, 60)
    assert not found.complete and found.requests == {("m", "c"): 5.0}


def test_a_counter_that_begins_anew_counts_from_nothing():
    windows = Windows()
    windows.add(0, {R: 1000.0}, 60)
    windows.add(10, {R: 7.0}, 60)
    assert known(windows, 10, 60).requests == {("m", "c"): 7.0}


def test_looks_are_no_more_often_than_needed():
    windows = Windows()
    assert windows.due(0, 300)
    windows.add(0, {}, 300)
    assert not windows.due(9, 300) and windows.due(10, 300) and not windows.due(100, 86400)


def test_empty_buckets_are_there_too():
    windows = Windows()
    for now in (0, 60):
        windows.add(now, {B: 5.0, ("first", "m", "c", "1.0"): float(now)}, 60)
    assert known(windows, 60, 60).first == {("m", "c"): {0.5: 0.0, 1.0: 60.0}}
