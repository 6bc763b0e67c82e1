"""What a command is given in a file or on stdin, and no more of it than it can use: `/dev/zero` has no end."""

import sys

from gatewayctl.trouble import Trouble


def given(file: str, most: int, hint: str = "") -> bytes:
    """The bytes of a file (a pipe, too; `-`: stdin). Raises Trouble when it cannot be read, or has more than `most`: then with the hint."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(file, "rb") as opened:
                data = opened.read(most + 1)
    except OSError as error:
        raise Trouble(f"{file or repr(file)} cannot be read: {error.strerror or error}") from error
    if len(data) > most:
        raise Trouble(f"{called(file)} is larger than {most // 2**20} MiB", hint)
    return data


def called(file: str) -> str:
    """The name that people know it by."""
    return "stdin" if file == "-" else file
