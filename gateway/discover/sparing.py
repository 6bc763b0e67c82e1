"""Says in the log that an endpoint's state is another one, so many times for each channel: a registry that names others every second
would fill a disk. Time is an argument.
"""

import logging
from dataclasses import dataclass, field
from typing import Final

from gateway.discover.look import BUSY, UP, Look

log = logging.getLogger("gateway.endpoints")

MOST: Final = 60
"""Lines for one channel in one `MINUTE`."""
MINUTE: Final = 60.0


@dataclass(slots=True)
class Sparing:
    """_counts: by channel, when its minute began (monotonic), and the changes since."""

    _counts: dict[str, tuple[float, int]] = field(default_factory=dict)

    def say(self, look: Look, now: float) -> None:
        """now: monotonic."""
        name = look.channel.name
        began, count = self._counts.get(name, (now, 0))
        began, count = (began, count + 1) if now - began < MINUTE else (now, 1)
        self._counts[name] = began, count
        if count <= MOST:
            level = logging.INFO if look.state in (UP, BUSY) else logging.WARNING
            why = f": {look.why}" if look.why else " again"
            log.log(level, "channel %s: %s is %s%s", name, look.endpoint.url, look.state, why)
        elif count == MOST + 1:
            rest = began + MINUTE - now
            log.warning("channel %s: %d changes of state within a minute; those of the next %.0f s are not told here", name, MOST, rest)
