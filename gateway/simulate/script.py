"""A fault script's text → Script. Strict: unknown words are refused, and all mistakes are reported with their place."""

import json
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

import yaml

from gateway.simulate.faults import BARE_TEXT, GARBAGE, OPTIONS, SELECTORS, Fault, Script, Word

Value = object
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_NUMBERS = re.compile(r"(\d+)(?:-(\d*))?")
_NO_END = 1 << 62


class ScriptError(ValueError):
    """The script is wrong; `mistakes` are lines of `file:line:column: what`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load(path: str | Path) -> Script:
    """Read a fault file. Errors: OSError, ScriptError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ScriptError([f"{path}: it is not UTF-8 text"]) from None
    return parse(text, str(path))


def of(*rules: Mapping[str, Value]) -> Script:
    """A script from Python, for tests: `of({"on": 1, "do": "refuse"}, {"share": 0.1, "do": "reset"})`."""
    lines = ",\n".join(json.dumps(rule) for rule in rules)
    return parse(f'{{"faults": [\n{lines}\n]}}', "script")


def parse(text: str, name: str = "script") -> Script:
    """The text of a fault file. Errors: ScriptError with every mistake found."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ScriptError([_plainly(text, name, error)]) from error
    reader = _Reader(name)
    rules = reader.read(root)
    if reader.mistakes:
        raise ScriptError(reader.mistakes)
    return Script(tuple(rules))


def _plainly(text: str, name: str, error: yaml.YAMLError) -> str:
    """The configuration's words for text that is no YAML, where it has some."""
    from gateway.config.compose import BadFile, clean, compose

    try:
        compose(Path(name), clean(text))
    except BadFile as bad:
        return f"{name}:{bad.line}:{bad.column}: {bad.message}" + (f"; {bad.hint}" if bad.hint else "")
    mark = error.problem_mark or error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"{_place(name, mark)}: {str(error).splitlines()[0]}"


def duration(value: Value) -> float:
    """Seconds from `200ms`, `1s`, `2m`, `1.5` or `forever`. Errors: ValueError."""
    if value == "forever":
        return float("inf")
    found = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
    if found is None:
        raise ValueError(f"`{value}` is no duration, write one like 200ms, 10s, 2m or forever")
    return float(found[1]) * _UNIT[found[2]]


