"""`${env:NAME}`, `${env:NAME:-default}`, `${file:/path}` in a text; `$${` is a literal `${`. Says what is wrong, never a value."""

import codecs
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_reference = re.compile(r"\$\$\{|\$\{([^}]*)(\})?")
_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
CREDENTIALS: Final = "/run/credentials/"
"""Files there are made by systemd for one unit, are out of reach for every other one that is shut in, and go when it stops."""
FILE_MOST: Final = 1024 * 1024
WITHOUT_BOM: Final = "save it as UTF-8 without BOM"
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class ExpandError(ValueError):
    """A reference that leads nowhere. `at` is its offset in the text, `hint` what may help."""

    def __init__(self, message: str, at: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.at = at
        self.hint = hint


def expand(text: str, environ: Mapping[str, str], folder: Path, used: Callable[[Path], None] = lambda path: None) -> str:
    """`text` with each reference replaced. Relative files are relative to `folder`; `used` hears of each file. Raises ExpandError."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[2] is None:
            raise ExpandError("`${` is never closed", match.start(), "write $${ for a literal ${")
        kind, _, rest = match[1].partition(":")
        if kind == "env":
            return _env(rest, environ, match.start())
        if kind == "file" and rest:
            path = folder / rest
            used(path)
            return _file(path, match.start())
        raise ExpandError(
            f"${{{_shown(match[1])}}} is not a reference",
            match.start(),
            "write ${env:NAME}, ${env:NAME:-default}, ${file:/path}; $${ for a literal ${",
        )

    return _reference.sub(value, text)


def _env(rest: str, environ: Mapping[str, str], at: int) -> str:
    name, has_default, default = rest.partition(":-")
    if not _name.match(name):
        raise ExpandError(f"${{env:{_shown(rest)}}} names no variable", at, "write ${env:NAME} or ${env:NAME:-default}")
    if (found := environ.get(name)) is not None and (found or not has_default):
        return found
    if has_default:
        return default
    raise ExpandError(
        f"the environment variable {name} is not set", at, f"set it in the service's environment, or write ${{env:{name}:-default}}"
    )


def _file(path: Path, at: int) -> str:
    data = b""
    try:
        data = read_small(path)
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ExpandError(f"{path} is not UTF-8 text", at, WITHOUT_BOM if data.startswith(_UTF_16) else None) from None
    except OSError as error:
        hint = "systemd makes it as the unit starts (LoadCredential=); only then is it there" if str(path).startswith(CREDENTIALS) else None
        raise ExpandError(f"{path}: {why(error)}", at, hint) from None
    if text.startswith("\ufeff"):
        raise ExpandError(f"{path} begins with a byte order mark, which would be part of the value", at, WITHOUT_BOM)
    if "\0" in text:
        raise ExpandError(f"{path} holds the character U+0000", at, "is it the right file?")
    return text


def read_small(path: Path, most: int = FILE_MOST) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises OSError; never waits for a pipe's other end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise OSError("it is not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(f"it is larger than {most // 1024 // 1024} MiB")
    return data


def why(error: OSError) -> str:
    """An OSError in plain words."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a directory, not a file"
        case PermissionError():
            return "permission denied"
        case _:
            return error.strerror.lower() if error.strerror else str(error) or type(error).__name__


def _shown(text: str) -> str:
    """A reference as written is no secret, but a slip may have put one inside: at most its first word."""
    word = re.split(r"[^A-Za-z_]", text[:24])[0]
    return text if word == text else f"{word}…"
