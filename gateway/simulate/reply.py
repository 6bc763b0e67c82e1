"""What the simulated model answers: a pure function of the request. An echo of the prompt, then filler.

The echo lets a test find its own canary in its own answer, and notice somebody else's.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.simulate import tokens
from gateway.simulate.prompt import Ask, Json, Tool

PartKind = Literal["reasoning", "content", "call", "arguments"]
ECHO_LIMIT = 256
_FILLER = tuple(
    re.findall(
        r"\w+",
        "and so the model goes on with plain words that mean little yet always come in the same order for one prompt"
        " because a test must know what to expect while a reader sees at once that nobody thought about it",
    )
)


class Part(NamedTuple):
    """One token of an answer and the place it belongs to."""

    kind: PartKind
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice of an answer, token by token."""

    index: int
    parts: tuple[Part, ...]
    finish: str
    stopped: str | None = None
    """The text of `stop` that ended it."""

    def text(self, kind: PartKind) -> str:
        return "".join(part.text for part in self.parts if part.kind == kind)

    def count(self, kind: PartKind) -> int:
        return sum(1 for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> bool:
        return any(part.kind == "call" for part in self.parts)


def replies(ask: Ask, *, reply_tokens: int, seed: int) -> list[Reply]:
    """The choices of one answer; each has its own filler and its own length."""
    return [_reply(ask, index, reply_tokens + index, seed) for index in range(ask.n)]


def rounds(choices: Sequence[Reply]) -> Iterator[tuple[int, Reply, Part, bool]]:
    """The order in which a stream carries the tokens: (step, choice, token, is it the choice's last one?)."""
    longest = max((len(choice.parts) for choice in choices), default=0)
    for step in range(longest):
        for choice in choices:
            if step < len(choice.parts):
                yield step, choice, choice.parts[step], step == len(choice.parts) - 1


def _reply(ask: Ask, index: int, natural: int, seed: int) -> Reply:
    parts = [Part("reasoning" if ask.reasoning == "field" else "content", piece) for piece in _thoughts(ask)]
    tool = _tool_to_call(ask)
    if tool is not None:
        arguments = json.dumps(sample(tool.parameters, ask.text), ensure_ascii=False)
        parts += [Part("call", tool.name), *(Part("arguments", piece) for piece in tokens.split(arguments))]
    elif ask.json_schema is not None:
        text = json.dumps(sample(ask.json_schema, ask.text), ensure_ascii=False)
        parts += [Part("content", piece) for piece in tokens.split(text)]
    else:
        parts += _words(ask, index, natural, len(parts), seed)
    parts = parts[_begun(parts, ask.begun) :] or [Part("content", "")]  # of an answer that is whole already comes its end, a token as well
    cut = len(parts) > ask.max_tokens or (ask.ignore_eos and tool is None)
    finish = "length" if cut else "tool_calls" if tool is not None else "stop"
    kept, stopped = _until(parts[: ask.max_tokens], ask.stop)
    return Reply(index, tuple(kept), "stop" if stopped else finish, stopped)


def _until(parts: list[Part], stop: Sequence[str]) -> tuple[list[Part], str | None]:
    """The tokens up to the one that completes a text of `stop`, which is not shown, and that text. Only content is looked at."""
    text = ""
    for number, part in enumerate(parts):
        if part.kind != "content":
            continue
        before, text = text, text + part.text
        at, stopped = min(((text.find(one), one) for one in stop if one in text), default=(-1, None))
        if stopped is not None:
            return [*_shortened(parts[:number], len(before) - at), Part("content", text[len(before) : at])], stopped
    return parts, None


def _shortened(parts: list[Part], less: int) -> list[Part]:
    """Without the last `less` characters of content: they turned out to begin what is not shown."""
    kept = list(parts)
    for number in range(len(kept) - 1, -1, -1):
        if less > 0 and kept[number].kind == "content":
            text = kept[number].text
            kept[number] = Part("content", text[: max(0, len(text) - less)])
            less -= len(text)
    return kept


def _begun(parts: Sequence[Part], begun: str) -> int:
    """How many tokens of the reply its given beginning holds; of one that is no beginning of this reply, none."""
    text = ""
    for number, part in enumerate(parts):
        if text == begun:
            return number
        text += part.text
    return len(parts) if text == begun else 0


def _words(ask: Ask, index: int, natural: int, spent: int, seed: int) -> list[Part]:
    echo = tokens.split(ask.text)
    if len(echo) > ECHO_LIMIT:
        echo = [*echo[: ECHO_LIMIT // 2], " ...", *echo[-ECHO_LIMIT // 2 :]]
    wanted = ask.max_tokens + tokens.count(ask.begun) - spent if ask.ignore_eos else natural
    choose = random.Random(f"{seed}:{index}:{ask.text}")
    filler = (" " + choose.choice(_FILLER)[:6] for _ in range(max(0 if echo else 1, wanted - len(echo))))
    return [Part("content", piece) for piece in (*echo, *filler)]


def _thoughts(ask: Ask) -> list[str]:
    if not ask.reasoning:
        return []
    thought = f"The user says: {''.join(tokens.split(ask.text)[:8])}. I answer that."
    return tokens.split(f"<think>\n{thought}\n</think>\n\n" if ask.reasoning == "inline" else thought)


def _tool_to_call(ask: Ask) -> Tool | None:
    if ask.call_forced:
        return ask.tools[0] if ask.tools else None
    return next((tool for tool in ask.tools if tool.name in ask.text), None)


def sample(schema: Json, text: str) -> Json:
    """A small value that a JSON schema accepts; free strings carry the prompt's text. Not a full schema engine."""
    if not isinstance(schema, dict) or not (schema.keys() & {"type", "properties", "enum", "const", "anyOf"}):
        return {"answer": text}
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if isinstance(schema.get("anyOf"), list) and schema["anyOf"]:
        return sample(schema["anyOf"][0], text)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "object":
        properties = schema.get("properties")
        return {name: sample(inner, text) for name, inner in properties.items()} if isinstance(properties, dict) else {}
    if kind == "array":
        return [sample(schema["items"], text)] if "items" in schema else []
    return {"string": text, "integer": 1, "number": 1.0, "boolean": True}.get(str(kind))
