"""Whether anybody still reads stdout. Who only waits writes nothing, and would never hear that `head` has gone."""

import contextlib
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

EVERY: Final = 500
"""Milliseconds after which the thread looks whether it is still needed."""


@contextlib.contextmanager
def watched(act: Callable[[], object]) -> Iterator[threading.Event]:
    """The event is set, and then `act` called from a thread, as soon as stdout's reader has gone."""
    gone, over = threading.Event(), threading.Event()

    def watch(poll: select.poll) -> None:
        while not over.is_set():
            if poll.poll(EVERY):
                gone.set()
                act()
                return

    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stdout, or no file behind it
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # what is told in any case: an error, a hang-up
        threading.Thread(target=watch, args=(poll,), daemon=True).start()
    try:
        yield gone
    finally:
        over.set()
