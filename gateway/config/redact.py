"""Source lines as they may be shown: secrets are covered with as many stars, so that carets stay where they belong.

Works line by line and without a parser, because lines are shown of files that do not parse.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

SECRET_WORDS: Final = frozenset({"credential", "hash"})
SECRET_MAPS: Final = frozenset({"headers"})
_looks_secret = r"[\w.-]*(?:credential|hash|secret|passw|authori|cookie|api[-_]?key|bearer|token(?!s|izer))[\w.-]*"
_secret_name = re.compile(_looks_secret, re.I)
_block = re.compile(rf"""^(\s*(?:\#\s*)?(?:-\s+)*["']?{_looks_secret}["']?\s*:\s*)(\S.*)$""", re.I)
_flow = re.compile(rf"""(["'{{,\s]{_looks_secret}["']?\s*:\s*)("(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?|[^\s,}}]+(?:[ ]+[^\s,}}]+)*)""", re.I)
_header_map = re.compile(r"""((?<![\w.-])["']?headers["']?\s*:\s*\{)([^}]*)""", re.I)
_tokens = re.compile(
    r"(?<![\w-])(?:sk|gw|hf|ghp|glpat|xox[a-z])[-_][\w-]{8,}|(?<=Bearer )[^\s$\"']+|(?<=://)[^/\s\"']+(?=@)|(?<=sha256:)[0-9a-fA-F]{16,}",
    re.I,
)
_keys = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.S)
_glued = re.compile(rf"({_looks_secret}:)(\S+)", re.I)
_references = re.compile(r"""["']?(?:\$\{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:[^}]*)\}|Bearer |\s)+["']?\s*(?:[},\]].*|\#.*)?$""")
_key = re.compile(r"""^(\s*(?:-\s+)*)["']?([^\s:"'#{\[][^:"']*)["']?\s*:(?:\s|$)""")
_coverable = re.compile(r"""[^\s"',}\]]""")


def covered(lines: Sequence[str]) -> list[str]:
    """All lines of a file, with everything covered that is or looks like a secret."""
    return [_line(line, secret) for line, secret in zip(lines, _secret_lines(lines), strict=True)]


def redact(lines: Sequence[str], number: int) -> str:
    """Line `number` (from 1) alone. For more than a few lines, `covered` is quicker."""
    return _line(lines[number - 1], list(_secret_lines(lines[:number]))[-1])


def sentence(text: str) -> str:
    """A message without what looks like a secret: one in the wrong place is quoted by the message about that place."""
    return _keys.sub("***", _tokens.sub(lambda m: "*" * len(m[0]), text))


def word(text: str) -> str:
    """An unknown word, which may be one with its value: in `credential:abc` only a blank is missing."""
    return _glued.sub(lambda m: m[1] + "*" * len(m[2]), text)


def _secret_lines(lines: Sequence[str]) -> Iterator[bool]:
    """For each line, whether a line above it, less indented, opens a secret's value: `headers:`, `credential: |`."""
    above: list[tuple[int, bool]] = []
    for line in lines:
        bare = line.lstrip()
        if not bare:
            yield False
            continue
        indent = len(line) - len(bare)
        while above and above[-1][0] >= indent:
            above.pop()
        inside = bool(above) and above[-1][1]
        yield inside
        if not bare.startswith("#") and (key := _key.match(line)):
            name = key[2].strip().lower()
            above.append((len(key[1]) if "-" in key[1] else indent, inside or name in SECRET_MAPS or bool(_secret_name.fullmatch(name))))


def _line(line: str, inside: bool) -> str:
    if inside:
        key = _key.match(line)
        return line[: key.end()] + _stars(line[key.end() :]) if key else _stars(line)
    if ":" not in line:
        return sentence(line)
    line = _header_map.sub(lambda m: m[1] + ",".join(_pair(pair) for pair in m[2].split(",")), line)
    line, first = _block.subn(lambda m: m[1] + _stars(m[2]), line)
    if not first:
        line = _flow.sub(lambda m: m[1] + _stars(m[2]), line)
    return sentence(line)


def _stars(text: str) -> str:
    """The text covered; a value that is nothing but a reference to the environment or a file says no secret and stays."""
    return text if _references.match(text) else _coverable.sub("*", text)


def _pair(text: str) -> str:
    name, colon, value = text.partition(":")
    return name + colon + _stars(value) if colon else _stars(text)
