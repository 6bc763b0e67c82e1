"""What becomes of what holds: the table of gateway/alert/state.py, silences, and that a restart neither forgets nor repeats."""

from typing import Any

import msgspec
import pytest

from gateway.alert import file
from gateway.alert.deliver import Waiting
from gateway.alert.facts import Condition, Found
from gateway.alert.state import ALERTS_MOST, REMEMBERED, Alert, Board, Notice, Silence, fingerprint
from gateway.config.resolved_alerts import Rule, rule_of

DISK = rule_of("disk", wait=0.0)
RULE = rule_of("endpoint_down", wait=60.0, repeat=600.0, to=("ops",))
HERE = {"channel": "gpu", "endpoint": "http://h:1"}
YES = Found([Condition(HERE, 1.0, "down")])
NO = Found([])
UNSURE = Found([], sure=False)


class Days:
    """A board and its time."""

    def __init__(self, board: Board | None = None) -> None:
        self.board = board or Board()

    def at(self, now: float, found: Found, rule: Rule = RULE) -> list[str]:
        """What is told: `firing`, `firing again`, `resolved`."""
        notices = self.board.update([(rule, found)], now)
        return [f"{notice.what}{' again' if notice.again else ''}" for notice in notices]

    @property
    def state(self) -> str:
        return next((alert.state for alert in self.board.alerts.values()), "")


P, F, R = "pending", "firing", "resolved"
TABLE: dict[str, list[tuple[float, Found, list[str], str]]] = {
    # name: [(when, what holds, what is told, the state then)]
    "it holds for long enough": [(0, YES, [], P), (59, YES, [], P), (60, YES, ["firing"], F)],
    "it goes before": [(0, YES, [], P), (30, NO, [], ""), (60, YES, [], P), (90, YES, [], P)],
    "it goes afterwards": [(0, YES, [], P), (60, YES, ["firing"], F), (70, NO, ["resolved"], R)],
    "it is told once": [(0, YES, [], P), (60, YES, ["firing"], F), (62, YES, [], F), (659, YES, [], F)],
    "it is told again": [(0, YES, [], P), (60, YES, ["firing"], F), (660, YES, ["firing again"], F), (661, YES, [], F)],
    "nobody knows": [(0, YES, [], P), (60, YES, ["firing"], F), (70, UNSURE, [], F), (80, NO, ["resolved"], R)],
    "nobody knows while it is pending": [(0, YES, [], P), (30, UNSURE, [], P), (60, YES, ["firing"], F)],
    "it comes back": [
        (0, YES, [], P), (60, YES, ["firing"], F), (70, NO, ["resolved"], R), (80, YES, [], P),
        (140, YES, ["firing"], F),
    ],
    "it is forgotten": [
        (0, YES, [], P), (60, YES, ["firing"], F), (70, NO, ["resolved"], R), (69 + REMEMBERED, NO, [], R),
        (70 + REMEMBERED, NO, [], ""),
    ],
    "the clock goes back": [(0, YES, [], P), (60, YES, ["firing"], F), (-999, YES, [], F), (70, NO, ["resolved"], R)],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name):
    days = Days()
    for now, found, told, state in TABLE[name]:
        assert (days.at(now, found), days.state) == (told, state), now


def test_a_rule_that_waits_for_nothing_fires_at_once():
    assert Days().at(1, YES, DISK) == ["firing"]


def test_each_label_is_an_alert_of_its_own_and_what_is_gone_resolves_alone():
    days, rule = Days(), DISK
    both = Found([Condition({"channel": one}, 1.0, "x") for one in "ab"])
    assert days.at(1, both, rule) == ["firing", "firing"]
    assert days.at(2, Found(both.conditions[1:]), rule) == ["resolved"]
    assert sorted(alert.state for alert in days.board.alerts.values()) == ["firing", "resolved"]


def test_two_rules_on_the_same_thing_are_two_alerts():
    warning, critical = rule_of("disk", name="a", wait=0.0), rule_of("disk", name="b", wait=0.0)
    notices = Board().update([(warning, YES), (critical, YES)], 1)
    assert len({notice.alert.id for notice in notices}) == 2


def test_a_rule_that_is_gone_resolves_what_it_said():
    board = Board()
    board.update([(DISK, YES)], 1)
    assert [notice.what for notice in board.update([], 2)] == ["resolved"]
    assert board.update([], 3) == []


def test_a_flood_of_conditions_is_bounded():
    board = Board()
    board.update([(rule_of("disk"), Found([Condition({"key": str(n)}, 1.0, "") for n in range(ALERTS_MOST + 10)]))], 0)
    assert len(board.alerts) == ALERTS_MOST


def test_the_fingerprint_does_not_go_by_order():
    assert fingerprint("r", {"a": "1", "b": "2"}) == fingerprint("r", {"b": "2", "a": "1"}) != fingerprint("r", {"a": "1", "b": "3"})


# -- a clock that jumps --------------------------------------------------------------------------------------------------

YEAR = 366 * 86_400.0


