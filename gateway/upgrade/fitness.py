"""The role `fit`: may this version take over from the one that runs? Asked by the running supervisor before it becomes this one; by an
installation only whether it can read what is there.

It changes nothing. That it starts at all is half of the answer.
"""

import argparse
import sys
from pathlib import Path

from gateway.config.load import load
from gateway.config.report import render
from gateway.config.revisions import Revisions
from gateway.errors import ConfigError
from gateway.upgrade.formats import Newer, check
from gateway.upgrade.handover import FITS, HANDOVER


def objection(config: Path, data_dir: Path, handover: int | None) -> str:
    """Why not, in a sentence; empty: it may. handover: None = nobody runs, or that is asked later."""
    if handover not in (None, HANDOVER):
        return f"its processes cannot be taken over (handover {handover}, this version knows {HANDOVER}): restart the service instead"
    try:
        check(data_dir)
        if handover is not None and Revisions(data_dir).current() is None:
            load(config)
    except Newer as newer:
        return str(newer)
    except ConfigError as error:
        return f"what is served now cannot be read by this version, and the files have mistakes: {render(error.mistakes)}"
    return ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gateway fit")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--handover", type=int)
    options = parser.parse_args(arguments)
    why = objection(options.config, options.data_dir, options.handover)
    print(why or FITS, file=sys.stderr if why else sys.stdout)
    return 1 if why else 0
