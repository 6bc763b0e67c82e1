"""The compact form of access: which models, APIs and addresses a place or a key opens, and when that is otherwise. No I/O here."""

from msgspec import Struct


class Models(Struct, frozen=True, array_like=True, gc=False):
    """Globs of names, `*` matches anything. A name is in when one of `allow` matches it and none of `deny`."""

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()


EVERY = Models()


class Switch(Struct, frozen=True, array_like=True, gc=False):
    """What is otherwise while a schedule is open (`during`) or closed (`outside`). models: None, priority: -1 = as it is."""

    during: str = ""
    outside: str = ""
    models: Models | None = None
    priority: int = -1


class Access(Struct, frozen=True, array_like=True, gc=False):
    """What a tenant, a project or a key opens. apis: () = all. allow, deny: networks; allow () = all. priority: 0 to 9, -1 = not said."""

    models: Models = EVERY
    apis: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    priority: int = -1
    hours: tuple[Switch, ...] = ()


OPEN = Access()
"""Everything, always."""
USUAL_PRIORITY = 5
