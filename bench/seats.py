"""What a seat of a limited channel costs: `python bench/seats.py`. How it is measured: `over_bus`."""

import asyncio
from collections.abc import Callable
from functools import partial

from over_bus import Control, Frame, Given, Matter, Worker

from gateway.referee.desk import Desk
from gateway.referee.line import Limits
from gateway.referee.seats import Seats

LIMITS = {"c": Limits(channel=120, endpoint=64, length=1000)}
WISHES = [("c", "http://10.0.0.6:8000"), ("c", "http://10.0.0.7:8000")]


def control(say: Callable[[int, Frame], None], given: Given) -> Control:
    desk = Desk(say, asyncio.get_running_loop(), given.workers)
    desk.adopt(LIMITS)
    return Control(desk, desk.figures)


def worker(say: Callable[[Frame], bool], given: Given) -> Worker:
    seats = Seats(say, asyncio.get_running_loop())
    seats.adopt(LIMITS, 1)
    return Worker(seats, partial(seats.take, WISHES, tenant="acme"), seats.give_back)


if __name__ == "__main__":
    Matter("seats", "a seat is there", control, worker).main()
