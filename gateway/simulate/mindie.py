"""MindIE-LLM Server's wire, 3.0.0 and before: three planes, 422/424 errors, no API key, no 429."""

import json
import time
from collections.abc import Mapping

import msgspec

from gateway.simulate import mindie_checks, mindie_metrics, paths, tokens
from gateway.simulate.dialect import BUSINESS, Answer, Received, Refused, Routes, Stream, Whole, hex_id, now
from gateway.simulate.engine import Engine, Work
from gateway.simulate.mindie_manage import MANAGEMENT, Management
from gateway.simulate.mindie_shapes import Chat, Completion
from gateway.simulate.prompt import Ask, Json, chat_tokens, last_user_text, schema_of, stops_of, thinking_off, tools_of
from gateway.simulate.settings import Settings
from gateway.simulate.sse import encode

METRICS = "metrics"
BODY_LIMIT = 40 * 1024 * 1024
TOO_LARGE = Whole(b'{"message":"Request body too large. Maximum allowed size is 40MB."}', 413)
NOT_JSON = "Failed to parse request context to json"
TIMEOUT = "Engine callback timeout: server tokenTimeout"
ERROR_TYPES = {
    404: "NotFoundError",
    422: "Input Validation Error",
    424: "Generation Error",
    500: "Incomplete Generation",
    503: "Service Unavailable",
}

Object = dict[str, Json]


