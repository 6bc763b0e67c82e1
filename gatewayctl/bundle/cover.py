"""The one function that everything in a support bundle goes through: what is secret, or looks like it, is covered.

Covered are values that the configuration, its references and the environment keep secret, wherever they turn up; whatever stands behind a
secret's name; what looks like a key, a token or a password in a URL. What callers chose themselves becomes a pseudonym, the same for
the same text within one bundle.
"""

import base64
import hmac
import json
import re
import secrets as randomness
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import ahocorasick  # type: ignore[import-not-found]  # a C module without types

from gateway.config.redact import NOBODY, covered, sentence

COVERED: Final = "***"
SHORTEST: Final = 4
"""Characters of a value that is looked for everywhere; shorter ones would cover half of every text."""

_name: Final = r"[\w.-]*(?:credential|secret|passw|authori[sz]ation|cookie|api[-_]?key|private[-_]?key|bearer|hash|token(?!s|iz))[\w.-]*"
_secret_name: Final = re.compile(_name, re.I)
_value: Final = r"""\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|(?:(?:Bearer|Basic|Digest)\s+)?[^\s,;&"'}\]\\]+"""
_assigned: Final = re.compile(rf"""(\b{_name}(?:\\?["'])?\s*[=:]\s*)({_value})""", re.I)
_scheme: Final = re.compile(r"\b(Bearer|Basic|Digest)\s+[^\s\"',;]{4,}", re.I)
_jwt: Final = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.?[\w-]*")
_userinfo: Final = re.compile(r"(?<=://)[^/\s\"'@]+@")
_pem: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
_sha: Final = re.compile(r"\b(sha256:)?([0-9a-fA-F]{8})[0-9a-fA-F]{32,}\b")
_note: Final = re.compile(r"""^(\s*(?:-\s+)?["']?(?:label|meta)["']?\s*:\s*)(.*)$""")
_notes: Final = re.compile(r"""(\b(?:label|meta)["']?\s*:\s*)(\{[^}]*\}?|"(?:[^"\\]|\\.)*"?|'[^']*'?|[^,}]+)""")
_unit: Final = re.compile(r"^(\s*Environment=\s*\"?[\w]+=).*$", re.M)


class Cover:
    """One bundle's. known: secrets by value. names: of the configuration, that look like a token and are none."""

    def __init__(self, known: Iterable[str], names: frozenset[str] = NOBODY) -> None:
        self._known = ahocorasick.Automaton()  # thousands of values in one pass
        for secret in known:
            if len(secret) >= SHORTEST:
                for form in _forms(secret):
                    self._known.add_word(form, len(form))
        self._known.make_automaton()
        self._names = names
        self._salt = randomness.token_bytes(16)

    def text(self, text: str) -> str:
        """Any text."""
        text = _pem.sub(COVERED, self._without_known(text))
        text = _unit.sub(lambda m: m[1] + COVERED, text)
        text = _assigned.sub(lambda m: m[1] + _quoted(m[2]), text)
        text = _scheme.sub(lambda m: f"{m[1]} {COVERED}", text)
        text = _userinfo.sub(f"{COVERED}@", _jwt.sub(COVERED, text))
        text = _sha.sub(lambda m: f"{m[1] or ''}{m[2]}…", text)
        return "\n".join(sentence(line, self._names) for line in text.split("\n"))

    def _without_known(self, text: str) -> str:
        """Where values overlap, all of what they cover is covered."""
        parts, done, begin, end = [], 0, 0, 0
        for last, length in sorted(self._known.iter(text), key=lambda found: found[0] - found[1]) if len(self._known) else ():
            start = last + 1 - length
            if start > end:
                parts += [text[done:begin], COVERED] if end else []
                done, begin = end, start
            begin, end = (start if not end else begin), max(end, last + 1)
        parts += [text[done:begin], COVERED] if end else []
        return "".join((*parts, text[end:]))

    def yaml(self, text: str) -> str:
        """A file of the configuration as it is written, without its comments and notes about people: they may say anything."""
        lines = [re.sub(r"(^|\s)#.*", r"\1", line) for line in text.splitlines()]
        return self.text("\n".join(covered(list(_without_notes(lines)), self._names)))

    def tree(self, value: Any) -> Any:
        """JSON: what has a secret's name is covered whole, every other text as `text` does."""
        if isinstance(value, Mapping):
            return {str(name): self._part(str(name), part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(part) for part in value]
        return self.text(value) if isinstance(value, str) else value

    def _part(self, name: str, part: Any) -> Any:
        if name.lower() == "headers":
            return dict.fromkeys(part, COVERED) if isinstance(part, Mapping) else COVERED
        secret = isinstance(part, str) and part and _secret_name.fullmatch(name)
        return COVERED if secret else self.tree(part)

    def pseudonym(self, text: str) -> str:
        """In place of what a caller chose: `~3fa9c1d2`."""
        return "~" + hmac.digest(self._salt, text.encode("utf-8", "replace"), "sha256").hex()[:8]


def _without_notes(lines: Iterable[str]) -> Iterator[str]:
    """`label` and `meta` with their values covered, also when those stand on the lines below."""
    inside = -1
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if 0 <= inside < indent:
            yield f"{' ' * indent}{COVERED}"
            continue
        found = _note.match(line)
        inside = indent + (2 if line.lstrip().startswith("- ") else 0) if found else -1
        yield _notes.sub(lambda m: m[1] + COVERED, line) if found is None else found[1] + COVERED * bool(found[2])


def _quoted(value: str) -> str:
    """Covered, in the quotes that it had: JSON stays JSON."""
    quote_mark = next((mark for mark in ('\\"', '"', "'") if value.startswith(mark)), "")
    return quote_mark + COVERED + quote_mark


def _forms(secret: str) -> set[str]:
    """A value as it may stand in JSON, in a URL, or as the password of HTTP Basic."""
    raw = secret.encode("utf-8", "surrogateescape")
    coded = base64.b64encode(raw).decode().rstrip("=")
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe=""), coded}
