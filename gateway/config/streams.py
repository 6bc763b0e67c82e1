"""The three standard streams of a process, whatever it was started with."""

import os
import sys


def open_streams() -> None:
    """Gives a closed stream (`>&-`, a daemon's way to start) /dev/null: else the file that is opened next takes its place and gets what
    is printed, and Python's own stream is None."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  # it is open as long as the process
