"""Anomalies: a short deterministic version of bench/anomalies.py, and what single hours of made-up weeks are."""

import random
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gateway.alert.anomaly import DAY, SENSITIVITIES, WEEK, Baseline

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
anomalies: Any = import_module("anomalies")

END = 10 * WEEK + 2 * DAY + 12
"""A Wednesday, noon."""


def usual(hour: int) -> float:
    """Busy from 8 to 20 on working days."""
    busy = 8 <= hour % DAY < 20 and (hour // DAY) % 7 < 5
    return 10_000.0 if busy else 1_000.0


def made(until: int = END, noise: float = 0.1, **changed: float) -> list[float | None]:
    """Hours up to `until`; changed: `h3` = the factor of the third hour before the last one."""
    luck = random.Random(7)
    hours: list[float | None] = [usual(hour) * luck.lognormvariate(0, noise) for hour in range(until + 1)]
    for name, factor in changed.items():
        at = until - int(name[1:])
        hours[at] = usual(at) * factor
    return hours


def judged(hours: Sequence[float | None], sensitivity: str = "normal", *, least: float = 100.0, whole: bool = True) -> str:
    verdict = Baseline(hours, least).judge(len(hours) - 1, sensitivity, whole=whole)
    return verdict.kind if verdict else ""


def test_on_a_synthetic_half_year_most_are_found_in_two_hours_and_few_alarms_are_false():
    tenants = anomalies.fleet(11, tenants=3, hours=26 * WEEK, anomalies=10)
    score = anomalies.measure(tenants, "normal")
    assert score.found + score.missed == 30
    assert score.precision >= 0.9 and score.recall >= 0.8 and max(score.delays) <= 2
    low, high = (anomalies.measure(tenants, sensitivity) for sensitivity in ("low", "high"))
    assert low.precision >= score.precision and high.recall >= score.recall


@pytest.mark.parametrize(
    ("factor", "found"),
    [(1.0, ""), (1.5, ""), (5.0, "spike"), (20.0, "spike"), (0.02, "drop"), (0.0, "drop"), (0.6, "")],
)
def test_an_hour(factor, found):
    assert judged(made(h0=factor)) == found


def test_sensitivity_is_what_it_says():
    cases = (("low", 3.0), ("normal", 3.0), ("normal", 2.0), ("high", 2.0))
    assert [judged(made(h0=factor), sensitivity) for sensitivity, factor in cases] == ["", "spike", "", "spike"]
    assert SENSITIVITIES["low"].times > SENSITIVITIES["normal"].times > SENSITIVITIES["high"].times


def test_less_than_two_weeks_say_nothing():
    assert judged(made(WEEK + 60, h0=50.0)) == "" and judged(made(3 * WEEK + 60, h0=50.0)) == "spike"


def test_small_figures_are_no_anomaly_however_large_the_factor():
    hours: list[float | None] = [1.0 if value else 0.0 for value in made()]
    hours[-1] = 50.0
    assert judged(hours, least=1000.0) == ""


def test_a_quiet_hour_has_to_be_loud_in_absolute_terms():
    night = END + 12  # midnight
    assert judged(made(night, h0=1.5)) == "" and judged(made(night, h0=20.0)) == "spike"


def test_missing_hours_are_no_drop_and_do_no_harm():
    hours = made(h0=5.0)
    for at in range(0, len(hours) - 1, 5):
        hours[at] = None
    assert judged(hours) == "spike"
    assert judged([*hours[:-1], None]) == ""
    assert judged([None] * END) == "" and judged([0.0] * END) == "" and judged([*[0.0] * 4 * WEEK, 5.0]) == ""


def test_of_an_hour_that_goes_on_only_a_spike_can_be_told():
    assert judged(made(h0=0.0), whole=False) == "" and judged(made(h0=5.0), whole=False) == "spike"


def test_an_outage_in_a_working_day_is_a_drop_and_a_holiday_is_none():
    assert judged(made(h0=0.01, h1=0.01)) == "drop"
    holiday = made(h0=0.1, h1=0.1, h2=0.1, h3=0.1, h4=0.1)
    assert judged(holiday) == "", "it has been like a Sunday since it began"


def test_growth_is_no_anomaly():
    hours: list[float | None] = [value and value * 1.15 ** (at / WEEK) for at, value in enumerate(made())]
    assert judged(hours) == "" and judged([*hours[:-1], (hours[-1] or 0) * 5]) == "spike"


def test_a_level_that_lasts_becomes_the_new_normal_within_a_day():
    hours = made(END + 3 * DAY)
    for at in range(END, len(hours)):
        hours[at] = (hours[at] or 0) * 4
    baseline = Baseline(hours, 100.0)
    odd = [at - END for at in range(END - 24, len(hours)) if baseline.judge(at)]
    assert odd and odd[0] == 0 and max(odd) < DAY


def test_earlier_anomalies_are_not_learnt():
    hours = made(h0=5.0)
    for week in (1, 2):
        hours[END - week * WEEK] = 1e6
    assert judged(hours) == "spike"


def test_only_the_past_counts():
    hours = made()
    later = [*hours, *[1e9] * 500]
    assert Baseline(later).judge(END) == Baseline(hours).judge(END)
