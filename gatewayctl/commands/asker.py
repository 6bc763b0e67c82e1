"""How the demonstration calls the gateway: with the official `openai` client, or over plain HTTP where that is not installed."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

PATIENCE: Final = 30.0
"""Seconds."""


@dataclass(slots=True)
class Answer:
    """What a caller saw. tokens: prompt and completion, as the engine counted them. error: how a stream broke. Times in seconds."""

    id: str = ""
    text: str = ""
    pieces: int = 0
    model: str = ""
    channel: str = ""
    attempts: int = 0
    tokens: tuple[int, int] = (0, 0)
    error: str = ""
    first: float = 0.0
    took: float = 0.0

    def head(self, headers: Mapping[str, str]) -> None:
        self.id = headers.get("x-request-id", "")
        self.channel = headers.get("x-gateway-channel", "")
        self.attempts = int(headers.get("x-gateway-attempts", "0"))

    def usage(self, usage: Any) -> None:
        if usage:
            self.tokens = (usage["prompt_tokens"], usage["completion_tokens"])


Seen = Callable[[Answer], None]
"""Called after each piece of a stream."""


class NoAnswer(Exception):
    """The gateway refused, or nothing came: a sentence."""


class Asker(Protocol):
    """A client of the gateway."""

    name: str

    def ask(self, body: dict[str, Any], seen: Seen | None = None) -> Answer:
        """One chat, streamed when `body` says so. Raises NoAnswer; a stream that breaks is an Answer with `error`."""
        ...

    def close(self) -> None: ...


def asker(base_url: str, key: str) -> Asker:
    """The official client when it is installed, else plain HTTP."""
    try:
        import openai
    except ImportError:
        return Plain(base_url, key)
    return Official(openai, base_url, key)


class Official:
    """The `openai` package. It repeats nothing by itself here: what is repeated, the gateway repeats."""

    def __init__(self, openai: Any, base_url: str, key: str) -> None:
        self.name = f"the official openai client {openai.__version__}"
        self._openai = openai
        http = openai.DefaultHttpxClient(trust_env=False)  # a proxy of the environment is none for 127.0.0.1
        self._client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=PATIENCE, http_client=http)

    def ask(self, body: dict[str, Any], seen: Seen | None = None) -> Answer:
        answer, began = Answer(), time.monotonic()
        extra = {name: body[name] for name in body if name == "ignore_eos"}
        official = {name: body[name] for name in body if name not in extra}
        if body.get("stream"):
            official["stream_options"] = {"include_usage": True}
        try:
            raw = self._client.chat.completions.with_raw_response.create(**official, extra_body=extra or None)
            answer.head(raw.headers)
            if body.get("stream"):
                _read(answer, (chunk.to_dict() for chunk in raw.parse()), seen, began)
            else:
                _whole(answer, raw.parse().to_dict())
        except self._openai.APIError as error:
            if not answer.pieces:
                raise NoAnswer(str(error)) from error
            answer.error = error.message
        answer.took = time.monotonic() - began
        return answer

    def close(self) -> None:
        self._client.close()


class Plain:
    """HTTP as the standard library speaks it: a connection per call."""

    name = "plain HTTP (the `openai` package is not installed here)"

    def __init__(self, base_url: str, key: str) -> None:
        self._host = base_url.removeprefix("http://").partition("/")[0]
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, body: dict[str, Any], seen: Seen | None = None) -> Answer:
        answer, began = Answer(), time.monotonic()
        if body.get("stream"):
            body = {**body, "stream_options": {"include_usage": True}}
        connection = http.client.HTTPConnection(self._host, timeout=PATIENCE)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
            got = connection.getresponse()
            answer.head({name.lower(): value for name, value in got.getheaders()})
            if got.status != http.client.OK:
                raise NoAnswer(f"{got.status} {got.read().decode(errors='replace')}")
            if body.get("stream"):
                _read(answer, _events(got), seen, began)
            else:
                _whole(answer, json.loads(got.read()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswer(str(error)) from error
        finally:
            connection.close()
        answer.took = time.monotonic() - began
        return answer

    def close(self) -> None: ...


def _whole(answer: Answer, told: dict[str, Any]) -> None:
    answer.model = told["model"]
    answer.text = told["choices"][0]["message"]["content"] or ""
    answer.usage(told.get("usage"))


def _read(answer: Answer, chunks: Iterator[dict[str, Any]], seen: Seen | None, began: float) -> None:
    for chunk in chunks:
        if "error" in chunk:
            answer.error = str(chunk["error"].get("message"))
            return
        answer.model = chunk.get("model") or answer.model
        answer.usage(chunk.get("usage"))
        piece = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        if piece:
            answer.first = answer.first or time.monotonic() - began
            answer.text += piece
            answer.pieces += 1
            if seen is not None:
                seen(answer)


def _events(got: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := got.readline():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
        elif line.startswith(b"data: [DONE]"):
            return
    yield {"error": {"message": "the stream ended without [DONE]"}}
