"""Where the data directory is, even when the configuration is broken: gatewayctl needs it to find the admin socket."""

import json
import os
import re
from pathlib import Path
from typing import Final

from gateway.config.expand import ExpandError, expand, read_small

DATA_DIR: Final = "/var/lib/gateway"
_VALUE: Final = r"""["']?data_dir["']?[ \t]*:[ \t]+(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|"""
_line = re.compile(rf"""^{_VALUE}([^#\s][^\r\n]*?))[ \t]*(?:[ \t]#.*)?\r?$""", re.M)
_flow = re.compile(rf"""[{{,]\s*{_VALUE}([^#\s][^\r\n,}}]*?))\s*[,}}]""")


def data_dir_of(path: str | os.PathLike[str]) -> Path:
    """The top-level `data_dir` of the file at `path`, absolute. Nothing is checked; what cannot be read gives the default."""
    file = Path(os.path.abspath(path))
    try:
        text = read_small(file, 8 * 1024 * 1024).decode("utf-8", "replace")
        found = (_flow if text.lstrip().startswith("{") else _line).search(text)
        if found is None:
            return Path(DATA_DIR)
        value = found[1] or (found[2] or "").replace("''", "'") or found[3] or DATA_DIR
        return Path(os.path.normpath(file.parent / expand(value, os.environ, file.parent)))
    except (OSError, ExpandError):
        return Path(DATA_DIR)


def moved(text: str, data_dir: Path) -> str:
    """The text of a main file with another `data_dir`, its other lines as they are."""
    pattern = _flow if text.lstrip().startswith("{") else _line
    found = pattern.search(text)
    value = json.dumps(str(data_dir))
    if found is not None:
        start, end = next((found.start(group), found.end(group)) for group in (1, 2, 3) if found[group] is not None)
        quote = found[3] is None
        return text[: start - quote] + value + text[end + quote :]
    if text.lstrip().startswith("{"):
        return text.replace("{", "{data_dir: " + value + ", ", 1)
    return f"{text.rstrip(chr(10))}\ndata_dir: {value}\n"
