"""What the demonstration stands on: a temporary directory, free ports, and child processes that never outlive it."""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatewayctl.programs import gateway_command

START_PATIENCE: Final = 30.0
END_PATIENCE: Final = 10.0
LOG_SHOWN: Final = 30
LONGEST_FOLDER: Final = 60
"""Bytes. The path of a Unix socket below it may have 107."""
PR_SET_PDEATHSIG: Final = 1


class Broken(Exception):
    """Something is not as promised: a sentence."""


@dataclass(slots=True)
class Child:
    """A process of ours and the file that it writes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        return "\n".join(self.said().splitlines()[-LOG_SHOWN:])

    def kill(self) -> None:
        """As a crash would: no goodbye to open connections."""
        self.process.kill()
        self.process.wait()


class Stage:
    """As a context: whatever happens inside, no process and no file is left behind."""

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix="gw-", dir=base if len(os.fsencode(base)) <= LONGEST_FOLDER else "/tmp"))
        self.children: dict[str, Child] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Stage":
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_IGN:  # as under nohup
                continue
            self._handlers[number] = signal.signal(number, _interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, *self._handlers):  # a second Ctrl-C does not stop the clearing up
            with contextlib.suppress(ValueError):
                previous = signal.signal(number, signal.SIG_IGN)
                self._handlers.setdefault(number, previous)
        try:
            for child in reversed(self.children.values()):
                _end(child)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(self, name: str, command: list[str], ready: str) -> str:
        """A child; returns the line of its output that contains `ready`. Raises Broken with its last words."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, preexec_fn=_die_with_parent
            )
        child = self.children[name] = Child(name, process, log)

        def line() -> str:
            if process.poll() is not None:
                raise Broken(f"{name} ended with exit code {process.returncode}:\n{child.last_words()}")
            return next((line for line in child.said().splitlines(keepends=True) if ready in line and line.endswith("\n")), "").strip()

        try:
            found: str = until(line, START_PATIENCE)
        except TimeoutError:
            raise Broken(f"{name} was not ready within {START_PATIENCE:.0f} s:\n{child.last_words()}") from None
        return found

    def engine(self, kind: str, *, port: int = 0, options: tuple[str, ...] = ()) -> str:
        """A simulated engine; returns its address."""
        line = self.start(kind, gateway_command("simulate", kind, "--port", str(port), *options), "listening on ")
        return line.partition("listening on ")[2].split()[0]

    def llama(self) -> str:
        """llama.cpp's own server on a tiny model; returns its address."""
        line = self.start("llama", [sys.executable, "-m", "gateway.simulate.llama", "--model", "tiny-llama"], "ready ")
        return line.partition("ready ")[2].strip()


def llama_available() -> bool:
    """Whether a real llama.cpp server can be started: it needs packages that a packaged binary does not carry."""
    return all(importlib.util.find_spec(name) for name in ("xllamacpp", "gguf", "numpy"))


def until(look: Callable[[], Any], within: float) -> Any:
    """The first truthy thing that `look` gives. Raises TimeoutError."""
    end = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        return list(_bound(held, count))


def _bound(held: contextlib.ExitStack, count: int) -> Iterator[int]:
    for _ in range(count):
        sock = held.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def _end(child: Child) -> None:
    """Politely, then not."""
    if child.process.poll() is None:
        child.process.terminate()
        try:
            child.process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    """In the child: the kernel ends it when the demonstration is killed itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
