"""`gatewayctl` and `python -m gatewayctl`: what comes before everything else, so that a Ctrl-C meanwhile ends quietly, too."""

import os
import signal
from types import FrameType
from typing import Final, NoReturn

INTERRUPTED: Final = 130


def _quit(number: int, frame: FrameType | None) -> NoReturn:
    """Nothing has been begun, so nothing is to be tidied up; an exception would come out of the middle of some import."""
    os._exit(INTERRUPTED)


def main() -> NoReturn:
    """As `gatewayctl.app.main`, which takes a tenth of a second to import."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is to be ignored, as behind nohup
    if ours:
        signal.signal(signal.SIGINT, _quit)
    from gatewayctl.app import main as begin

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    begin()


if __name__ == "__main__":
    main()
