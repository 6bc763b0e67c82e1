"""Which engine answers at an address? Says what to ask and judges the answers; asking is done elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.engine.base import Detected
from gateway.engine.family import DIALECTS
from gateway.wire.openai import MalformedJson, value_of


@dataclass(frozen=True, slots=True)
class Question:
    """One GET. plane: which of the channel's addresses is asked; a plane without an address of its own is not asked."""

    name: str
    path: str
    plane: str = "business"


QUESTIONS: Final = (
    Question("models", "/v1/models"),
    Question("version", "/version"),
    Question("server_info", "/server_info"),
    Question("get_server_info", "/get_server_info"),
    Question("v2", "/v2"),
    Question("unknown", "/gateway-asks-who-you-are"),
    Question("management", "/", "management"),
)
"""In this order. `enough` says when the rest need not be asked. None of them changes anything at any engine."""

Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers (names in lower case), body."""

Observations = Mapping[str, Answer | str]
"""Question's name → its answer, or the error's text when there was none (as a TLS alert's)."""

_OWNERS: Final = {
    "vllm": "vllm",
    "sglang": "sglang",
    "nvidia": "sglang",
    "mindie server": "mindie",
    "motor": "vllm",  # PyMotor stands before vLLM-Ascend, and its payloads are vLLM's
    "llamacpp": "openai",
}


_SGLANG: Final = {"version", "model_path", "tokenizer_path", "served_model_name", "internal_states", "max_total_num_tokens"}
"""Names in SGLang's server info, any of which tells it from a server that answers everything."""


def enough(seen: Observations) -> bool:
    """Has the model list named its engine already?"""
    return _by_owner(seen, []) is not None


def detect(seen: Observations) -> Detected:
    """The engine, its version and models as far as the answers tell; with one line of evidence for each question."""
    found = Detected()
    lines = found.evidence
    found.engine = _by_owner(seen, lines) or _by_version(seen, lines) or _by_manners(seen, lines)
    found.version = _version(seen)
    answer = seen.get("models")
    if isinstance(answer, tuple) and answer[0] == 200:
        try:
            found.models = DIALECTS[found.engine or "openai"].models(answer[2])
        except ValueError:
            lines.append("/v1/models: the answer is no model list")
        if found.engine is None and found.models:
            found.engine = "openai"
            lines.append("/v1/models: a model list of an engine unknown to us: generic openai")
    for question in QUESTIONS:
        said = seen.get(question.name)
        if isinstance(said, str):
            lines.append(f"{question.path}: {_plainly(said)}")
    return found


def _by_owner(seen: Observations, lines: list[str]) -> str | None:
    data = _object(seen, "models").get("data")
    owners = {str(item.get("owned_by")) for item in data if isinstance(item, dict)} if isinstance(data, list) else set()
    for owner in sorted(owners):
        if engine := _OWNERS.get(owner.lower()):
            lines.append(f"/v1/models: owned_by is {owner!r}: {engine}")
            return engine
    return None


def _by_version(seen: Observations, lines: list[str]) -> str | None:
    """`/version` before `/server_info`: vLLM in development mode has both."""
    if isinstance(_object(seen, "version").get("version"), str):
        lines.append("/version: names a version: vllm")
        return "vllm"
    for name in ("server_info", "get_server_info"):
        if _SGLANG & _object(seen, name).keys():
            lines.append(f"/{name}: answers, and /version does not: sglang")
            return "sglang"
    return None


def _by_manners(seen: Observations, lines: list[str]) -> str | None:
    """MindIE and its coordinators by their headers, names and silences."""
    if _object(seen, "v2").get("name") == "MindIE Server":
        lines.append("/v2: its name is 'MindIE Server': mindie")
        return "mindie"
    if _object(seen, "management").get("service") == "Motor Coordinator Server":
        lines.append("management /: 'Motor Coordinator Server' (PyMotor before vLLM): vllm")
        return "vllm"
    for question in QUESTIONS:
        answer = seen.get(question.name)
        if not isinstance(answer, tuple):
            continue
        headers = answer[1]
        if headers.get("server") == "MindIE-MS":
            lines.append(f"{question.path}: the header `Server: MindIE-MS` (Motor's coordinator): mindie")
            return "mindie"
        if "requestuuid" in headers and "server" not in headers:
            lines.append(f"{question.path}: a header `RequestUUID` and no `Server`: mindie")
            return "mindie"
    return None


def _version(seen: Observations) -> str | None:
    for name in ("version", "server_info", "get_server_info", "v2"):
        version = _object(seen, name).get("version")
        if isinstance(version, str):
            return version
    return None


def _object(seen: Observations, name: str) -> dict[str, object]:
    """The answer to a question, if it is 200 and a JSON object."""
    answer = seen.get(name)
    if not isinstance(answer, tuple) or answer[0] != 200:
        return {}
    try:
        value = value_of(answer[2])
    except MalformedJson:
        return {}
    return value if isinstance(value, dict) else {}


def _plainly(error: str) -> str:
    if "certificate required" in error.lower().replace("_", " "):
        return "the TLS handshake asks for a client certificate, as MindIE does by default: set the channel's tls.cert and tls.key"
    return error
