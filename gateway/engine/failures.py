"""An engine's error, in whatever form, as one UpstreamFailure. Decides who is to blame and whether another target may help.

engine says                          caller hears                          retry   blame
context overflow (400, 422, 424)     400 context_length_exceeded           no      caller
400, 422, some 500 of llama.cpp       400 invalid_request_error             no      caller
413                                  413 request_too_large                 no      caller
unknown model (404, 422)             502 upstream_model_missing            yes     engine
unknown path (404, 405, 501)         502 upstream_path_missing             yes     engine
401, 403                             502 upstream_auth                     yes     engine
408, 504, a timeout in words         504 upstream_timeout                  yes     engine
429                                  429 upstream_overloaded               yes     engine
503                                  503 upstream_unavailable              yes     engine
2xx but 200, 3xx                     502 upstream_error                    yes     engine
all else                             502 upstream_error                    yes     engine
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import UpstreamFailure
from gateway.wire.openai import MalformedJson, value_of

LONGEST: Final = 1000
"""Characters of an engine's message that a caller gets."""

INVALID: Final = "invalid_request_error"
_UNKNOWN_MODEL: Final = re.compile(r"\bmodel\b.*\b(not found|does not exist|not exist)|got model .* not found in server", re.I | re.S)
_TIMEOUT: Final = re.compile(r"\btime(d )?[ -]?out\b|tokenTimeout|e2eTimeout", re.I)
_FULL: Final = re.compile(r"queue is full|too many requests|currently busy|overloaded", re.I)
_CALLERS: Final = re.compile(r"(?:image|audio|video) input is not supported\b|Failed to parse (?:messages|tools|tool_choice): ")
"""What llama.cpp says with a 500 although the request is at fault."""
_STATUS: Final = {
    "badrequesterror": 400,
    "invalid_request_error": 400,
    "notfounderror": 404,
    "service_unavailable": 503,
    "service unavailable": 503,
    "gateway_timeout": 504,
}


@dataclass(frozen=True, slots=True)
class Said:
    """What an engine's error body says. code: a word, never a number (that is `status`). numbers: token counts beside the text."""

    message: str = ""
    type: str = ""
    code: str | None = None
    param: str | None = None
    status: int | None = None
    numbers: tuple[int | None, int | None] = (None, None)
    """(context length, prompt tokens)."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """A prompt that does not fit. All in tokens, None = not said. characters: of a prompt that is too long for its tokens to be counted."""

    limit: int | None = None
    prompt: int | None = None
    completion: int | None = None
    characters: int | None = None

    def __str__(self) -> str:
        limit = (
            f"This model's maximum context length is {self.limit} tokens"
            if self.limit
            else "The request exceeds the model's context length"
        )
        asked = []
        if self.prompt is not None:
            asked.append(f"{self.prompt} in the prompt")
        if self.completion is not None:
            asked.append(f"{self.completion} for the answer")
        if not asked and self.characters is not None:
            return f"{limit}, but the prompt has {self.characters} characters. Please shorten it."
        if not asked:
            return f"{limit}. Please shorten the prompt or ask for fewer tokens."
        total = f"{(self.prompt or 0) + (self.completion or 0)} tokens ({' and '.join(asked)})"
        return f"{limit}, but the request needs {total}. Please shorten the prompt or ask for fewer tokens."


def read(body: bytes) -> Said:
    """Every shape there is: nested, flat, MindIE's `error` + `error_type`, FastAPI's `detail`, `message` alone, bare text. Errors: none."""
    try:
        value = value_of(body)
    except MalformedJson:
        return Said(body[: 4 * LONGEST].decode(errors="replace").strip())
    if isinstance(value, dict):
        return said(value)
    return Said(value if isinstance(value, str) else "")


def said(value: dict[str, Any]) -> Said:
    """The same for an error that is decoded already, as an event in a stream."""
    inner = value.get("error")
    where = inner if isinstance(inner, dict) else value
    if isinstance(inner, str):
        message: Any = _unwrapped(inner)
    else:
        message = next((where[name] for name in ("message", "detail", "error", "Error") if where.get(name)), "")
    if not isinstance(message, str):
        message = _listed(message)
    code, kind = where.get("code"), where.get("error_type") or where.get("type")
    return Said(
        message,
        kind if isinstance(kind, str) else "",
        code if isinstance(code, str) and not code.isdigit() else None,
        where["param"] if isinstance(where.get("param"), str) else None,
        _http(code, kind),
        (_number(where.get("n_ctx")), _number(where.get("n_prompt_tokens"))),
    )


def _unwrapped(text: str) -> str:
    """MindIE's own API puts an object's text into the string."""
    if text.startswith("{"):
        try:
            inner = value_of(text.encode())
        except (MalformedJson, UnicodeEncodeError):
            return text
        if isinstance(inner, dict):
            return next((word for word in inner.values() if isinstance(word, str)), text)
    return text


def _listed(detail: Any) -> str:
    """FastAPI's list of validation errors."""
    if not isinstance(detail, list):
        return ""
    lines = []
    for item in detail:
        if isinstance(item, dict):
            where = ".".join(map(str, item["loc"])) if isinstance(item.get("loc"), list) else ""
            lines.append(f"{where}: {item.get('msg', '')}".strip(": "))
    return "; ".join(lines)


