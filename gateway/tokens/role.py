"""The role `tokenizer`: loads one, keeps what was converted, and ends. So that a process that serves need not be held up by it."""

import argparse
from pathlib import Path

from gateway.config.tokenizers import Unusable
from gateway.tokens.vocabulary import load


def main(arguments: list[str]) -> int:
    """0: it can be used. 1: it cannot; why is on stdout."""
    parser = argparse.ArgumentParser(prog="gateway tokenizer")
    parser.add_argument("name")
    parser.add_argument("--folder", type=Path, required=True, help="what a relative name starts from")
    parser.add_argument("--kept", type=Path, required=True, help="where what is converted goes")
    options = parser.parse_args(arguments)
    try:
        load(options.name, options.folder, options.kept)
    except Unusable as bad:
        print(bad)
        return 1
    return 0
