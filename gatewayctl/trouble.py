"""How a command fails: a sentence for people and an exit code for scripts. Each code means one thing, everywhere."""

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
FORBIDDEN: Final = 4
UNREACHABLE: Final = 5
DEGRADED: Final = 6
UNREADABLE: Final = 65
BAD_CONFIG: Final = 78
INTERRUPTED: Final = 130
READER_GONE: Final = 141
"""128 + SIGPIPE, what a shell reports for any other program whose reader left."""


class Trouble(Exception):
    """A command cannot go on. message: what is wrong. hint: what to do about it."""

    def __init__(self, message: str, hint: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


class Done(Exception):
    """A command ends with an exit code that says something, and everything has been said already."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
