"""Source lines as they may be shown: secrets are covered with as many stars, so that carets stay where they belong.

Works line by line and without a parser, because lines are shown of files that do not parse.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

SECRET_WORDS: Final = frozenset({"credential", "hash"})
SECRET_MAPS: Final = frozenset({"headers", "sinks"})
_HOST_IS_PLAIN: Final = ("http", "https", "json", "jsons", "form", "forms", "xml", "xmls")
NOBODY: Final[frozenset[str]] = frozenset()
_looks_secret = r"[\w.-]*(?:credential|hash|secret|passw|authori|cookie|api[-_]?key|bearer|token(?!s|izer))[\w.-]*"
_secret_name = re.compile(_looks_secret, re.I)
_block = re.compile(rf"""^(\s*(?:\#\s*)?(?:-\s+)*["']?{_looks_secret}["']?\s*:\s*)(\S.*)$""", re.I)
_flow = re.compile(rf"""(["'{{,\s]{_looks_secret}["']?\s*:\s*)("(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?|[^\s,}}]+(?:[ ]+[^\s,}}]+)*)""", re.I)
_map = re.compile(r"""((?<![\w.-])["']?(?:headers|sinks)["']?\s*:\s*\{)((?:[^{}]|\{[^{}]*\})*)""", re.I)
_tokens = re.compile(
    r"(?<![\w-])(?:sk|gw|hf|ghp|glpat|xox[a-z])[-_][\w-]{8,}|(?<=Bearer )[^\s$\"']+|(?<=://)[^/\s\"']+(?=@)|(?<=sha256:)[0-9a-fA-F]{16,}",
    re.I,
)
_wordlike = re.compile(r"[A-Za-z]{1,12}\d{0,3}|\d{1,4}[A-Za-z]{0,2}")
_port = re.compile(r"""(://(?:[^/\s"'@]*@)?(?:\[[^\]\s]*\]|\$\{[^}]*\}|[^/\s"':@\[$])*:)(?!\d{1,5}(?!\w)|\$\{)([^/\s"',\]}]+)""")
_service = re.compile(r"""(?<![\w+.-])((?!https?:|rediss?:|postgres)[a-z][a-z0-9+.-]{1,20}://)([^\s"'{}]+)""", re.I)
_hook = re.compile(r"""(https?://[^\s"'?]*?/(?:services|hooks?|webhooks?)/|https?://[^\s"'?]+\?)([^\s"'{}]+)""", re.I)
"""URLs of chat services: whoever has one may write there."""
_keys = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.S)
_glued = re.compile(rf"({_looks_secret}:)(\S+)", re.I)
_references = re.compile(r"""["']?(?:\$\{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:[^}]*)\}|Bearer |\s)+["']?\s*(?:[},\]].*|\#.*)?$""")
_key = re.compile(r"""^(\s*(?:-\s+)*)["']?([^\s:"'#{\[][^:"']*)["']?\s*:(?:\s|$)""")
_condition = re.compile(r"""\bwhen["']?\s*:.*\bheaders\b""")
_coverable = re.compile(r"""[^\s"',}\]]""")


def covered(lines: Sequence[str], names: frozenset[str] = NOBODY) -> list[str]:
    """All lines of a file, with everything covered that is or looks like a secret. names: what `only_names` gave."""
    return [_line(line, secret, condition, names) for line, (secret, condition) in zip(lines, _secret_lines(lines), strict=True)]


def looks_secret(name: str) -> bool:
    """Whether what stands under this name is a secret, wherever it is: `authorization`, `x-api-key`."""
    return _secret_name.fullmatch(name) is not None


def sentence(text: str, names: frozenset[str] = NOBODY) -> str:
    """A message without what looks like a secret: one in the wrong place is quoted by the message about that place."""
    text = _tokens.sub(lambda m: m[0] if m[0] in names else "*" * len(m[0]), text)
    text = _hook.sub(_after, _service.sub(_after, text))
    return _keys.sub("***", _port.sub(lambda m: m[1] + "*" * len(m[2]), text))


def pieces_of(url: str) -> set[str]:
    """What a service's URL is made of, and may turn up alone: tokens, passwords, addresses. Of a webhook without its host."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2] if scheme.lower() in _HOST_IS_PLAIN else ""
    return set(re.split(r"[/:@?&=#,+\s]+", rest.replace(host, "", 1) if host else rest)) - {""}


def _after(found: re.Match[str]) -> str:
    return found[1] + _coverable.sub("*", found[2])


def only_names(names: Iterable[str]) -> frozenset[str]:
    """Of the names in a configuration, what begins like a token but is made of words and short numbers: `hf-llama-70b`."""
    found = (match[0] for name in names for match in _tokens.finditer(name))
    return frozenset(token for token in found if all(_wordlike.fullmatch(piece) for piece in re.split("[-_]", token)))


def word(text: str) -> str:
    """An unknown word, which may be one with its value: in `credential:abc` only a blank is missing."""
    return _glued.sub(lambda m: m[1] + "*" * len(m[2]), text)


def _secret_lines(lines: Sequence[str]) -> Iterator[tuple[bool, bool]]:
    """For each line, whether a line above it, less indented, opens a secret's value: `headers:`, `credential: |`; and whether one is
    `when:`, below which headers are conditions."""
    above: list[tuple[int, bool]] = []
    when: list[int] = []
    """Indents of the `when:` above."""
    for line in lines:
        bare = line.lstrip()
        if not bare:
            yield False, False
            continue
        indent = len(line) - len(bare)
        while above and above[-1][0] >= indent:
            above.pop()
        inside = bool(above) and above[-1][1]
        while when and when[-1] >= indent:
            when.pop()
        yield inside, bool(when)
        if not bare.startswith("#") and (key := _key.match(line)):
            name = key[2].strip().lower()
            if name == "when":
                when.append(indent)
            elif name in SECRET_MAPS and when:
                continue
            above.append((len(key[1]) if "-" in key[1] else indent, inside or name in SECRET_MAPS or bool(_secret_name.fullmatch(name))))


def _line(line: str, inside: bool, condition: bool, names: frozenset[str]) -> str:
    if inside:
        key = _key.match(line)
        return line[: key.end()] + _stars(line[key.end() :]) if key else _stars(line)
    if ":" not in line:
        return sentence(line, names)
    if not condition and not _condition.search(line):  # a rule's conditions on headers are no secrets
        line = _map.sub(lambda m: m[1] + ",".join(_pair(pair) for pair in m[2].split(",")), line)
    line, first = _block.subn(lambda m: m[1] + _stars(m[2]), line)
    if not first:
        line = _flow.sub(lambda m: m[1] + _stars(m[2]), line)
    return sentence(line, names)


def _stars(text: str) -> str:
    """The text covered; a value that is nothing but a reference to the environment or a file says no secret and stays."""
    return text if _references.match(text) else _coverable.sub("*", text)


def _pair(text: str) -> str:
    name, colon, value = text.partition(":")
    bare = value.lstrip()
    return name + colon + value[: len(value) - len(bare)] + _stars(bare) if colon else _stars(text)
