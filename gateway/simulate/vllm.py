"""vLLM's wire, 0.9.2 to 0.33.0: routes, checks and errors. Shapes are in vllm_shapes, numbers in vllm_metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.simulate import fastapi, paths, tokens, vllm_metrics
from gateway.simulate.dialect import BUSINESS, Answer, Received, Refused, Routes, Stream, Whole, hex_id, now
from gateway.simulate.engine import Engine, Work
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
from gateway.simulate.settings import Settings
from gateway.simulate.sse import DONE, encode, event
from gateway.simulate.vllm_shapes import Chat, Completion, Era, StreamOptions, model_card, usage

BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
BROKEN = "EngineCore encountered an issue. See stack trace (above) for the root cause."
TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 503: "Service Unavailable"}


class Vllm:
    """The dialect of `vllm serve`."""

    stream_content_type = "text/event-stream; charset=utf-8"
    headers_first = True
    broken = BROKEN
    planes: tuple[str, ...] = (BUSINESS,)

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.era = Era(settings.release, settings.engine_version)
        self.routes = Routes(paths.INFERENCE["vllm"], paths.NEVER["vllm"])
        self.is_inference, self.dangerous = self.routes.is_inference, self.routes.dangerous
        for method, path, handler in (
            ("GET", "/v1/models", self._models),
            ("GET", "/health", self._health),
            ("GET", "/ping", self._health),
            ("GET", "/version", lambda *_: json_answer({"version": settings.engine_version})),
            ("GET", "/load", lambda *_: json_answer({"server_load": engine.running})),
            ("GET", "/metrics", lambda *_: vllm_metrics.page(engine)),
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/completions", self._completion),
            ("POST", "/v1/embeddings", self._embeddings),
            *(("POST", path, self._rerank) for path in ("/rerank", "/v1/rerank", "/v2/rerank")),
            *(("POST", path, self._score) for path in ("/score", "/v1/score")),
            ("POST", "/tokenize", self._tokenize),
            ("POST", "/detokenize", self._detokenize),
        ):
            self.routes.add(method, path, handler)

    def answer(self, request: Received, planes: frozenset[str]) -> Answer:
        key = self.settings.api_key
        if key and self.era.guarded(request.path) and not fastapi.authorised(request, key):
            return fastapi.UNAUTHORIZED
        return fastapi.answer(self.routes, request, planes)

    def headers(self, answer: Answer) -> Mapping[str, str]:
        return {"server": "uvicorn"}

    def queue_full(self, *, stream: bool) -> Answer | None:
        return self.failure(503, BUSY)

    def failure(self, status: int, message: str, param: str | None = None, kind: str | None = None) -> Whole:
        found = kind or ("Bad Request" if message.startswith("1 validation error") else TYPES.get(status, "InternalServerError"))
        error = {"message": message, "type": found, "param": param, "code": status}
        return Whole(encode({"error": error} if self.era.nested_errors else {"object": "error", **error}), status)

    def error_event(self, message: str) -> bytes:
        error = {"message": message or self.broken, "type": "InternalServerError", "param": None, "code": 500}
        return event({"error": error} if self.era.nested_errors else {"object": "error", **error}) + DONE

    def _models(self, request: Received, _: Mapping[str, str]) -> Whole:
        return fastapi.listed_models(self.settings.models, lambda name: model_card(name, self.settings.max_model_len))

    def _health(self, request: Received, _: Mapping[str, str]) -> Whole:
        return Whole(status=503 if self.engine.health == "down" else 200)

    def _chat(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="messages")
        self._check_chat(body)
        model = self._model(body)
        prompt = chat_tokens(body["messages"], body.get("tools"))
        tools, forced = tools_of(body)
        ask = Ask(
            text=last_user_text(body["messages"]),
            prompt_tokens=prompt,
            max_tokens=self._max_tokens(body, prompt),
            n=_int(body.get("n"), 1),
            ignore_eos=body.get("ignore_eos") is True,
            reasoning="" if thinking_off(body) else self.settings.reasoning,
            tools=tools,
            call_forced=forced,
            json_schema=schema_of(body),
            begun=begun_by(body),
            stop=stops_of(body),
        )
        choices = self.engine.replies(ask)
        shape = Chat(self.era, f"chatcmpl-{request.headers.get('x-request-id') or hex_id()}", now(), model, prompt)
        return self._deliver(request, body, shape, choices)

    def _completion(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="prompt")
        self._check_stream_options(body)
        model = self._model(body)
        choices: list[Reply] = []
        own: list[int] = []
        prompt = 0
        for text in fastapi.inputs(body, self.engine.vocabulary):
            length = tokens.count(text)
            # The completions API generates 16 tokens unless told otherwise.
            limit = self._max_tokens({"max_tokens": 16, **body}, length)
            before, begun = marked(text)
            eternal = body.get("ignore_eos") is True
            ask = Ask(before, length, limit, n=_int(body.get("n"), 1), ignore_eos=eternal, begun=begun, stop=stops_of(body))
            prompt += length
            choices += [replace(r, index=len(choices) + r.index) for r in self.engine.replies(ask)]
            own += [length] * (len(choices) - len(own))
        id = f"cmpl-{request.headers.get('x-request-id') or hex_id()}"
        shape = Completion(self.era, id, now(), model, prompt, tuple(own))
        return self._deliver(request, body, shape, choices)

    def _deliver(self, request: Received, body: Object, shape: Chat | Completion, choices: Sequence[Reply]) -> Answer:
        work = Work(shape.prompt_tokens, tuple(choice.finish for choice in choices))
        if body.get("stream") is True:
            return Stream(shape.events(choices, _stream_options(body)), work)
        load = {}
        if request.headers.get("endpoint-load-metrics-format", "").upper() == "TEXT":
            load["endpoint-load-metrics"] = vllm_metrics.orca(self.engine)
        lengths = [len(choice.parts) for choice in choices]
        return json_answer(shape.whole(choices), headers=load, work=work, tokens=sum(lengths), steps=max(lengths, default=0))

    def _check_chat(self, body: Object) -> None:
        self._check_stream_options(body)
        if body["messages"] == []:
            raise self._invalid("`messages` must not be empty.")
        wanted = body.get("response_format")
        if isinstance(wanted, dict) and wanted.get("type") == "json_schema" and not wanted.get("json_schema"):
            raise self._invalid("When response_format type is json_schema, the json_schema field must be provided.")
        if body.get("continue_final_message") is True and body.get("add_generation_prompt") is not False:
            raise self._invalid("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        if body.get("top_logprobs") and not body.get("logprobs"):
            raise self._invalid("when using `top_logprobs`, `logprobs` must be set to true.")
        if body.get("tools") == []:
            raise self._invalid("`tools` must not be an empty array.")
        if body.get("tool_choice") not in (None, "none") and not body.get("tools"):
            raise self._invalid("When using `tool_choice`, `tools` must be set.")

    def _check_stream_options(self, body: Object) -> None:
        if body.get("stream_options") and body.get("stream") is not True:
            raise self._invalid("Stream options can only be defined when `stream=True`.")

    def _invalid(self, message: str) -> Refused:
        return Refused(self.failure(400, fastapi.invalid("value_error", "body", f"Value error, {message}"), "body"))

    def _model(self, body: Object) -> str:
        model = body.get("model")
        if model in (None, "") and self.settings.models:
            return self.settings.models[0]
        if not isinstance(model, str) or model not in self.settings.models:
            aliases = f" Valid aliases: {', '.join(self.settings.models)}." if self.era.aliases_in_404 else ""
            raise Refused(self.failure(404, f"The model `{model}` does not exist.{aliases}", "model"))
        return model

    def _max_tokens(self, body: Mapping[str, Json], prompt: int) -> int:
        """How much may be generated. Errors: Refused when prompt and answer cannot fit."""
        room = self.settings.max_model_len - prompt
        wanted = body.get("max_completion_tokens") or body.get("max_tokens")
        if room <= 0 or (isinstance(wanted, int) and wanted > room):
            text = overflow(self.era, self.settings.max_model_len, prompt, wanted if isinstance(wanted, int) else 0)
            raise Refused(self.failure(400, text, "input_tokens" if self.era.release >= (0, 33) else None))
        return wanted if isinstance(wanted, int) else room

    def _embeddings(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="input")
        model = self._model(body)
        texts = fastapi.inputs(body, self.engine.vocabulary)
        spent = sum(map(tokens.count, texts))
        data = fastapi.embeddings(texts, body, ("index", "object", "embedding"))
        frame = {"id": f"embd-{hex_id()}", "object": "list", "created": now(), "model": model, "data": data}
        return json_answer({**frame, "usage": usage(self.era, spent, 0)}, work=Work(spent, ("stop",)))

    def _rerank(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="documents")
        model, spent = self._model(body), fastapi.rerank_tokens(body)
        results = [{"index": index, "document": {"text": text}, "relevance_score": score} for index, text, score in fastapi.ranked(body)]
        used = {"prompt_tokens": spent, "total_tokens": spent}
        frame = {"id": f"rerank-{hex_id()}", "model": model, "usage": used, "results": results}
        return json_answer(frame, work=Work(spent, ("stop",)))

    def _score(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        model = self._model(body)
        query, documents = body.get("text_1", body.get("queries")), body.get("text_2", body.get("documents"))
        texts = [fastapi.document_text(item) for item in (documents if isinstance(documents, list) else [documents])]
        data = [
            {"index": index, "object": "score", "score": tokens.relevance(fastapi.document_text(query), text)}
            for index, text in enumerate(texts)
        ]
        spent = sum(map(tokens.count, texts)) + tokens.count(fastapi.document_text(query)) * len(texts)
        frame = {"id": f"score-{hex_id()}", "object": "list", "created": now(), "model": model, "data": data}
        return json_answer({**frame, "usage": usage(self.era, spent, 0)}, work=Work(spent, ("stop",)))

    def _tokenize(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        fastapi.check_fields(body, self.failure, needed="messages" if "messages" in body else "prompt")
        self._model(body)
        prompt = body.get("prompt")
        text = prompt if isinstance(prompt, str) else last_user_text(body.get("messages"))
        ids = self.engine.vocabulary.encode(text)
        total = len(ids) if isinstance(prompt, str) else chat_tokens(body.get("messages"), body.get("tools"))
        ids += [0] * (total - len(ids))
        found: Object = {"count": total, "max_model_len": self.settings.max_model_len, "tokens": ids}
        return json_answer({**found, "token_strs": tokens.split(text) if body.get("return_token_strs") else None})

    def _detokenize(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = fastapi.object_of(request, self.failure)
        ids = body.get("tokens")
        known = [item for item in ids if isinstance(item, int)] if isinstance(ids, list) else []
        return json_answer({"prompt": self.engine.vocabulary.decode(known)})


def overflow(era: Era, limit: int, prompt: int, wanted: int) -> str:
    """The context-overflow text of each era, by whether the prompt alone is too long."""
    head = f"This model's maximum context length is {limit} tokens."
    alone = prompt >= limit
    if era.release < (0, 11):
        if alone and not wanted:
            return f"{head} However, you requested {prompt} tokens in the messages, Please reduce the length of the messages."
        total = f"{prompt + wanted} tokens ({prompt} in the messages, {wanted} in the completion)"
        return f"{head} However, you requested {total}. Please reduce the length of the messages or completion."
    if alone and era.release >= (0, 33):
        return (
            f"{head} However, your prompt contains {prompt} input tokens, which exceeds this limit even without any output"
            f" tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value={prompt})"
        )
    if alone:
        return f"{head} However, your request has {prompt} input tokens. Please reduce the length of the input messages."
    if era.release < (0, 18):
        room = f"your request has {prompt} input tokens ({wanted} > {limit} - {prompt})"
        return f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. {head[:-1]} and {room}."
    total = f"{prompt + wanted} tokens ({prompt} + {wanted} = {prompt + wanted} > {limit})"
    text = (
        f"{head} However, you requested {wanted} output tokens and your prompt contains {prompt} input tokens, for a total of"
        f" {total}. Please reduce the length of the input prompt or the number of requested output tokens."
    )
    return f"{text} (parameter=input_tokens, value={prompt})" if era.release >= (0, 33) else text


def _stream_options(body: Object) -> StreamOptions:
    options = body.get("stream_options")
    if not isinstance(options, dict):
        return StreamOptions()
    include = options.get("include_usage") is True
    return StreamOptions(include, include and options.get("continuous_usage_stats") is True)


def _int(value: Json, default: int) -> int:
    return value if isinstance(value, int) else default