def _http(code: object, kind: object) -> int | None:
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    if type(code) is int and 400 <= code <= 599:
        return code
    return _STATUS.get(kind.lower()) if isinstance(kind, str) else None


def _number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


_LIMIT: Final = re.compile(
    r"maximum context length (?:is|of) (\d+) tokens"
    r"|model's context length \((\d+) tokens\)"
    r"|available context size \((\d+) tokens\)"
    r"|maximum input ids length cannot be greater than (?:maxPositionEmbeddings |maxSeqLen )?(\d+)"
    r"|supports at most (\d+) completion tokens"
    r"|cannot be greater than max_model_len=(\d+)"
)
_PROMPT: Final = re.compile(
    r"\((\d+) in the messages"
    r"|requested (\d+) tokens in the "
    r"|request has (\d+) input tokens"
    r"|prompt contains (?:at least )?(\d+) input tokens"
    r"|(?:The input|request) \((\d+) tokens\) (?:is longer|exceeds)"
    r"|tokens: (\d+) tokens from the input"
    r"|the input ids length is (\d+)"
    r"|messages resulted in (\d+) tokens"
)
_COMPLETION: Final = re.compile(
    r", (\d+) in the completion\)|is too large: (\d+)|requested (\d+) output tokens|and (\d+) tokens for the completion"
    r"|max_(?:completion_)?tokens=(\d+) cannot be greater",
)
_CHARACTERS: Final = re.compile(r"prompt contains (\d+) characters")
_OVERFLOW: Final = re.compile(r"exceeds? the (?:available context size|model's context length)", re.I)


def overflow(what: Said) -> Overflow | None:
    """Is it about the context length? Knows the words of vLLM 0.9 to 0.33, SGLang, MindIE, llama.cpp and OpenAI."""
    text = what.message
    limit, prompt, completion = _first(_LIMIT, text), _first(_PROMPT, text), _first(_COMPLETION, text)
    too_large = completion is not None and "is too large: " in text
    known = what.code == "context_length_exceeded" or what.type == "exceed_context_size_error"
    if limit is None and not too_large and not known and not _OVERFLOW.search(text):
        return None
    return Overflow(limit or what.numbers[0], prompt if prompt is not None else what.numbers[1], completion, _first(_CHARACTERS, text))


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(next(group for group in found.groups() if group)) if found else None


_SECRETS: Final = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)]+", re.I), "<address>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\[[0-9a-f:]*:[0-9a-f:.]+\](?::\d+)?", re.I), "<address>"),
    (re.compile(r"\b(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+):\d{2,5}\b", re.I), "<address>"),
    (re.compile(r"(?<![\w.<:])(?:[A-Za-z]:)?(?:[/\\](?!\s)[\w.@+-]+){2,}[/\\]?"), "<path>"),
    (re.compile(r"\s*Valid aliases: [^\n]*"), ""),
    (re.compile(r"\s*\(parameter=\w+, value=[^)]*\)"), ""),
    (re.compile(r"\b(?:vllm(?:-ascend)?|sglang|mindie[\w-]*|pymotor|llama[.-]?cpp|llama-server|EngineCore|AsyncLLM\w*)\b", re.I), "engine"),
)


_CUT: Final = re.compile(r"[\w./:@-]{1,256}\Z")  # a name of which half is left is known by nobody any more
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|\?xml)\b", re.I)


