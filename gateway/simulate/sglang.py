"""SGLang 0.5.23's wire: routes, checks and errors. Shapes are in sglang_shapes, numbers in sglang_metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.simulate import fastapi, paths, sglang_metrics, tokens
from gateway.simulate.dialect import BUSINESS, Answer, Received, Refused, Routes, Stream, Whole, hex_id, now
from gateway.simulate.engine import KV_TOKENS, Engine, Work
from gateway.simulate.fastapi import Object, json_answer
from gateway.simulate.prompt import (
    Ask,
    Json,
    begun_by,
    chat_tokens,
    last_user_text,
    marked,
    schema_of,
    stops_of,
    thinking_off,
    tools_of,
)
from gateway.simulate.reply import Reply
from gateway.simulate.settings import Reasoning, Settings
from gateway.simulate.sglang_shapes import Chat, Completion, usage
from gateway.simulate.sse import DONE, Event
from gateway.simulate.vllm_shapes import StreamOptions

FULL = "The request queue is full."
BROKEN = "Internal server error"
STREAM_TYPES = {503: "SERVICE_UNAVAILABLE", 500: "INTERNAL_SERVER_ERROR"}
UNGUARDED = ("/health", "/ready", "/metrics")


class Sglang:
    """The dialect of `python -m sglang.launch_server`, metrics enabled."""

    stream_content_type = "text/event-stream; charset=utf-8"
    headers_first = False
    broken = BROKEN
    planes: tuple[str, ...] = (BUSINESS,)

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.routes = Routes(paths.INFERENCE["sglang"], paths.NEVER["sglang"])
        self.is_inference, self.dangerous = self.routes.is_inference, self.routes.dangerous
        for method, path, handler in (
            ("GET", "/", lambda *_: Whole(b"SGLang is running", content_type="text/plain; charset=utf-8")),
            *(("GET", path, self._health) for path in ("/health", "/health_generate", "/ready", "/ping")),
            *(("GET", path, self._model_info) for path in ("/model_info", "/get_model_info")),
            *(("GET", path, self._server_info) for path in ("/server_info", "/get_server_info")),
            ("GET", "/v1/loads", self._loads),
            ("GET", "/metrics", lambda *_: sglang_metrics.page(engine)),
            ("GET", "/v1/models", self._models),
            ("GET", "/v1/models/{model}", self._model_card),
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/completions", self._completion),
            ("POST", "/v1/embeddings", self._embeddings),
            ("POST", "/v1/rerank", self._rerank),
            *(("POST", path, self._tokenize) for path in ("/v1/tokenize", "/tokenize")),
            *(("POST", path, self._detokenize) for path in ("/v1/detokenize", "/detokenize")),
        ):
            self.routes.add(method, path, handler)

    def answer(self, request: Received, planes: frozenset[str]) -> Answer:
        key = self.settings.api_key
        if key and not request.path.startswith(UNGUARDED) and not fastapi.authorised(request, key):
            return fastapi.UNAUTHORIZED
        return fastapi.answer(self.routes, request, planes)

    def headers(self, answer: Answer) -> Mapping[str, str]:
        return {"server": "uvicorn"}

    def queue_full(self, *, stream: bool) -> Answer | None:
        if stream:
            return Stream(iter([Event(_stream_error(FULL, 503))]), None)
        return self.failure(503, FULL, kind="503")

    def failure(self, status: int, message: str, param: str | None = None, kind: str | None = None) -> Whole:
        found = kind or ("Bad Request" if message.startswith("1 validation error") else "BadRequestError")
        if status >= 500 and kind is None:
            found = "InternalServerError"
        # The flat errors name no parameter, whatever was wrong.
        return json_answer({"object": "error", "message": message, "type": found, "param": None, "code": status}, status=status)

    def error_event(self, message: str) -> bytes:
        return _stream_error(message or self.broken, 500)

    def _health(self, request: Received, _: Mapping[str, str]) -> Whole:
        return Whole(status=503 if self.engine.health == "down" else 200)

    def _model_info(self, request: Received, _: Mapping[str, str]) -> Whole:
        path = self.settings.models[0]
        return json_answer({"model_path": path, "tokenizer_path": path, "is_generation": True, "weight_version": "default"})

    def _server_info(self, request: Received, _: Mapping[str, str]) -> Whole:
        settings = self.settings
        arguments = {"model_path": settings.models[0], "served_model_name": settings.models[0], "host": settings.host}
        return json_answer({**arguments, "max_total_num_tokens": KV_TOKENS, "version": settings.engine_version})

    def _loads(self, request: Received, _: Mapping[str, str]) -> Whole:
        engine = self.engine
        load = {"dp_rank": 0, "num_running_reqs": engine.running, "num_waiting_reqs": engine.waiting}
        return json_answer({"loads": [{**load, "num_used_tokens": engine.kv_tokens, "token_usage": engine.kv_use}]})

    def _card(self, name: str) -> Object:
        card: Object = {"id": name, "object": "model", "created": now(), "owned_by": "sglang", "root": name, "parent": None}
        return {**card, "max_model_len": self.settings.max_model_len}

    def _models(self, request: Received, _: Mapping[str, str]) -> Whole:
        return fastapi.listed_models(self.settings.models, self._card)

    def _model_card(self, request: Received, segments: Mapping[str, str]) -> Whole:
        name = segments["model"]
        if name in self.settings.models:
            return json_answer(self._card(name))
        error = {"message": f"The model '{name}' does not exist", "type": "invalid_request_error", "param": "model"}
        return json_answer({"error": {**error, "code": "model_not_found"}}, status=404)

    def _chat(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="messages")
        if body["messages"] == []:
            raise Refused(self.failure(400, "Messages cannot be empty."))
        if body.get("tool_choice") == "required" and not body.get("tools"):
            raise Refused(self.failure(400, "Tools cannot be empty if tool choice is set to required."))
        prompt = chat_tokens(body["messages"], body.get("tools"))
        tools, forced = tools_of(body)
        ask = Ask(
            text=last_user_text(body["messages"]),
            prompt_tokens=prompt,
            max_tokens=self._max_tokens(body, prompt),
            n=_n(body),
            ignore_eos=body.get("ignore_eos") is True,
            reasoning=self._reasoning(body),
            tools=tools,
            call_forced=forced,
            json_schema=schema_of(body),
            begun=begun_by(body),
            stop=stops_of(body),
        )
        return self._deliver(body, Chat(hex_id(), now(), _model(body), prompt), self.engine.replies(ask))

    def _completion(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="prompt")
        choices: list[Reply] = []
        prompt = 0
        for text in fastapi.inputs(body, self.engine.vocabulary):
            length = tokens.count(text)
            limit = self._max_tokens({"max_tokens": 16, **body}, length)
            before, begun = marked(text)
            eternal = body.get("ignore_eos") is True
            ask = Ask(before, length, limit, n=_n(body), ignore_eos=eternal, begun=begun, stop=stops_of(body))
            prompt += length
            choices += [replace(r, index=len(choices) + r.index) for r in self.engine.replies(ask)]
        return self._deliver(body, Completion(hex_id(), now(), _model(body), prompt), choices)

    def _deliver(self, body: Object, shape: Chat | Completion, choices: Sequence[Reply]) -> Answer:
        work = Work(shape.prompt_tokens, tuple(choice.finish for choice in choices))
        if body.get("stream") is True:
            return Stream(shape.events(choices, _stream_options(body)), work)
        lengths = [len(choice.parts) for choice in choices]
        return json_answer(shape.whole(choices), work=work, tokens=sum(lengths), steps=max(lengths, default=0))

    def _reasoning(self, body: Object) -> Reasoning:
        if thinking_off(body) or not self.settings.reasoning:
            return ""
        return "inline" if body.get("separate_reasoning") is False else self.settings.reasoning

    def _max_tokens(self, body: Mapping[str, Json], prompt: int) -> int:
        """How much may be generated. Errors: Refused when prompt and answer cannot fit."""
        limit = self.settings.max_model_len
        wanted = body.get("max_completion_tokens") or body.get("max_tokens")
        if prompt >= limit:
            text = f"The input ({prompt} tokens) is longer than the model's context length ({limit} tokens)."
            raise Refused(self.failure(400, text))
        if not isinstance(wanted, int):
            return limit - prompt
        if wanted > limit:
            text = f"max_completion_tokens is too large: {wanted}.This model supports at most {limit} completion tokens."
            raise Refused(self.failure(400, text))
        if prompt + wanted > limit:
            raise Refused(self.failure(400, overflow(limit, prompt, wanted)))
        return wanted

    def _embeddings(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="input")
        texts = fastapi.inputs(body, self.engine.vocabulary)
        spent = sum(map(tokens.count, texts))
        data = fastapi.embeddings(texts, body, ("embedding", "index", "object"))
        frame = {"data": data, "model": _model(body), "object": "list", "usage": usage(spent, 0)}
        return json_answer(frame, work=Work(spent, ("stop",)))

    def _rerank(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="documents")
        spent = fastapi.rerank_tokens(body)
        rows = [
            {"score": score, "document": text, "index": index, "meta_info": {"id": hex_id(), "prompt_tokens": tokens.count(text)}}
            for index, text, score in fastapi.ranked({**body, "top_n": None})  # all of them, whatever was asked for
        ]
        return json_answer(rows, work=Work(spent, ("stop",)))

    def _tokenize(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="prompt")
        prompt = body.get("prompt")
        ids = self.engine.vocabulary.encode(prompt if isinstance(prompt, str) else "")
        return json_answer({"tokens": ids, "count": len(ids), "max_model_len": self.settings.max_model_len})

    def _detokenize(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        ids = body.get("tokens")
        known = [item for item in ids if isinstance(item, int)] if isinstance(ids, list) else []
        return json_answer({"text": self.engine.vocabulary.decode(known)})


def overflow(limit: int, prompt: int, wanted: int) -> str:
    return (
        f"Requested token count exceeds the model's maximum context length of {limit} tokens. You requested a total of"
        f" {prompt + wanted} tokens: {prompt} tokens from the input messages and {wanted} tokens for the completion. Please"
        " reduce the number of tokens in the input messages or the completion to fit within the limit."
    )


def _stream_error(message: str, status: int) -> bytes:
    """Written by json.dumps in the engine, hence the spaces."""
    error: Object = {"object": "error", "message": message, "type": STREAM_TYPES.get(status, "BadRequestError")}
    return b"data: " + fastapi.spaced({"error": {**error, "param": None, "code": status}}) + b"\n\n" + DONE


def _model(body: Object) -> str:
    """SGLang serves and echoes any name."""
    model = body.get("model")
    return model if isinstance(model, str) else "default"


def _n(body: Object) -> int:
    value = body.get("n")
    return value if isinstance(value, int) else 1


def _stream_options(body: Object) -> StreamOptions:
    options = body.get("stream_options")
    if not isinstance(options, dict):
        return StreamOptions()
    include = options.get("include_usage") is True
    return StreamOptions(include, options.get("continuous_usage_stats") is True)