def _period(value: Value) -> float:
    """A duration that passes: with two of none an engine would do nothing but come and go."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError(f"`{value}` is too short, write one above 0s")
    return seconds


def _place(name: str, mark: yaml.Mark | None) -> str:
    return name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"


def _numbers(value: Value) -> tuple[range, ...]:
    if isinstance(value, list) and value:
        return tuple(numbers for item in value for numbers in _numbers(item))
    found = None if isinstance(value, bool) else _NUMBERS.fullmatch(str(value))
    if found is None or int(found[1]) < 1 or (found[2] and int(found[2]) < int(found[1])):
        raise ValueError(f"`{value}` names no requests, write a number from 1, a list of them, or a range like 5-8 or 5-")
    first, last = int(found[1]), found[2]
    return (range(first, _NO_END if last == "" else int(last or first) + 1),)


def _whole(least: int) -> Callable[[Value], int]:
    def read(value: Value) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{value}` must be a whole number from {least}")
        return value

    return read


def _share(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"`{value}` is no share, write a number from 0 to 1")
    return float(value)


def _rate(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"`{value}` is no rate, write bytes per second above 0")
    return float(value)


def _status(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
        raise ValueError(f"`{value}` is no status, write a number from 200 to 599")
    return value


def _at(value: Value) -> str:
    if value not in ("headers", "first_event", "mid_stream"):
        raise ValueError(f"`{value}` is no place, write headers, first_event or mid_stream")
    return str(value)


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{value}` must be text")
    return value


def _path(value: Value) -> str:
    if not isinstance(value, str) or not value.startswith(("/", "*")):
        raise ValueError(f"`{value}` is no path, write one like /health or /v1/*")
    return value


def _body(value: Value) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def _headers(value: Value) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"`{value}` must be a mapping of header names to values")
    for name, content in value.items():
        if isinstance(content, bool) or not isinstance(content, str | int | float):
            raise ValueError(f"`{name}` must be text or a number")
        if not f"{name}{content}".isprintable():
            raise ValueError(f"`{name}` holds a line break or another character that no header has")
    return {str(name): str(content) for name, content in value.items()}


_READ: dict[str, tuple[str, Callable[[Value], Value]]] = {
    "on": ("on", _numbers),
    "every": ("every", _whole(1)),
    "share": ("share", _share),
    "path": ("path", _path),
    "at": ("at", _at),
    "after": ("after", _whole(0)),
    "for": ("seconds", duration),
    "text": ("text", _text),
    "status": ("status", _status),
    "body": ("body", _body),
    "headers": ("headers", _headers),
    "rate": ("rate", _rate),
    "up": ("up", _period),
    "down": ("down", _period),
}
"""A word of the file → the field of Fault, and how its value is read."""
_PRESET: dict[Word, dict[str, Value]] = {
    "bare_text": {"text": BARE_TEXT},
    "garbage": {"text": GARBAGE},
    "restart": {"seconds": 1.0},
}
_NEEDED: dict[Word, tuple[str, ...]] = {"status": ("status",)}


class _Reader:
    """Walks the YAML nodes, because only nodes know their lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mistakes: list[str] = []

    def read(self, root: yaml.Node | None) -> list[Fault]:
        if not isinstance(root, yaml.MappingNode):
            return self._wrong(root, "a fault script begins with `faults:` and has a list of rules below it, such as - {on: 1, do: refuse}")
        rules: list[Fault] = []
        self._once(root)
        for key, node in root.value:
            if key.value != "faults":
                self._wrong(key, f"unknown word `{key.value}`{_near(key.value, ['faults'])}")
            elif not isinstance(node, yaml.SequenceNode):
                self._wrong(node, "`faults` is a list of rules")
            else:
                rules += [rule for rule in map(self._rule, node.value) if rule is not None]
        return rules

    def _rule(self, node: yaml.Node) -> Fault | None:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, "a rule is a mapping like {on: 1, do: refuse}")
            return None
        self._once(node)
        words = {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        if "do" not in words:
            self._wrong(node, "a rule needs `do`")
            return None
        said = words["do"][1]
        do = said.value
        if not isinstance(said, yaml.ScalarNode) or do not in OPTIONS:
            self._wrong(said, f"unknown fault `{do}`{_near(do, list(OPTIONS))}" if isinstance(do, str) else "`do` is one word")
            return None
        self._check_selectors(words, do)
        fields = dict(_PRESET.get(do, {}))
        for word, (key, value) in words.items():
            if word != "do":
                self._field(do, word, key, value, fields)
        if do == "stall" and "after" in words and "at" not in words:
            fields["at"] = "mid_stream"
        for word in _NEEDED.get(do, ()):
            if word not in words:
                self._wrong(node, f"`{do}` needs `{word}`")
        return None if self.mistakes else Fault(do=do, **fields)  # type: ignore[arg-type]

    def _once(self, node: yaml.MappingNode) -> None:
        """YAML would silently take the last of two equal words."""
        seen: dict[object, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, "a word is needed here")
            elif key.value in seen:
                self._wrong(key, f"`{key.value}` is written twice, first in line {seen[key.value]}")
            else:
                seen[key.value] = key.start_mark.line + 1
            if isinstance(value, yaml.MappingNode):
                self._once(value)

    def _check_selectors(self, words: Mapping[str, tuple[yaml.Node, yaml.Node]], do: Word) -> None:
        chosen = [word for word in ("on", "every", "share") if word in words]
        if len(chosen) > 1:
            self._wrong(words[chosen[1]][0], f"a rule has one of on, every, share; `{chosen[0]}` stands already")
        if do == "flap" and (chosen or "path" in words):
            self._wrong(words["do"][0], "`flap` goes by the clock, it takes no on, every, share or path")

    def _field(self, do: Word, word: str, key: yaml.Node, value: yaml.Node, fields: dict[str, Value]) -> None:
        allowed = (*SELECTORS, *OPTIONS[do])
        if word not in allowed:
            self._wrong(key, f"unknown word `{word}` for `{do}`{_near(word, [*allowed, 'do'])}")
            return
        name, read = _READ[word]
        try:
            fields[name] = read(_plain(value))
        except ValueError as error:
            self._wrong(value, f"{word}: {error}")
        except (TypeError, RecursionError, yaml.YAMLError):
            self._wrong(value, f"{word}: this is no plain value")

    def _wrong(self, node: yaml.Node | None, what: str) -> list[Fault]:
        self.mistakes.append(f"{_place(self.name, node.start_mark if node else None)}: {what}")
        return []


def _plain(node: yaml.Node) -> Value:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _near(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f", did you mean `{close[0]}`?" if close else f", known: {', '.join(known)}"
