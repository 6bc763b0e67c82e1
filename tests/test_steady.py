"""The clock on the wall beside the steady one: by how much it was put forward or back. (When it is doubted: test_ledger_proof.py.)"""

import time

import pytest

from gateway.steady import Pace
from gateway.upgrade.handover import Estate


@pytest.mark.parametrize("jump", [86_400.0, -1.8e9, 5.0])
def test_a_jump_is_told_once(jump):
    pace = Pace(1.8e9, 50.0)
    assert pace.jump(1.8e9 + 10, 60.0) == 0
    assert pace.jump(1.8e9 + 20 + jump, 70.0) == jump
    assert pace.jump(1.8e9 + 30 + jump, 80.0) == 0


def test_a_clock_that_is_slewed_does_not_jump():
    pace = Pace(1.8e9, 0.0)
    assert [pace.jump(1.8e9 + 1.01 * second, second) for second in range(0, 1000, 50)] == [0] * 20


def test_no_process_is_older_when_the_clock_was_set(monkeypatch):
    """`gatewayctl status` said: started 20785 days ago."""
    wall, steady = [20.0], [7.0]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    monkeypatch.setattr(time, "monotonic", lambda: steady[0])
    estate = Estate()
    worker = estate.workers[0] = estate.worker(0)
    estate.started = estate.control.since = worker.since = wall[0]
    wall[0], steady[0] = 1.8e9 + 30, 17.0
    told: list[int] = []
    for _ in range(2):
        estate.keep_pace(lambda: told.append(1))
    assert told == [1]
    assert [wall[0] - since for since in (estate.started, estate.control.since, worker.since)] == [10.0] * 3
