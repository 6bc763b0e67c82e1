"""Prints data on stdout: tables for people, JSON, YAML and CSV for programs. The only module that knows rich, and only for tables."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.config.report import clean
from gatewayctl.session import Session

STYLES: Final = {
    "green": "up serving ok closed yes true running active resolved agrees".split(),
    "yellow": "starting draining busy unknown degraded disabled pending silenced note restarted incomplete uncertain".split(),
    "bold red": "down hung ejected wedged failed refused no lost false unreachable expired frozen firing wrong bypassed missing".split(),
}
WORD: Final = 12
"""Characters of a text that are not folded, where its words are as long."""
_style_of: Final = {word: style for style, words in STYLES.items() for word in words}


@dataclass(frozen=True, slots=True)
class Column:
    """title: the heading, and the name in CSV. of: the cell of an item, as text, number or None. wide: width when rows come one by one.
    csv: the cell for programs, where `of` is rounded, counts from now or has a unit."""

    title: str
    of: Callable[[Mapping[str, Any]], Any]
    align: Literal["left", "right"] = "left"
    wide: int = 12
    colored: bool = False
    csv: Callable[[Mapping[str, Any]], Any] | None = None

    def cell(self, session: Session, item: Mapping[str, Any]) -> Any:
        """As it is printed."""
        return (self.csv or self.of)(item) if session.output == "csv" else self.of(item)


def items(session: Session, found: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str = "") -> None:
    """A list. Programs get everything that is known of each item, people the columns; an empty list is `[]`, never nothing."""
    if session.output == "csv":
        _csv([column.title for column in columns], ([column.cell(session, item) for column in columns] for item in found))
    elif session.machine:
        data(session, list(found))
    elif found:
        print(table(session, found, columns))
    elif empty:
        session.say(empty)


def data(session: Session, value: Any, fields: Sequence[str] = ()) -> None:
    """Any value as JSON or YAML; as CSV with one column per field. fields: the header of CSV where there is no row to take it from."""
    if session.output == "yaml":
        sys.stdout.write(as_yaml(value))
    elif session.output == "csv":
        rows = value if isinstance(value, list) else [value]
        flat = [dict(_flat(row)) for row in rows]
        titles = list(dict.fromkeys(name for row in flat for name in row)) or list(fields)
        _csv(titles, ([row.get(title) for title in titles] for row in flat if titles))
    else:
        print(as_json(value, indent=2))


_STEERS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""What a terminal might obey. Models and other words that callers write may hold it."""


def as_json(value: Any, indent: int | None = None) -> str:
    """As it reads back. Python escapes what is below a blank; of what is left, only texts can hold any."""
    return _STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=indent, ensure_ascii=False))


def as_yaml(value: Any) -> str:
    """As it reads back, by YAML 1.2 (and so by us) as well as by 1.1: `1e3`, a number in only one of them, is quoted when it is text."""
    import yaml

    from gateway.config.scalars import plain

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, said: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", said, style=None if isinstance(plain(said), str) else "'")

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)


