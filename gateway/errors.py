"""The three failures of the gateway, each translated at one door: we say no, the engine failed, the file is wrong."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Refusal(Exception):
    """We say no. Becomes OpenAI's error envelope at the accept door.

    status: HTTP status. code: OpenAI's `code` (`model_not_found`, `context_length_exceeded`, …). type: OpenAI's
    `type`; None derives it from the status. param: the offending field, if one. retry_after: seconds, for
    `Retry-After` and `retry-after-ms`. phase, who: the letters of `words.End`. log: what only our log may know. rule, via: of a
    decision, the rule that matched and the model that it led to; through: all models on the way.
    """

    status: int
    code: str
    message: str
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None
    phase: str = "A"
    log: str | None = None
    close: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    who: str = "G"
    rule: str = ""
    via: str = ""
    through: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"


@dataclass(slots=True)
class UpstreamFailure(Exception):
    """An attempt at an engine failed before commit, or its stream broke after it.

    reason: one short word for the record and metrics (`connect`, `tls`, `timeout_first_event`, `status_503`, …).
    retryable: whether another target may be tried. status/code/message/type/param: what the caller is told when nobody else can
    serve; never an engine's name or address. retry_after: the engine's own wish in seconds. blame: `engine` counts
    against the endpoint, `caller` (its own 4xx) for it; `gateway` (we could not even ask) says nothing of it.
    """

    reason: str
    message: str
    status: int = 502
    code: str = "upstream_error"
    type: str | None = None
    param: str | None = None
    retryable: bool = True
    retry_after: float | None = None
    blame: str = "engine"
    upstream_status: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def forget_frames(error: BaseException) -> None:
    """An exception that is kept as a value lets go of the frames it came through and of what it came from, and so do those. They know it
    in turn, and the request with its whole body: in such a circle that would wait for the garbage collector, which counts objects and no
    bytes. Compiled coroutines that wait within an `except` may leave what they handle as the context of whatever fails next, of any
    request: kept, each failure would hold the one before it, without end."""
    at: BaseException | None = error
    while at is not None:
        came_from = at.__cause__ or at.__context__
        at.__traceback__ = at.__cause__ = at.__context__ = None
        at = came_from


@dataclass(slots=True, frozen=True)
class Mistake:
    """One mistake in a configuration file. line and column count from 1; 0 = the file as a whole."""

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str | None = None
    source: str | None = None


class ConfigError(Exception):
    """The configuration cannot be used. Carries every mistake found, never a secret."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistake(s) in the configuration")
        self.mistakes = mistakes
