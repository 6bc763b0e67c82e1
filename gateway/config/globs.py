"""Patterns of names: `*` stands for anything, everything else for itself. Pure."""

import re
from functools import lru_cache


def matches(glob: str, name: str) -> bool:
    """Whether the pattern means the name, from its beginning to its end."""
    return glob in ("*", name) or ("*" in glob and _pattern(glob).fullmatch(name) is not None)


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, glob.split("*"))), re.S)
