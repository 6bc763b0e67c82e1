"""Whatever apprise reaches: chat services, mail, webhooks. It blocks, so a thread of its own does it, and is left behind when it hangs."""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence

from gateway.alert.message import Message, message
from gateway.alert.sinks.sending import PATIENCE, covered
from gateway.alert.state import Notice
from gateway.config.resolved_alerts import Sink
from gateway.config.service import service

_hanging: dict[str, threading.Thread] = {}
"""The last thread of each sink, while it lives."""


async def send(node: str, sink: Sink, notices: Sequence[Notice], now: float) -> str:
    before = _hanging.get(sink.name)
    if before is not None and before.is_alive():
        return "the attempt before still hangs"
    text = message(node, notices)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(said: str) -> None:
        if not done.done():
            done.set_result(said)

    def tell(said: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, said)

    thread = _hanging[sink.name] = threading.Thread(target=_work, args=(sink, text, tell), daemon=True, name=f"alert {sink.name}")
    thread.start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await done
    except TimeoutError:
        return f"no answer within {PATIENCE:.0f} s"


def _work(sink: Sink, text: Message, tell: Callable[[str], None]) -> None:
    try:
        said = notify(sink, text)
    except Exception as error:  # whatever a plugin raises
        said = covered(f"{type(error).__name__}: {error}", sink)
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        tell(said)


def notify(sink: Sink, text: Message) -> str:
    """Blocks. Returns why it did not work, "" = it did."""
    way = service(sink.url)
    if way is None:
        return "apprise does not understand the URL"
    hears = _Hears()
    log = logging.getLogger("apprise")
    log.addHandler(hears)
    try:
        if way.notify(body=text.body, title=text.title, notify_type=text.tone):
            return ""
    finally:
        log.removeHandler(hears)
    return covered("; ".join(dict.fromkeys(hears.said)) or "it did not work, and apprise does not say why", sink)


class _Hears(logging.Handler):
    """What apprise says in this thread. It calls every failure of the network a connection error, also when nobody answers."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._thread = threading.get_ident()
        self._begun = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and len(self.said) < 10:
            late = _timed_out(sys.exception())
            self.said.append(f"no answer within {time.monotonic() - self._begun:.2g} s" if late else record.getMessage())


def _timed_out(error: BaseException | None) -> bool:
    """Whether an exception that is being handled, or what it was made of, is a timeout."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False