def table(session: Session, found: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """The lines of a table. Into a pipe it is as wide as it needs to be. On a terminal texts may be folded, numbers never: half of one
    reads as another. So a narrow one has no bars, and where that does not help each item is a paragraph."""
    cells = [[text_of(column.of(item)) for column in columns] for item in found]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if room is not None and _needs(columns, cells) > room:
        kept = [place for place, column in enumerate(columns) if column.title]
        columns, cells = [columns[place] for place in kept], [[row[place] for place in kept] for row in cells]
        if _needs(columns, cells) > room:
            return _paragraphs(session, columns, cells)
    return _drawn(session, columns, cells, room)


def _drawn(session: Session, columns: Sequence[Column], cells: Sequence[Sequence[str]], room: int | None) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colored = session.colored(sys.stdout)
    console = Console(
        color_system="standard" if colored else None,
        no_color=not colored,
        force_terminal=colored,
        width=room or 10_000,
        highlight=False,
    )
    drawn = Table(box=None, pad_edge=False, header_style="bold" if colored else "")
    for place, column in enumerate(columns):
        least = _least(column, [row[place] for row in cells]) if room else None
        drawn.add_column(column.title.upper(), justify=column.align, no_wrap=room is None, overflow="fold", min_width=least)
    for row in cells:
        styled = zip(row, columns, strict=True)
        drawn.add_row(*[Text(text, style=style_of(text) if column.colored else "") for text, column in styled])
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _least(column: Column, texts: Sequence[str]) -> int:
    """Characters that a column cannot do without: of numbers and bars all, of a text the longest word up to `WORD`."""
    words = [word for text in texts for word in text.split()]
    longest = max(map(width_of, (*column.title.split(), "", *words)))
    return max(longest, *map(width_of, texts), 1) if column.align == "right" or not column.title else min(WORD, longest)


def _needs(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> int:
    return sum(_least(column, [row[place] for row in cells]) + 2 for place, column in enumerate(columns)) - 2


def _paragraphs(session: Session, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """Each item by itself, one field a line."""
    most = max(width_of(column.title) for column in columns)
    found = []
    for row in cells:
        lines = [
            f"{paint(session, column.title.upper().ljust(most), 'bold')}  {paint(session, text, style_of(text) if column.colored else '')}"
            for column, text in zip(columns, row, strict=True)
            if text.strip()
        ]
        found.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(found)


def width_of(text: str) -> int:
    """Characters of a terminal: of Chinese two each."""
    from rich.cells import cell_len

    return cell_len(text)


def facts(session: Session, pairs: Iterable[tuple[str, Any]], indent: int = 0) -> None:
    """Name and value, one a line; None is left out."""
    shown = [(name, text_of(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        print(f"{' ' * indent}{paint(session, name.ljust(width), 'dim')}  {text}".rstrip())


class Rows:
    """Items one by one, as they come: lines of fixed width for people, one object a line for programs."""

    def __init__(self, session: Session, columns: Sequence[Column]) -> None:
        self._session = session
        self._columns = columns
        self._headed = False

    def add(self, item: Mapping[str, Any]) -> None:
        if self._session.output == "json":
            print(as_json(item), flush=True)
        elif self._session.output == "yaml":
            print("---\n" + as_yaml(dict(item)), end="", flush=True)
        else:
            self._line([column.cell(self._session, item) for column in self._columns])

    def _line(self, cells: list[Any]) -> None:
        titles = [column.title for column in self._columns]
        if self._session.output == "csv":
            _csv([] if self._headed else titles, [cells])
        else:
            if not self._headed:
                print(paint(self._session, self._padded([title.upper() for title in titles]), "bold"))
            print(self._padded([text_of(cell) for cell in cells]), flush=True)
        self._headed = True

    def _padded(self, texts: list[str]) -> str:
        pairs = zip(texts, self._columns, strict=True)
        return "  ".join(text.rjust(column.wide) if column.align == "right" else text.ljust(column.wide) for text, column in pairs).rstrip()


def text_of(value: Any) -> str:
    """A cell: `-` for nothing, words for truth, nothing that could steer a terminal."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(part) for part in value) or "-"
    return clean(str(value)).replace("\t", " ")  # tables do not reckon with a tab's width, and cut the rest off


def style_of(text: str) -> str:
    return _style_of.get(text.split(" ")[0].lower(), "")


_CODES: Final = {"bold": "1", "dim": "2", "green": "32", "yellow": "33", "bold red": "1;31", "": "0"}


def paint(session: Session, text: str, style: str) -> str:
    """Text in a colour, if stdout shall have any."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and session.colored(sys.stdout) else text


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{name}.")
        elif isinstance(part, list):
            groups = any(isinstance(item, Mapping | list) for item in part)
            yield f"{prefix}{name}", json.dumps(part, ensure_ascii=False) if groups else ";".join(map(text_of, part))
        else:
            yield f"{prefix}{name}", part


_formula: Final = re.compile(r"[=@\t\r]|[+-](?![-A-Z]?\Z|[\d.]+%?\Z)")
"""What a spreadsheet takes for a formula: a caller who asks for the model `=HYPERLINK(…)` must not reach the accountant. Numbers and ends
(`--`, `-D`) are none."""


class _Lines:
    """Ends lines of CSV with a line feed alone. The writer is told of both, so that it quotes a cell that holds either of them."""

    END: Final = "\r\n"

    def write(self, line: str) -> None:
        sys.stdout.write(line.removesuffix(self.END) + "\n")


def _csv(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import csv

    out = csv.writer(_Lines(), lineterminator=_Lines.END)
    if titles:
        out.writerow(titles)
    for row in rows:
        out.writerow([_csv_cell(cell) for cell in row])
    sys.stdout.flush()


def _csv_cell(cell: Any) -> Any:
    """Truth as in JSON, a list with `;` between, and what steers a terminal as tables write it."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    text = ";".join(map(str, cell)) if isinstance(cell, list | tuple) else cell
    if not isinstance(text, str):
        return text
    text = _STEERS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return f"'{text}" if _formula.match(text) else text


def without_guard(text: str) -> str:
    """A cell of our own CSV as it was."""
    return text[1:] if text.startswith("'") and _formula.match(text[1:]) else text
