"""Mistakes as an operator reads them: the sentence, file:line:col, the line, a caret, what was probably meant. No pydantic."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from gateway.errors import ConfigError as ConfigError
from gateway.errors import Mistake as Mistake

SHOWN_MOST: Final = 100
WIDTH: Final = 160
_token = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|\$\{[^}]*\}|[^\s,:\[\]{}#"']+(?::[^\s,\[\]{}#"']+)*|.)""")
_RED, _BLUE, _BOLD, _PLAIN = "\x1b[1;31m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"


def render(mistakes: Sequence[Mistake], color: bool = False) -> str:
    """All mistakes, each in the shape that compilers use; at most 100. Ends with a newline unless there is none."""
    parts = [_one(mistake, color) for mistake in mistakes[:SHOWN_MOST]]
    if len(mistakes) > SHOWN_MOST:
        parts.append(f"… and {len(mistakes) - SHOWN_MOST} more mistakes\n")
    return "\n".join(parts)


def place(mistake: Mistake) -> str:
    """`file:line:col`, or the file alone for a mistake of the file as a whole."""
    return f"{mistake.file}:{mistake.line}:{mistake.column}" if mistake.line else mistake.file


def _one(mistake: Mistake, color: bool) -> str:
    red, blue, bold, plain = (_RED, _BLUE, _BOLD, _PLAIN) if color else ("", "", "", "")
    where = f" in {mistake.path}" if mistake.path else ""
    lines = [f"{red}error{plain}{bold}: {clean(mistake.message)}{clean(where)}{plain}"]
    gutter = " " * len(str(mistake.line or 0))
    lines.append(f"{gutter} {blue}-->{plain} {clean(place(mistake))}")
    if mistake.source is None or not mistake.line:
        lines += [f"{gutter}  {blue}={plain} {clean(mistake.hint)}"] if mistake.hint else []
        return "\n".join(lines) + "\n"
    text, column = cut(mistake.source, mistake.column)
    caret = _indent(text[: column - 1]) + red + "^" * _span(text[column - 1 :]) + plain
    lines.append(f"{gutter} {blue} |{plain}")
    lines.append(f"{blue} {mistake.line} |{plain} {clean(text)}")
    lines.append(f"{gutter} {blue} |{plain} {caret}{' ' + clean(mistake.hint) if mistake.hint else ''}")
    return "\n".join(lines) + "\n"


def cut(source: str, column: int) -> tuple[str, int]:
    """A long line cut around its caret, and the caret's column in what is left."""
    if len(source) <= WIDTH:
        return source, min(column, len(source) + 1)
    start = max(0, min(column - 1 - WIDTH // 2, len(source) - WIDTH))
    text = source[start : start + WIDTH]
    front = "…" if start else ""
    back = "…" if start + WIDTH < len(source) else ""
    return front + text + back, column - start + len(front)


def clean(text: str) -> str:
    """Text without what could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)


def _span(rest: str) -> int:
    found = _token.match(rest)
    return max(1, sum(_wide(c) for c in found[0])) if found else 1


def _indent(before: str) -> str:
    return "".join("\t" if c == "\t" else " " * _wide(c) for c in before)


def _wide(character: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
