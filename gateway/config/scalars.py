"""What a scalar of the YAML means: durations, sizes, and YAML 1.2's plain words. Never guesses: `no` and `12:30` are text."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar, Final, Self

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
DURATION_PATTERN: Final = r"^(?=[0-9])(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+(?:\.[0-9]+)?s)?(?:[0-9]+ms)?$"
SIZE_PATTERN: Final = r"^[0-9]+(?:\.[0-9]+)?(?:B|[KMGT]i?B)$"
_duration = re.compile(DURATION_PATTERN)
_size = re.compile(SIZE_PATTERN)
_part = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_integer = re.compile(r"[-+]?[0-9]+\Z")
_float = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LONGEST_SECONDS: Final = 3650 * 86400.0
_LARGEST: Final = 2**50
_DIGITS_MOST: Final = 30


class Expanded(str):
    """Text that came out of `${env:…}` or `${file:…}`: it may be read as a number, and it is never shown."""

    __slots__ = ()


class Duration(float):
    """Seconds, remembering how they were written. Always finite, 0 to ten years."""

    __slots__ = ("text",)
    text: str
    example: ClassVar[str] = "30s"

    @classmethod
    def of(cls, text: str) -> Self:
        """`500ms`, `30s`, `1m30s`, `2h`, `1d`. Raises ValueError that says what to write instead."""
        if not _duration.fullmatch(text):
            raise ValueError("is not a duration; write 500ms, 30s, 1m30s, 2h or 1d")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _part.findall(text))
        if seconds > _LONGEST_SECONDS:
            raise ValueError("is longer than ten years")
        made = cls(round(seconds, 6))
        made.text = text
        return made

    def __reduce__(self) -> tuple[Callable[[str], Self], tuple[str]]:
        return type(self).of, (self.text,)


class Size(int):
    """Bytes, remembering how they were written."""

    text: str
    example: ClassVar[str] = "8MiB"

    @classmethod
    def of(cls, text: str) -> Self:
        """`512B`, `64KiB`, `8MiB`, `10MB`. Raises ValueError that says what to write instead."""
        if not _size.fullmatch(text):
            raise ValueError("is not a size; write 512B, 64KiB, 8MiB or 1GiB")
        number, unit = re.findall(r"[\d.]+|[A-Za-z]+", text)
        size = float(number) * _BYTES[unit]
        if size > _LARGEST:
            raise ValueError("is larger than 1024TiB")
        if size != int(size):
            raise ValueError("is not a whole number of bytes")
        made = cls(int(size))
        made.text = text
        return made

    def __reduce__(self) -> tuple[Callable[[str], Self], tuple[str]]:
        return type(self).of, (self.text,)


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration: 90.0 → `1m30s`."""
    left = round(seconds * 1000)
    found = ""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, length)
        found += f"{count}{unit}" if count else ""
    return found or "0s"


def size_text(size: int) -> str:
    """The shortest exact way to write a size: 8388608 → `8MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def plain(text: str) -> Any:
    """What an unquoted scalar is in YAML 1.2's core schema: null, true, false, a decimal number, or text.

    `no`, `on`, `12:30:00`, `0x1f`, `0o17`, `1_000` and `.inf` are text; `010` is ten.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "0123456789+-." and len(text) <= _DIGITS_MOST:
        if _integer.match(text):
            return int(text)
        if _float.match(text):
            return float(text)
    return text


def decimal_text(amount: Decimal) -> str:
    """`2.5`, never `25E-1`."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
