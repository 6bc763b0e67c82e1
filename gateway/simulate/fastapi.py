"""What vLLM and SGLang share because both are FastAPI: bodies, guards, unknown paths, pooling inputs."""

import hmac
import json
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.simulate import tokens
from gateway.simulate.dialect import Answer, Received, Refused, Routes, Whole
from gateway.simulate.fastapi_types import mistakes
from gateway.simulate.prompt import Json, prompts_of, text_of
from gateway.simulate.sse import encode

Object = dict[str, Json]
Fail = Callable[[int, str, str | None], Whole]
"""(status, message, param) → an error in the engine's shape."""

NOT_FOUND = Whole(b'{"detail":"Not Found"}', 404)
WRONG_METHOD = Whole(b'{"detail":"Method Not Allowed"}', 405)
UNAUTHORIZED = Whole(b'{"error":"Unauthorized"}', 401)
DEFAULT_DIMENSIONS = 8
MOST_CHOICES = 128
MOST_DIMENSIONS = 8192


def answer(routes: Routes, request: Received, planes: frozenset[str]) -> Answer:
    """The routed answer, or what FastAPI says to an unknown path."""
    found = routes.find(request.method, request.path, planes)
    if found is not None:
        handler, segments = found
        return handler(request, segments)
    if routes.dangerous(request.path):
        return Whole(b"{}")
    return WRONG_METHOD if routes.knows(request.path) else NOT_FOUND


def authorised(request: Received, key: str) -> bool:
    return hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {key}".encode())


def json_answer(body: Json, **more: Json) -> Whole:
    return Whole(encode(body), **more)  # type: ignore[arg-type]


def spaced(body: Json) -> bytes:
    """JSON as Python's json.dumps writes it."""
    return json.dumps(body).encode()


def object_of(request: Received, fail: Fail) -> Object:
    """The request's JSON object. Errors: Refused with 400 for another content type or broken JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(fail(400, "Unsupported Media Type: Only 'application/json' is allowed", None))
    try:
        body = request.json()
    except msgspec.DecodeError:
        raise Refused(fail(400, invalid("json_invalid", "body", "JSON decode error"), "body")) from None
    if not isinstance(body, dict):
        raise Refused(fail(400, invalid("model_attributes_type", "body", "Input should be a valid dictionary"), "body"))
    return body


def invalid(kind: str, place: str, message: str) -> str:
    """One pydantic mistake as text."""
    return f"1 validation error:\n  {{'type': '{kind}', 'loc': '{place}', 'msg': '{message}', 'input': '<dict of 1 items>'}}"


def check_fields(body: Mapping[str, Json], fail: Fail, *, needed: str) -> None:
    """The field a request cannot lack, and the types and ranges that both engines refuse. Errors: Refused."""
    if needed not in body:
        raise Refused(fail(400, invalid("missing", f"body.{needed}", "Field required"), f"body.{needed}"))
    for kind, place, message in mistakes(body):
        raise Refused(fail(400, invalid(kind, place, message), place))
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = body.get(name)
        if isinstance(value, int) and value < 1:
            raise Refused(fail(400, f"{name} must be at least 1, got {value}.", name))
    many = body.get("n")
    if isinstance(many, int) and many > MOST_CHOICES:
        raise Refused(fail(400, f"n must be at most {MOST_CHOICES}, got {many}.", "n"))
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature < 0:
        raise Refused(fail(400, f"temperature must be non-negative, got {float(temperature)}.", "temperature"))


def inputs(body: Mapping[str, Json], vocabulary: tokens.Vocabulary) -> list[str]:
    """The texts of an embedding's input or of a completion's prompt; ids are decoded where they are known."""
    value = body.get("input", body.get("prompt"))
    return [text if isinstance(text, str) else vocabulary.decode(text) for text in prompts_of(value)]


def embeddings(texts: Sequence[str], body: Mapping[str, Json], order: tuple[str, ...]) -> list[Object]:
    """The data of an embedding answer, keys in the engine's order."""
    wanted = body.get("dimensions")
    dimensions = min(wanted, MOST_DIMENSIONS) if isinstance(wanted, int) and wanted > 0 else DEFAULT_DIMENSIONS
    found = []
    for index, text in enumerate(texts):
        values = tokens.vector(text, dimensions)
        coded: Json = tokens.vector_base64(values) if body.get("encoding_format") == "base64" else values
        fields: Object = {"index": index, "object": "embedding", "embedding": coded}
        found.append({name: fields[name] for name in order})
    return found


def ranked(body: Mapping[str, Json]) -> list[tuple[int, str, float]]:
    """(index, document, score), best first, at most top_n."""
    query = text_of(body.get("query"))
    documents = body.get("documents")
    texts = [document_text(item) for item in documents] if isinstance(documents, list) else []
    rows = [(index, text, tokens.relevance(query, text)) for index, text in enumerate(texts)]
    rows.sort(key=lambda row: -row[2])
    limit = body.get("top_n")
    return rows[:limit] if isinstance(limit, int) and limit > 0 else rows


def rerank_tokens(body: Mapping[str, Json]) -> int:
    documents = body.get("documents")
    texts = [document_text(item) for item in documents] if isinstance(documents, list) else []
    return sum(tokens.count(text_of(body.get("query"))) + tokens.count(text) for text in texts)


def document_text(item: Json) -> str:
    if isinstance(item, dict):
        item = item.get("text")
    return item if isinstance(item, str) else ""


def listed_models(names: Sequence[str], card: Callable[[str], Object]) -> Whole:
    return json_answer({"object": "list", "data": [card(name) for name in names]})
