"""Who only waits hears that nobody reads any more, and that a signal came."""

import os
import signal
import sys
import threading

import pytest

from gatewayctl.reader import watched


class Out:
    """Stands in for stdout: the writing end of a pipe."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fileno(self) -> int:
        return self.writing


@pytest.fixture
def out():
    out = Out()
    yield out
    os.close(out.writing)


def test_a_reader_that_goes_is_heard(out, monkeypatch):
    monkeypatch.setattr(sys, "stdout", out)
    acted = threading.Event()
    with watched(acted.set) as gone:
        assert not acted.wait(0.05) and not gone.is_set()
        os.close(out.reading)
        assert acted.wait(10) and gone.is_set()


def test_a_signal_is_heard_also_while_the_main_thread_does_not_look(out, monkeypatch):
    monkeypatch.setattr(sys, "stdout", out)
    acted = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with watched(acted.set) as gone:
            assert not acted.wait(0.05)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert acted.wait(10) and not gone.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(out.reading)


def test_nothing_is_left_behind(out, monkeypatch):
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for stdout in (out, None):
        monkeypatch.setattr(sys, "stdout", stdout)
        with watched(lambda: pytest.fail("nobody went")):
            pass
    assert threading.active_count() == threads and len(os.listdir("/proc/self/fd")) == files
    assert signal.set_wakeup_fd(-1) == -1
    os.close(out.reading)