@pytest.mark.parametrize("jump", [YEAR, -YEAR, 3600.0, -30.0])
def test_a_clock_that_is_put_forward_or_back_changes_nothing_of_how_long_something_holds(jump):
    days, now = Days(), 1.8e9
    days.at(now, YES)
    days.board.silences["s"] = Silence(id="s", labels={"channel": "other"}, since=now, until=now + 1000)
    days.board.shift(jump)
    assert [days.at(now + jump + later, YES) for later in (32, 59, 61)] == [[], [], ["firing"]]
    days.board.shift(-jump)
    assert [days.at(now + later, YES) for later in (63, 660, 662)] == [[], [], ["firing again"]]
    assert days.board.silences and days.at(now + 1001, NO) == ["resolved"] and not days.board.silences


def test_what_is_still_to_come_after_a_restart_was_just_now(tmp_path):
    """Control was not there when the clock was put back by a year."""
    days = Days()
    days.board.silences["s"] = Silence(id="s", labels={"channel": "other"}, since=YEAR, until=YEAR + 100)
    days.at(YEAR, YES)
    assert days.at(YEAR + 10, YES) == []
    kept = written(tmp_path, days.board, [])
    again = Days(Board(kept.alerts, kept.silences))
    assert [again.at(now, YES) for now in (0, 59, 60)] == [[], [], ["firing"]]
    assert again.board.silences and again.at(101, YES) == [] and not again.board.silences


# -- silences ------------------------------------------------------------------------------------------------------------


def silence(until: float, **labels: str) -> Silence:
    return Silence(id="s", labels=labels, since=0, until=until)


@pytest.mark.parametrize(
    ("labels", "covered"),
    [
        ({"channel": "gpu"}, True),
        ({"channel": "g*"}, True),
        ({"kind": "endpoint_down"}, True),
        ({"rule": "endpoint_down", "severity": "critical"}, True),
        ({"endpoint": "http://h:*"}, True),
        ({"channel": "gpu", "endpoint": "http://other"}, False),
        ({"channel": "cpu"}, False),
        ({"model": "*"}, False),
    ],
)
def test_whom_a_silence_covers(labels, covered):
    days = Days()
    days.board.silences["s"] = silence(1000, **labels)
    days.at(0, YES)
    assert days.at(60, YES) == ([] if covered else ["firing"]) and days.state == "firing"


def test_what_still_fires_when_a_silence_ends_is_told_then():
    days = Days()
    days.board.silences["s"] = silence(100, channel="gpu")
    assert [days.at(now, YES) for now in (0, 60, 99)] == [[], [], []] and days.board.firing(99) == []
    assert days.at(100, YES) == ["firing"] and not days.board.silences


def test_what_resolves_in_silence_was_never_told():
    days = Days()
    days.board.silences["s"] = silence(100, channel="gpu")
    assert [days.at(now, found) for now, found in ((0, YES), (60, YES), (70, NO), (110, NO))] == [[], [], [], []]


def test_a_silence_stops_repeats():
    days = Days()
    assert [days.at(0, YES), days.at(60, YES)] == [[], ["firing"]]
    days.board.silences["s"] = silence(2000, kind="endpoint_down")
    assert days.at(1000, YES) == [] and days.at(2001, YES) == ["firing again"]


# -- the file ------------------------------------------------------------------------------------------------------------


def written(tmp_path: Any, board: Board, waiting: list[Waiting]) -> file.Kept:
    file.write(tmp_path, file.encoded(list(board.alerts.values()), list(board.silences.values()), waiting))
    return file.read(tmp_path)


def test_a_restart_neither_forgets_nor_repeats(tmp_path):
    days = Days()
    days.at(0, YES)
    notices = days.board.update([(RULE, YES)], 60)
    days.board.silences["s"] = silence(1000, channel="x")
    kept = written(tmp_path, days.board, [Waiting("ops", notices[0], 60.0)])
    assert kept.waiting[0].notice == Notice(what="firing", alert=notices[0].alert)
    again = Days(Board(kept.alerts, kept.silences))
    assert again.at(61, YES) == [] and again.state == "firing" and again.board.silences.keys() == {"s"}
    assert again.at(90, UNSURE) == [] and again.at(100, NO) == ["resolved"]


def test_pending_goes_on_where_it_was(tmp_path):
    days = Days()
    days.at(0, YES)
    kept = written(tmp_path, days.board, [])
    assert Days(Board(kept.alerts)).at(60, YES) == ["firing"]


def test_only_what_matters_is_written_down():
    days = Days()
    days.at(0, YES)
    assert days.board.changed
    days.board.changed = False
    days.at(1, Found([Condition(HERE, 2.0, "still down")]))
    assert not days.board.changed and next(iter(days.board.alerts.values())).text == "still down"


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}', '{"format": 1, "alerts": [{"id": 7}]}', "[]"])
def test_a_damaged_file_is_put_aside(text, tmp_path):
    (tmp_path / file.NAME).write_text(text)
    assert file.read(tmp_path).alerts == []
    assert (tmp_path / "alerts.bad").read_text() == text and not (tmp_path / file.NAME).exists()


def test_the_file_is_ours_alone(tmp_path):
    written(tmp_path, Board(), [])
    assert (tmp_path / file.NAME).stat().st_mode & 0o777 == 0o600


def test_an_alert_is_small_in_the_file():
    alert = Alert(id="a", rule="r", kind="k", severity="info", labels={}, state="pending", since=1.0)
    assert len(msgspec.json.encode(alert)) < 120
