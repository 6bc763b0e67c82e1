"""The role `records`: `gateway records JOURNAL NUMBER` prints the newest records of a journal that no control answers for."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.meter.records import Records


def main(argv: Sequence[str]) -> int:
    """One record a line, the oldest first. 1 when the folder cannot be read."""
    parser = argparse.ArgumentParser(prog="gateway records")
    parser.add_argument("journal", type=Path)
    parser.add_argument("number", type=int)
    options = parser.parse_args(argv)
    try:
        options.journal.stat()
        found = Records(options.journal).newest(options.number)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    for record in found:
        print(json.dumps(record, ensure_ascii=False))
    return 0
