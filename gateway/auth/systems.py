"""The calling application's name, `x-gateway-system`: recorded when the key may tell it. Pure."""

import re

from gateway.config.globs import matches

_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def told_system(globs: tuple[str, ...], said: str | None) -> str:
    """What is recorded: the name when it is one and one of the key's globs matches it, else nothing."""
    if said is None or not _name.fullmatch(said):
        return ""
    return said if any(matches(glob, said) for glob in globs) else ""
