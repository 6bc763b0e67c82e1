"""Man pages as text: the few words of groff's man macros that our pages need. Knows nothing of commands."""

import inspect
import re
from typing import Final

_SPECIAL: Final = {"\\": "\\(rs", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def plain(text: str) -> str:
    """Text as it is: nothing in it is a command, and a hyphen can be copied."""
    shown = "".join(_SPECIAL.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)
    return f"\\&{shown}" if shown.startswith((".", "\\(aq")) else shown


def bold(text: str) -> str:
    return f"\\fB{plain(text)}\\fR"


def prose(text: str) -> str:
    """Paragraphs; words in backquotes are bold."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n.PP\n".join(_paragraph(" ".join(paragraph.split())) for paragraph in paragraphs if paragraph.strip())


def _paragraph(text: str) -> str:
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backquote alone is one
        return plain(text)
    line = "".join(bold(part) if number % 2 else plain(part) for number, part in enumerate(parts) if part)
    return line if not line.startswith(".") else f"\\&{line}"


def verbatim(text: str) -> str:
    lines = [plain(line) for line in inspect.cleandoc(text).splitlines()]
    return "\n".join([".PP", ".in +4n", ".nf", *lines, ".fi", ".in"])


def items(pairs: list[tuple[str, str]]) -> str:
    """What is explained, and its explanation."""
    return "\n".join(f".TP\n{bold(name)}\n{prose(text) or plain('.')}" for name, text in pairs)


class Page:
    """One man page, section by section."""

    def __init__(self, name: str, section: int, summary: str, version: str) -> None:
        self._lines = [f'.TH "{plain(name.upper())}" "{section}" "" "gateway {plain(version)}" "AI gateway"', ".nh", ".ad l"]
        self.section("NAME", f"{plain(name)} \\- {plain(summary.rstrip('.'))}")

    def section(self, title: str, body: str) -> None:
        if body:
            self._lines += [f'.SH "{plain(title)}"', _no_paragraph_first(body)]

    def part(self, title: str, body: str) -> None:
        """Inside a section."""
        self._lines += [f'.SS "{plain(title)}"', _no_paragraph_first(body)]

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def _no_paragraph_first(body: str) -> str:
    return body.removeprefix(".PP\n")
