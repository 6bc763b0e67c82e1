"""A moment by both clocks. Rolling windows go by the one that never jumps, calendar periods by the one on the wall."""

from typing import NamedTuple


class Moment(NamedTuple):
    """mono: monotonic seconds of this machine. wall: seconds since 1970."""

    mono: float
    wall: float

    def ago(self, seconds: float) -> "Moment":
        """So many seconds earlier."""
        return Moment(self.mono - seconds, self.wall - seconds)

    def at(self, wall: float) -> "Moment":
        """The moment at which the clock on the wall showed this; what it says of the future is now."""
        return self.ago(max(0.0, self.wall - wall))
