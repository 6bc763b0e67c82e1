"""What a decision may look at of one request. Values are handed in or read once from its JSON, and only when a rule or policy asks."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw

from gateway.route.message import Message, messages_of, tool_names_of, value_of

Text = str | list[Any] | None
TEXTS: Final = ("prompt", "input", "query", "documents", "text_1", "text_2")
"""Fields of APIs without messages that hold the prompt."""
PROMPT: Final = ("messages", *TEXTS, "tools")
"""All fields that hold the prompt."""
JOINED_MOST: Final = 8 << 20
"""Characters of texts that were joined; so many are counted at most."""
_SYSTEM: Final = ("system", "developer")


class Ask:
    """One request, before it is decided. now: monotonic seconds; at: Unix seconds; luck: 0 ≤ luck < 1, drawn for this request."""

    __slots__ = (
        "_all", "_last_user", "_messages", "_system", "_tools", "api", "at", "by", "fields", "headers", "key", "luck", "max_tokens",
        "model", "now", "once", "only", "project", "size", "stream", "sure", "tenant", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        *,
        api: str,
        model: str,
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
        tenant: str = "",
        project: str = "",
        key: str = "",
        fields: Mapping[str, Raw] | None = None,
        max_tokens: int = 0,
        size: int | None = None,
        now: float = 0.0,
        at: float = 0.0,
        luck: float = 0.0,
        tokens: int | None = None,
    ) -> None:
        """headers: looked up in any case, as aiohttp's are. max_tokens: 0 = none named. size: bytes of the body.

        tokens: the prompt's, None = not counted. `sure` is set beside it when they were: so many the prompt has at least.
        """
        self.api, self.model, self.stream = api, model, stream
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.tenant, self.project, self.key = tenant, project, key
        self.fields: Mapping[str, Raw] = fields if fields is not None else {}
        self.max_tokens = max_tokens
        self.size = self.prompt_bytes if size is None else size
        self.now, self.at, self.luck, self.tokens = now, at, luck, tokens
        self.sure = 0
        self.by = ""
        """The model whose tokenizer is to count them, where a rule has led to another model; "" = the one that is asked."""
        self.only: frozenset[Any] | None = None
        """The ways that can take it, when others of the tree cannot: turns are shared among these. None = all can, or nobody looked."""
        self.once: dict[Any, Any] = {}
        """What conditions found out of this request, by what found it: kept for the next rule that asks the same."""
        self._messages: list[Message] | None = None
        self._all: list[str] | None = None
        self._system: str | None = None
        self._last_user: str | None = None
        self._tools: list[str] | None = None

    def note(self, tokenizer: str, tokens: int, sure: int) -> None:
        """They were counted. tokenizer: by which, as `Route.tokenizer` names it."""
        self.once["counted", tokenizer] = tokens, sure

    def count_by(self, tokenizer: str) -> None:
        """From now on that one's count is the prompt's length; not counted, if it was not asked yet."""
        self.tokens, self.sure = self.once.get(("counted", tokenizer), (None, 0))

    # -- the prompt -------------------------------------------------------------------------------------------------

    @property
    def prompt_bytes(self) -> int:
        """Bytes of JSON that hold the prompt: an upper bound of its text, read without decoding anything."""
        return sum(len(memoryview(self.fields[name])) for name in PROMPT if name in self.fields)

    @property
    def messages(self) -> list[Message]:
        """A chat's messages; empty when there are none, or none that can be read."""
        if self._messages is None:
            self._messages = messages_of(self.fields.get("messages"))
        return self._messages

    @property
    def texts(self) -> list[str]:
        """Every text of the prompt, in order: all messages' text parts, or those of TEXTS."""
        if self._all is None:
            found = [text for message in self.messages for text in texts_of(message.content)]
            for name in TEXTS:
                if name in self.fields:
                    found += texts_of(value_of(self.fields[name]))
            self._all = found
        return self._all

    @property
    def units(self) -> list[str]:
        """What an engine reads one by one, of APIs without messages: each prompt, each input, each document with the query,
        each pair of a score."""
        query = "".join(self._texts_at("query"))
        for name in ("documents", "prompt", "input"):
            if found := self._texts_at(name):
                return _joined([query], found) if query else found
        return _joined(self._texts_at("text_1"), self._texts_at("text_2")) or ["\n".join(self.texts)]

    def _texts_at(self, name: str) -> list[str]:
        return texts_of(value_of(self.fields[name])) if name in self.fields else []

    @property
    def last_user(self) -> str:
        """The text of the last message whose role is user; of other APIs the whole prompt."""
        if self._last_user is None:
            last = next((message for message in reversed(self.messages) if message.role == "user"), None)
            self._last_user = "\n".join(texts_of(last.content)) if last else "" if self.messages else "\n".join(self.texts)
        return self._last_user

    @property
    def system(self) -> str:
        """The text of all system and developer messages."""
        if self._system is None:
            self._system = "\n".join(text for message in self.messages if message.role in _SYSTEM for text in texts_of(message.content))
        return self._system

    @property
    def tool_names(self) -> list[str]:
        """Names of the functions that the request offers, by `tools` or the older `functions`."""
        if self._tools is None:
            self._tools = tool_names_of(self.fields.get("tools")) + tool_names_of(self.fields.get("functions"))
        return self._tools

    def has_images(self) -> bool:
        """Whether any message has a part that is an image."""
        return any(
            isinstance(part, dict) and str(part.get("type", "")).startswith(("image", "input_image"))
            for message in self.messages
            if isinstance(message.content, list)
            for part in message.content
        )

    def field(self, path: tuple[str, ...]) -> Any:
        """A value inside the request by its path (`metadata`, `kind`; digits index lists); None = it is not there."""
        if not path or path[0] not in self.fields:
            return None
        if path in self.once:
            return self.once[path]
        found = self.once[path] = self._at(path)
        return found

    def _at(self, path: tuple[str, ...]) -> Any:
        value = value_of(self.fields[path[0]])
        for step in path[1:]:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
                value = value[int(step)]
            else:
                return None
        return value


def _joined(first: list[str], second: list[str]) -> list[str]:
    """Each text with its own before it, or with the only one there is, the longest first; as many as may count, since a long query
    before each of many documents would be far more than was sent."""
    if len(first) == 1:
        first = first * len(second)
    found, room = [], JOINED_MOST
    for one, other in sorted(zip(first, second, strict=False), key=lambda pair: -len(pair[0]) - len(pair[1])):
        if room <= 0:
            break
        found.append(f"{one}\n{other}")
        room -= len(found[-1])
    return found


def texts_of(content: Any) -> list[str]:
    """The texts of a message's content (a string, or parts), of a prompt, or of a list of them."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    found = []
    for part in content:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            found.append(part["text"])
    return found
