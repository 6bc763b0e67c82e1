"""Source lines as they may be shown: secrets are covered with as many stars, so that carets stay where they belong."""

import re
from typing import Final

SECRET_WORDS: Final = frozenset({"credential", "hash"})
SECRET_MAPS: Final = frozenset({"headers"})
_looks_secret = r"[\w.-]*(?:credential|hash|secret|passw|authori|cookie|api[-_]?key|bearer|(?<!max_)token)[\w.-]*"
_block = re.compile(rf"""^(\s*(?:-\s+)?["']?{_looks_secret}["']?\s*:\s*)(\S.*)$""", re.I)
_flow = re.compile(rf"""(["'{{,\s]{_looks_secret}["']?\s*:\s*)("(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?|[^\s,}}]+(?:[ ]+[^\s,}}]+)*)""", re.I)
_header_map = re.compile(r"""(["']?headers["']?\s*:\s*\{)([^}]*)""", re.I)
_tokens = re.compile(r"(?<![\w-])(?:sk|gw|hf|ghp|glpat|xox[a-z])[-_][\w-]{8,}|(?<=Bearer )\S+|(?<=://)[^/\s@\"']+(?=@)", re.I)
_sole_reference = re.compile(r"""["']?(?:\$\{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:[^}]*)\}|Bearer |\s)+["']?\s*(?:#.*)?$""")
_key = re.compile(r"""^(\s*(?:-\s+)*)["']?([^\s:"'#][^:"']*)["']?\s*:(?:\s|$)""")


def stars(text: str) -> str:
    """The text covered; a value that is nothing but a reference to the environment or a file says no secret and stays."""
    if _sole_reference.match(text):
        return text
    return re.sub(r"""[^\s"',}]""", "*", text)


def redact(lines: list[str], number: int) -> str:
    """Line `number` (from 1) with everything covered that is or looks like a secret, in files that parse and in those that do not."""
    line = lines[number - 1]
    if _inside_secret(lines, number):
        key = _key.match(line)
        return line[: key.end()] + stars(line[key.end() :]) if key else stars(line)
    flow = "{" in line
    line = _header_map.sub(lambda m: m[1] + ", ".join(_pair(pair) for pair in m[2].split(", ")), line)
    line = (_flow if flow else _block).sub(lambda m: m[1] + stars(m[2]), line)
    return _tokens.sub(lambda m: "*" * len(m[0]), line)


def _pair(text: str) -> str:
    name, colon, value = text.partition(":")
    return name + colon + stars(value) if colon else stars(text)


def _inside_secret(lines: list[str], number: int) -> bool:
    """Whether a line above, less indented, opens a secret's value (`headers:`, `credential: |`)."""
    line = lines[number - 1]
    depth = len(line) - len(line.lstrip())
    for above in reversed(lines[max(0, number - 200) : number - 1]):
        key = _key.match(above)
        if not above.strip() or key is None or len(above) - len(above.lstrip()) >= depth:
            continue
        depth = len(above) - len(above.lstrip())
        name = key[2].strip().lower()
        if name in SECRET_MAPS or re.fullmatch(_looks_secret, name):
            return True
        if depth == 0:
            return False
    return False
