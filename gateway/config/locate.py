"""Where the data directory is, even when the configuration is broken: gatewayctl needs it to find the admin socket."""

import os
import re
from pathlib import Path
from typing import Final

from gateway.config.expand import ExpandError, expand, read_small

DATA_DIR: Final = "/var/lib/gateway"
_line = re.compile(
    r"""^["']?data_dir["']?[ \t]*:[ \t]+(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^#\s][^\r\n]*?))[ \t]*(?:[ \t]#.*)?\r?$""", re.M
)


def data_dir_of(path: str | os.PathLike[str]) -> Path:
    """The top-level `data_dir` of the file at `path`, absolute. Nothing is checked; what cannot be read gives the default."""
    file = Path(os.path.abspath(path))
    try:
        text = read_small(file, 8 * 1024 * 1024).decode("utf-8", "replace")
        found = _line.search(text)
        if found is None:
            return Path(DATA_DIR)
        value = found[1] or (found[2] or "").replace("''", "'") or found[3] or DATA_DIR
        return Path(os.path.normpath(file.parent / expand(value, os.environ, file.parent)))
    except (OSError, ExpandError):
        return Path(DATA_DIR)
