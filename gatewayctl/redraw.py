"""A picture that is drawn again and again in its place, on a terminal. Elsewhere nothing is redrawn: changes are lines."""

import shutil
import sys

UP: str = "\x1b[{}A"
REST_OF_SCREEN: str = "\x1b[J"


class Redraw:
    """stdout, as a screen that shows one text."""

    def __init__(self) -> None:
        self._lines = 0

    def draw(self, text: str) -> None:
        """In place of what was drawn before. What does not fit is cut off at the end: what scrolls away cannot be drawn over."""
        lines = text.split("\n")
        height = max(2, shutil.get_terminal_size().lines - 1)
        if len(lines) > height:
            lines = [*lines[: height - 1], f"… and {len(lines) - height + 1} more"]
        back = UP.format(self._lines) if self._lines else ""
        sys.stdout.write(f"{back}\r{REST_OF_SCREEN}" + "\n".join(lines) + "\n")
        sys.stdout.flush()
        self._lines = len(lines)