def clean(message: str) -> str:
    """An engine's message without addresses, file paths, engine names and traces; a page that a proxy before it made for browsers is none.
    The model's name is replaced by who knows it."""
    if _PAGE.match(message):
        return ""
    message = message[: 8 * LONGEST].partition("Traceback (most recent call last)")[0]
    for pattern, instead in _SECRETS:
        message = pattern.sub(instead, message)
    message = "".join(letter for letter in message if letter.isprintable() or letter == "\n").strip()
    return message if len(message) <= LONGEST else _CUT.sub("", message[:LONGEST]) + "…"


def failure(status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamFailure:
    """The table above, for a whole answer."""
    return translate(status, read(body), retry_after(headers))


def event_failure(event: dict[str, Any]) -> UpstreamFailure:
    """The table above, for an error in a stream. Its status is what the event says, else 500."""
    what = said(event)
    return translate(what.status or 500, what, None, "stream_error")


def translate(status: int, what: Said, wait: float | None = None, reason: str | None = None) -> UpstreamFailure:
    """One engine's words as what the caller hears."""
    reason = reason or f"status_{status}"
    text = clean(what.message)
    if status in (400, 413, 422, 424, 500) and (over := overflow(what)):
        return UpstreamFailure(
            reason, str(over), 400, "context_length_exceeded", INVALID, retryable=False, blame="caller", upstream_status=status
        )
    if status in (404, 422) and _UNKNOWN_MODEL.search(what.message):
        return _of_engine(reason, 502, "upstream_model_missing", "The engine does not serve this model", status)
    if status in (400, 409, 415, 422) or (status == 500 and _CALLERS.match(what.message)):
        message = text or "The engine refused the request"
        code = what.code if what.code and re.fullmatch(r"[a-z_]{3,60}", what.code) else "invalid_request"
        return UpstreamFailure(reason, message, 400, code, INVALID, _param(what), retryable=False, blame="caller", upstream_status=status)
    if status == 413:
        message = "The request is larger than the engine accepts"
        return UpstreamFailure(reason, message, 413, "request_too_large", INVALID, retryable=False, blame="caller", upstream_status=status)
    if status in (401, 403):
        return _of_engine(reason, 502, "upstream_auth", "The engine refused the gateway's credential", status)
    if status in (404, 405, 501):
        return _of_engine(reason, 502, "upstream_path_missing", "The engine does not serve this API", status)
    if status in (408, 504) or (status >= 500 and _TIMEOUT.search(what.message)):
        return _of_engine(reason, 504, "upstream_timeout", "The engine took too long", status, wait)
    if status < 300:  # what it says is no error, and may be a whole answer
        return _of_engine(reason, 502, "upstream_error", "The engine answered with a status that nothing asked for", status)
    if status < 400:
        return _of_engine(reason, 502, "upstream_error", "The engine's address redirects elsewhere, which is not followed", status)
    if status == 429 or (status >= 500 and status != 503 and _FULL.search(what.message)):
        return _of_engine(reason, 429, "upstream_overloaded", "The engine is overloaded, please try again later", status, wait)
    if status == 503 and _FULL.search(what.message):
        return _of_engine(reason, 503, "upstream_overloaded", "The engine is overloaded, please try again later", status, wait)
    if status == 503:
        return _of_engine(reason, 503, "upstream_unavailable", text or "The engine is not available", status, wait)
    return _of_engine(reason, 502, "upstream_error", text.partition("\n")[0] or "The engine failed", status, wait)


def api_missing(failure: UpstreamFailure) -> UpstreamFailure:
    """Of an API that not every engine has (embeddings, rerank, …), a missing path says nothing bad of the engine, and repeating is of no
    use. Another endpoint of the model may have it."""
    if failure.code != "upstream_path_missing":
        return failure
    said = "The model does not serve this API"
    return UpstreamFailure(failure.reason, said, 404, "unsupported_api", INVALID, blame="caller", upstream_status=failure.upstream_status)


def _of_engine(reason: str, told: int, code: str, message: str, status: int, wait: float | None = None) -> UpstreamFailure:
    kind = "rate_limit_error" if told == 429 else "server_error"
    return UpstreamFailure(reason, message, told, code, kind, retry_after=wait, upstream_status=status)


def _param(what: Said) -> str | None:
    """`body.messages` is FastAPI's word for `messages`."""
    return what.param.removeprefix("body.") if what.param else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds an engine wants us to wait; a date is ignored, since nothing here knows the time."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name) or headers.get(name.title()) or ""
        try:
            wait = float(text) / scale
        except ValueError:
            continue
        if 0 <= wait <= 86400:
            return wait
    return None
