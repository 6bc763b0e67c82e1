"""What an engine's dialect is: a pure translation of one request into one answer, and its ways of failing."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

import msgspec

from gateway.simulate.engine import Work
from gateway.simulate.prompt import Json
from gateway.simulate.sse import Event

Plane = str
BUSINESS = "business"


@dataclass(slots=True, kw_only=True)
class Received:
    """One request as it came in and what became of it. Stamps are time.monotonic() seconds."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    plane: Plane
    started_at: float = field(default_factory=time.monotonic)
    body: bytes = b""
    number: int = 0
    """1-based among the inference requests of the simulator; 0 for others."""
    fault: str = ""
    """The word of the fault that struck it."""
    status: int = 0
    tokens: int = 0
    """Tokens generated so far."""
    ended_at: float | None = None
    aborted_at: float | None = None
    """When the client left before the answer's end; None: it did not."""
    dropped: bool = False
    """We ended the connection ourselves (a fault, a restart, stop)."""

    def json(self) -> Json:
        """The body as JSON. Errors: msgspec.DecodeError."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece. `work` is there when the model had to generate for it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    work: Work | None = None
    tokens: int = 0
    steps: int = 0
    stops: bool = False
    """The engine ends itself after this answer."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer in events."""

    events: Iterator[Event]
    work: Work | None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Whole | Stream
Handler = Callable[[Received, Mapping[str, str]], Answer]


class Refused(Exception):
    """The dialect says no; the answer says how."""

    def __init__(self, answer: Whole) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Dialect(Protocol):
    """One engine's wire."""

    stream_content_type: str
    headers_first: bool
    """A stream's header leaves before the first token exists."""
    broken: str
    """Its own words when it fails at a request that it has taken."""
    planes: tuple[Plane, ...]

    def answer(self, request: Received, planes: frozenset[Plane]) -> Answer:
        """Errors: Refused."""
        ...

    def headers(self, answer: Answer) -> Mapping[str, str]:
        """Headers that stand on each answer of this engine."""
        ...

    def is_inference(self, method: str, path: str) -> bool: ...

    def dangerous(self, path: str) -> bool:
        """A path a gateway must never forward to."""
        ...

    def queue_full(self, *, stream: bool) -> Answer | None:
        """None: it closes the connection without a word."""
        ...

    def failure(self, status: int, message: str) -> Whole:
        """An error in this engine's shape."""
        ...

    def error_event(self, message: str) -> bytes:
        """What stands in a stream that fails, up to its end."""
        ...


class Routes:
    """Paths of one engine. `{name}` in a path stands for one segment."""

    def __init__(self, inference: frozenset[str], never: tuple[str, ...]) -> None:
        self._exact: dict[tuple[str, str], tuple[Plane, Handler]] = {}
        self._shapes: list[tuple[str, list[str], Plane, Handler]] = []
        self._inference = inference
        self._never = never

    def add(self, method: str, path: str, handler: Handler, plane: Plane = BUSINESS) -> None:
        if "{" in path:
            self._shapes.append((method, path.split("/"), plane, handler))
        else:
            self._exact[method, path] = (plane, handler)

    def find(self, method: str, path: str, planes: frozenset[Plane]) -> tuple[Handler, dict[str, str]] | None:
        found = self._exact.get((method, path))
        if found is not None and found[0] in planes:
            return found[1], {}
        segments = path.split("/")
        for wanted, shape, plane, handler in self._shapes:
            if wanted == method and plane in planes and len(shape) == len(segments):
                pairs = list(zip(shape, segments, strict=True))
                if all(part[:1] == "{" or part == segment for part, segment in pairs):
                    return handler, {part[1:-1]: segment for part, segment in pairs if part[:1] == "{"}
        return None

    def knows(self, path: str) -> bool:
        """Some method exists for this path (405 and not 404)."""
        return any(path == known for _, known in self._exact)

    def is_inference(self, method: str, path: str) -> bool:
        return method == "POST" and path in self._inference

    def dangerous(self, path: str) -> bool:
        return any(fnmatchcase(path, shape) for shape in self._never)


def wants_stream(request: Received) -> bool:
    """Is this a request for a stream? Never fails: a broken body is no such request."""
    try:
        body = request.json()
    except msgspec.DecodeError:
        return False
    return isinstance(body, dict) and body.get("stream") is True


def hex_id() -> str:
    return uuid.uuid4().hex


def now() -> int:
    """`created` of an answer, Unix seconds."""
    return int(time.time())
