"""Asks control over its Unix socket: HTTP/JSON, admin API version 1. Blocking; every failure becomes a sentence and an exit code."""

import contextlib
import http.client
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from gatewayctl.alone import owner_of, unheard
from gatewayctl.reader import watched
from gatewayctl.trouble import FAILED, FORBIDDEN, UNREACHABLE, USAGE, Trouble

API: Final = 1
LONGEST_PATH: Final = 107
PIECE: Final = 256 * 1024
PATIENCE: Final = 30.0
"""Seconds that an answer may take; reloading and probing take as long as the engines do."""
COMEBACK: Final = 5.0
"""Seconds that a control is waited for while it is only being started again: workers serve meanwhile."""


class Client:
    """One gateway's control."""

    def __init__(self, path: Path, config: Path, *, told: bool = False) -> None:
        """told: somebody named the socket; otherwise it is where the configuration's data_dir is, or was when the gateway started."""
        self.path = path
        self._config = config
        self._told = told

    def get(self, path: str, timeout: float = PATIENCE) -> dict[str, Any]:
        return self._call("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any] | None = None, timeout: float = PATIENCE) -> dict[str, Any]:
        return self._call("POST", path, body, timeout)

    def running(self) -> bool:
        """Whether anybody listens. A socket that may not be used is somebody.

        Raises Trouble when control of a gateway that runs does not come back: workers would go on with what the files said before.
        """
        try:
            self._connect(1.0).close()
        except Trouble as trouble:
            if trouble.code == UNREACHABLE and self._owner() is not None:
                raise
            return trouble.code != UNREACHABLE
        return True

    @contextlib.contextmanager
    def lines(self, path: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The objects of an NDJSON stream, as they come. Begins when the gateway has accepted the call, and ends with its context."""
        connection, answer = self._send("GET", path, None, None)
        with contextlib.closing(connection):
            if answer.status != http.client.OK:
                self._understand(answer.status, answer.read())
            begun = answer.readline()  # usually an empty line: from here on nothing is missed
            with watched(connection.hang_up) as gone:
                yield _objects(answer, begun, gone)

    def pieces(self, path: str, timeout: float) -> Iterator[bytes]:
        """A file, piece by piece. Begins when the gateway has accepted the call; raises Trouble when it breaks off."""
        connection, answer = self._send("GET", path, None, timeout)
        try:
            if answer.status != http.client.OK:
                self._understand(answer.status, answer.read())
        except BaseException:
            connection.close()
            raise
        return self._pieces(connection, answer, timeout)

    def _pieces(self, connection: "Connection", answer: http.client.HTTPResponse, timeout: float) -> Iterator[bytes]:
        try:
            while piece := answer.read(PIECE):
                yield piece
        except (http.client.HTTPException, OSError) as error:
            raise self._broke(error, timeout) from error
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
        connection, answer = self._send(method, path, body, timeout)
        try:
            return self._understand(answer.status, answer.read())
        except (http.client.HTTPException, OSError) as error:
            raise self._broke(error, timeout) from error
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float | None
    ) -> tuple["Connection", http.client.HTTPResponse]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        connection = self._connect(timeout)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            return connection, connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise self._broke(error, timeout) from error

    def _connect(self, timeout: float | None) -> "Connection":
        end = time.monotonic() + COMEBACK
        while True:
            try:
                return self._connected(timeout)
            except Trouble as trouble:
                if trouble.code != UNREACHABLE or self._owner() is None or time.monotonic() > end:
                    raise
            time.sleep(0.05)

    def _owner(self) -> int | None:
        """The pid of the supervisor whose control would listen here. None: nobody's."""
        return owner_of(self.path.parent / "lock") if self._knows else None

    def _connected(self, timeout: float | None) -> "Connection":
        if len(os.fsencode(self.path)) > LONGEST_PATH:
            raise Trouble(
                f"no Unix socket's path can have more than {LONGEST_PATH} bytes: {self.path}",
                "Choose a shorter data_dir.",
            )
        connection = Connection(self.path, timeout)
        try:
            connection.connect()
            if not self._knows:  # the default place: whoever listens there may be another gateway
                connection.close()
                raise ConnectionRefusedError
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            if not self._moved():
                raise self._absent() from error
            return self._connected(timeout)
        except PermissionError as error:
            raise self._forbidden() from error
        except OSError as error:
            raise Trouble(f"cannot reach the gateway on {self.path}: {error.strerror or error}", code=UNREACHABLE) from error
        return connection

    def _understand(self, status: int, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise Trouble(f"what listens on {self.path} is not a gateway: its answer is not JSON") from error
        if not isinstance(answer, dict) or answer.get("api") != API:
            raise Trouble(f"the gateway speaks another admin API than this gatewayctl (v{API})", "Use the gatewayctl of the same version.")
        if status < 300:
            return answer
        said = answer.get("error") or {}
        if said.get("mistakes"):
            raise config_error(said["mistakes"])
        codes = {403: FORBIDDEN, 503: UNREACHABLE}
        raise Trouble(said.get("message") or f"the gateway answered {status}", code=codes.get(status, FAILED))

    def _broke(self, error: Exception, timeout: float | None) -> Trouble:
        if isinstance(error, TimeoutError):
            return Trouble(f"the gateway did not answer within {timeout:.0f} s", "`gatewayctl status` and its log may say why.")
        return Trouble("the gateway broke off while answering", "`gatewayctl status` and its log may say why.")

    def _moved(self) -> bool:
        """Whether a gateway with this configuration listens elsewhere; from then on it is asked there."""
        from gatewayctl.elsewhere import socket_of

        found = None if self._told else socket_of(self._config)
        if found is None:
            return False
        self.path, self._told = found, True
        return True

    @property
    def _knows(self) -> bool:
        """Whether the place of the socket is known: it was told, or there is a configuration that can say it."""
        try:
            return self._told or (self._config.is_file() and self._config.stat().st_size > 0)
        except OSError:
            return False

    def _absent(self) -> Trouble:
        """Without a configuration nobody knows where a gateway that runs would listen, so that is said, not that none runs."""
        start = f"Start it: systemctl start gateway, or: gatewayctl serve --config {self._config}"
        owner = self._owner()
        if owner is not None:
            return unheard(self.path.parent, owner)
        said, code = ("", UNREACHABLE) if self._told else _wordless(self._config)
        if not said:
            return Trouble(f"the gateway is not running: nobody listens on {self.path}", start, UNREACHABLE)
        said = f"the gateway cannot be found: {self._config} {said}, and nobody who listens runs with it"
        return Trouble(said, "Use sudo." if code == FORBIDDEN else "If one runs: --socket <data_dir>/admin.sock", code)

    def _forbidden(self) -> Trouble:
        hint = "Use sudo, or become a member of the socket's group."
        try:
            import grp

            hint = f"Use sudo, or become a member of group {grp.getgrgid(os.stat(self.path).st_gid).gr_name}."
        except (OSError, KeyError):
            pass
        return Trouble(f"you may not use the admin socket {self.path}", hint, FORBIDDEN)


def _wordless(config: Path) -> tuple[str, int]:
    """Why a configuration does not say where its gateway listens, with a command's exit code; "" when it may say so."""
    try:
        about = config.stat()
    except PermissionError:
        return "may not be read by you", FORBIDDEN
    except OSError:
        return "does not exist", UNREACHABLE
    if stat.S_ISDIR(about.st_mode):
        return "is a folder, not a file", UNREACHABLE
    if not about.st_size:
        return "is empty", UNREACHABLE
    return ("", UNREACHABLE) if os.access(config, os.R_OK) else ("may not be read by you", FORBIDDEN)


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise

    def hang_up(self) -> None:
        """From any thread: whoever reads from it finds its end."""
        with contextlib.suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


def _objects(answer: http.client.HTTPResponse, line: bytes, gone: threading.Event) -> Iterator[dict[str, Any]]:
    try:
        while line:
            if line.strip():
                yield json.loads(line)
            line = answer.readline()
    except (http.client.HTTPException, OSError, ValueError):
        pass
    if gone.is_set():
        raise BrokenPipeError
    raise Trouble("the gateway stopped, so nothing more will come", code=UNREACHABLE)


def segment(name: str) -> str:
    """A name as one segment of a path. Errors: Trouble for an empty one."""
    if not name:
        raise Trouble("a name is empty", code=USAGE)
    return quote(name, safe="")


def config_error(mistakes: list[dict[str, Any]]) -> Exception:
    """Mistakes as they came over the wire, as the exception that app.main prints."""
    from gateway.config.report import ConfigError, Mistake

    return ConfigError(
        [
            Mistake(
                file=str(mistake.get("file") or ""),
                line=int(mistake.get("line") or 0),
                column=int(mistake.get("column") or 0),
                path=str(mistake.get("path") or ""),
                message=str(mistake.get("message")),
                hint=mistake.get("hint"),
                source=mistake.get("source"),
            )
            for mistake in mistakes
        ]
    )
