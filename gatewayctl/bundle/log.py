"""Lines of the gateway's log as support may see them: what an exception says of its cause may be anything, so only its kind stays."""

import json
import re
from typing import Final

LEFT_OUT: Final = "(left out)"
_kinds: Final = r"(?:[A-Za-z_][\w.]*\.)?[A-Za-z_]\w*(?:Error|Exception|Warning|Group|Interrupt|Exit|Timeout|Refusal|Failure)"
_exception: Final = re.compile(rf"^((?:\S+ )*?(?:<\d>)?(?:[ |+]*))({_kinds}): .*$")

_frozen: Final = re.compile(r"( is frozen by .*? \(uid \d+(?:, pid \d+)?\)): .*$")
"""What people wrote of a freeze."""


def cleaned(text: str) -> str:
    return "\n".join(map(_line, text.splitlines()))


def _line(line: str) -> str:
    start = line.find("{")
    if start >= 0 and line.endswith("}"):
        try:
            found = json.loads(line[start:])
        except ValueError:
            found = None
        if isinstance(found, dict) and ("exception" in found or "message" in found):
            found |= {name: cleaned(str(found[name])) for name in ("message", "exception") if name in found}
            return line[:start] + json.dumps(found, ensure_ascii=False)
    return _exception.sub(rf"\1\2: {LEFT_OUT}", _frozen.sub(rf"\1: {LEFT_OUT}", line))
