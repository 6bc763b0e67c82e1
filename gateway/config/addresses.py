"""Do the listeners' addresses clash? Decided from the text alone: nothing is bound."""

from collections.abc import Iterator
from itertools import combinations

from gateway.config.fields import Address, address_of
from gateway.config.marks import Marks
from gateway.config.schema import Config
from gateway.errors import Mistake

_EVERY = frozenset({"0.0.0.0", "::"})
_LOCAL = {"localhost": "127.0.0.1"}


def listeners(config: Config, marks: Marks) -> Iterator[Mistake]:
    """A mistake for each listener whose address an earlier one has."""
    bound = [(name, listener, address_of(listener.bind)) for name, listener in config.listeners.items()]
    for (first, one, here), (second, other, there) in combinations(bound, 2):
        if clash(here, there):
            what = "metrics and api cannot share an address" if one.serves != other.serves else "this address is taken"
            same = _covering(one.bind, here, there)
            hint = f"listener {first} has it{same}, at {marks.place(('listeners', first))}"
            yield marks.at(("listeners", second, "bind"), what, hint)


def _covering(bind: str, here: Address, there: Address) -> str:
    """Why two hosts are one, when they are written differently."""
    if here.host == there.host:
        return ""
    if {here.host, there.host} == _EVERY:
        return " ([::] answers IPv4 too, so one of them does for both)"
    return f" ({bind} covers it)" if here.host in _EVERY else f" (it covers {bind})"


def clash(one: Address, other: Address) -> bool:
    """Whether the two cannot both be listened on: the same port, and the same host or one that stands for it.

    `[::]` stands for every host, since it answers IPv4 too; `0.0.0.0` for those of IPv4.
    """
    hosts = {_LOCAL.get(one.host.lower(), one.host.lower()), _LOCAL.get(other.host.lower(), other.host.lower())}
    every = "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))
    return one.port == other.port and (len(hosts) == 1 or every)