class Mindie:
    """The dialect of mindie_llm_server (`openAiSupport: vllm`)."""

    stream_content_type = "text/event-stream"
    headers_first = False
    broken = TIMEOUT
    planes: tuple[str, ...] = (BUSINESS, MANAGEMENT, METRICS)

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.management = Management(engine)
        self.routes = Routes(paths.INFERENCE["mindie"], paths.NEVER["mindie"])
        self.is_inference, self.dangerous = self.routes.is_inference, self.routes.dangerous
        add = self.routes.add
        add("GET", "/v1/models", self._models)
        add("GET", "/v1/models/{model}", self._model_card)
        add("GET", "/v2", lambda *_: Whole(encode({"name": "MindIE Server", "version": settings.engine_version, "extensions": []})))
        add("GET", "/v2/models/{model}", self._triton_model)
        add("GET", "/v2/models/{model}/config", self._known_model)
        add("POST", "/v1/chat/completions", self._chat)
        add("POST", "/v1/completions", self._completion)
        add("POST", "/v1/tokenizer", self._tokenizer)
        add("POST", "/generate", self._generate)
        add("GET", "/metrics", lambda *_: mindie_metrics.page(engine), METRICS)
        self.management.add_to(self.routes)

    def answer(self, request: Received, planes: frozenset[str]) -> Answer:
        if len(request.body) > BODY_LIMIT:
            return TOO_LARGE
        found = self.routes.find(request.method, request.path, planes)
        if found is not None:
            handler, segments = found
            return handler(request, segments)
        timed = self.management.timed(request.path) if MANAGEMENT in planes and request.method == "GET" else None
        return timed or (Whole(b"{}") if self.dangerous(request.path) else Whole(status=404))

    def headers(self, answer: Answer) -> Mapping[str, str]:
        stamps = {"RequestUUID": hex_id(), "startTime": str(time.time_ns())}
        return stamps if isinstance(answer, Stream) else {**stamps, "Connection": "close"}

    def queue_full(self, *, stream: bool) -> Answer | None:
        return None

    def failure(self, status: int, message: str) -> Whole:
        kind = ERROR_TYPES.get(status, "Incomplete Generation")
        return Whole(encode({"error": message, "error_type": kind}), status)

    def error_event(self, message: str) -> bytes:
        return (message or self.broken).encode()

    def _models(self, request: Received, _: Mapping[str, str]) -> Whole:
        if self.settings.release < (3,):
            return Whole(encode({"object": "list", "data": [self._card(name) for name in self.settings.models]}))
        data = [
            {"id": name, "object": "model", "owned_by": "MindIE Server", "parent": "null", "root": name} for name in self.settings.models
        ]
        return Whole(json.dumps({"data": data, "object": "list"}, indent=4, ensure_ascii=False).encode())

    def _card(self, name: str) -> Object:
        return {"id": name, "object": "model", "created": now(), "owned_by": "MindIE Server"}

    def _model_card(self, request: Received, segments: Mapping[str, str]) -> Whole:
        name = segments["model"]
        return Whole(encode(self._card(name))) if name in self.settings.models else self._no_model(name)

    def _triton_model(self, request: Received, segments: Mapping[str, str]) -> Whole:
        name = segments["model"]
        facts = {"name": name, "versions": ["1"], "platform": "MindIE Server", "inputs": [], "outputs": []}
        return Whole(encode(facts)) if name in self.settings.models else self._no_model(name)

    def _known_model(self, request: Received, segments: Mapping[str, str]) -> Whole:
        name = segments["model"]
        return self.management.model_config(request, segments) if name in self.settings.models else self._no_model(name)

    def _no_model(self, name: str) -> Whole:
        return self.failure(404, f"Model {name} not found.")

    def _object(self, request: Received) -> Object:
        try:
            body = request.json()
        except msgspec.DecodeError:
            raise Refused(self.failure(422, NOT_JSON)) from None
        if not isinstance(body, dict):
            raise Refused(self.failure(422, NOT_JSON))
        return body

    def _refuse(self, mistake: str | None) -> None:
        if mistake:
            raise Refused(self.failure(422, mistake))

    def _chat(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = self._object(request)
        self._refuse(None if body.get("model") in self.settings.models else "Model not found")
        self._refuse(mindie_checks.chat(body) or mindie_checks.parameters(body))
        prompt = chat_tokens(body["messages"], body.get("tools"))
        tools, wanted = tools_of(body)
        ask = Ask(
            text=last_user_text(body["messages"]),
            prompt_tokens=prompt,
            max_tokens=self._max_tokens(body.get("max_tokens"), prompt),
            n=_int(body.get("n"), 1),
            ignore_eos=body.get("ignore_eos") is True,
            reasoning="" if thinking_off(body) else self.settings.reasoning,
            tools=tools,
            # The engine does not enforce tool_choice; this model simply obeys.
            call_forced=wanted,
            json_schema=schema_of(body) if self.settings.release >= (3,) else None,
            stop=stops_of(body),
        )
        frame = Chat(self._id(request), now(), str(body["model"]), prompt, self.settings.release >= (2, 2))
        return self._deliver(body, frame, ask)

    def _completion(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = self._object(request)
        self._refuse(None if body.get("model") in self.settings.models else "Model not found")
        text = body.get("prompt")
        if not isinstance(text, str) or not text:
            raise Refused(self.failure(422, "prompt must be string type."))
        self._refuse(mindie_checks.parameters(body))
        prompt = tokens.count(text)
        limit = self._max_tokens(body.get("max_tokens"), prompt)
        eternal = body.get("ignore_eos") is True
        ask = Ask(text, prompt, limit, n=_int(body.get("n"), 1), ignore_eos=eternal, stop=stops_of(body))
        return self._deliver(body, Completion(self._id(request), now(), str(body["model"]), prompt), ask)

    def _deliver(self, body: Object, shape: Chat | Completion, ask: Ask) -> Answer:
        choices = self.engine.replies(ask)
        work = Work(ask.prompt_tokens, tuple(choice.finish for choice in choices))
        if body.get("stream") is True:
            return Stream(shape.events(choices), work)
        lengths = [len(choice.parts) for choice in choices]
        return Whole(encode(shape.whole(choices)), work=work, tokens=sum(lengths), steps=max(lengths))

    def _generate(self, request: Received, _: Mapping[str, str]) -> Answer:
        """`prompt`: vLLM's own API; `inputs`: TGI's."""
        body = self._object(request)
        text = body.get("prompt", body.get("inputs"))
        if not isinstance(text, str) or not text:
            raise Refused(self.failure(422, '{"Error": "prompt or inputs must be string type."}'))
        options = body.get("parameters")
        wanted = options.get("max_new_tokens") if isinstance(options, dict) else body.get("max_tokens")
        prompt = tokens.count(text)
        choice = self.engine.replies(Ask(text, prompt, self._max_tokens(wanted, prompt)))[0]
        said = choice.text("content")
        answer: Json = {"text": [text + said]} if "prompt" in body else {"generated_text": said}
        return Whole(encode(answer), work=Work(prompt, (choice.finish,)), tokens=len(choice.parts), steps=len(choice.parts))

    def _tokenizer(self, request: Received, _: Mapping[str, str]) -> Answer:
        body = self._object(request)
        text = body.get("inputs")
        self._refuse(None if isinstance(text, str) and text else "inputs must be string type.")
        pieces = tokens.split(str(text))
        found: Object = {"token_number": len(pieces)}
        return Whole(encode({**found, "tokens": pieces} if body.get("do_decode") is not False else found))

    def _max_tokens(self, wanted: Json, prompt: int) -> int:
        """Always capped by maxIterTimes and by what is left of maxSeqLen. Errors: Refused, 424."""
        settings = self.settings
        head = "Failed to enqueue inferRequest. This model's maximum input ids length cannot be greater than"
        if settings.max_input_len and prompt > settings.max_input_len:
            raise Refused(self.failure(424, f"{head} {settings.max_input_len},the input ids length is {prompt}"))
        if prompt >= settings.max_model_len:
            raise Refused(self.failure(424, f"{head} maxSeqLen {settings.max_model_len},the input ids length is {prompt}"))
        limit = min(settings.max_iter_times, settings.max_model_len - prompt)
        return min(wanted, limit) if isinstance(wanted, int) else limit

    def _id(self, request: Received) -> str:
        return request.headers.get("req-id") or f"endpoint_common_{self.engine.number()}"


def _int(value: Json, default: int) -> int:
    return value if isinstance(value, int) else default
