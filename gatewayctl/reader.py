"""Whether anybody still reads stdout, and wants us to. Who only waits writes nothing, and would never hear that `head` has gone."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watched(act: Callable[[], object]) -> Iterator[threading.Event]:
    """The event is set, and then `act` called from a thread, as soon as stdout's reader has gone. A signal, as Ctrl-C is one, calls `act`
    alone: one that comes in the moment before a read that waits for ever would be heard when that ends."""
    gone, over = threading.Event(), threading.Event()
    poll = select.poll()
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stdout, or no file behind it
        poll.register(sys.stdout.fileno(), 0)  # what is told in any case: an error, a hang-up
    with _signals() as (woken, wake):
        poll.register(woken, select.POLLIN)

        def watch() -> None:
            found = [at for at, _ in poll.poll()]
            if not over.is_set():
                if found != [woken]:
                    gone.set()
                act()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield gone
        finally:
            over.set()
            with contextlib.suppress(BlockingIOError):  # it is full, and the thread awake
                os.write(wake, b"\0")
            thread.join()


@contextlib.contextmanager
def _signals() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe into which Python writes of each signal, in the main thread, that it has a handler for."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = None
    with contextlib.suppress(ValueError):  # not the main thread
        before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield woken, wake
    finally:
        if before is not None:
            signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)
