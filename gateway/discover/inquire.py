"""The conversation of a whole probe: engine/detect's questions, then version and context lengths. Decides only when to stop asking."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from gateway.discover.ask import Asker
from gateway.discover.finding import NO_LIST, ModelSeen, Probe, unusable
from gateway.discover.trouble import Trouble
from gateway.engine.base import Detected
from gateway.engine.detect import QUESTIONS, Answer, detect, enough
from gateway.engine.family import DIALECTS

MOST_MODELS: Final = 4
"""Models whose context length is asked for one by one."""

Seen = dict[str, Answer | str]


async def inquire(found: Probe, askers: Mapping[str, Asker], engine: str | None) -> None:
    """Fills `found` with what the engine answers."""
    seen: Seen = {}
    for question in QUESTIONS:
        if question.plane in askers:
            answer = await askers[question.plane].get(question.path)
            if isinstance(answer, Trouble):
                seen[question.name] = answer.text
                if question.name == QUESTIONS[0].name:
                    found.error, found.trouble = answer.text, answer.kind
                    found.reachable = answer.kind == "large"
                if answer.kind == "timeout" or not found.reachable:
                    break  # it would be silent again
            else:
                seen[question.name] = answer
                found.reachable = True
            if enough(seen) or (engine and question.name == QUESTIONS[0].name and _status(seen) == 200):
                break
    found.status = _status(seen)
    found.engine = detect(seen).engine or (engine if found.status == 200 else None)
    if found.reachable and found.engine:
        await _version(seen, askers, found.engine)
    said = detect(seen)
    found.version, found.evidence = said.version, said.evidence
    if found.engine:
        found.models = await _models(said, askers, found.engine)
    if found.error is None:
        found.error = _mistake(seen, found.engine)


async def _version(seen: Seen, askers: Mapping[str, Asker], engine: str) -> None:
    path = DIALECTS[engine].planes.version
    question = next((one for one in QUESTIONS if one.path == path and one.plane == "business"), None)
    if question is not None and question.name not in seen:
        answer = await askers["business"].get(question.path)
        if not isinstance(answer, Trouble):
            seen[question.name] = answer


async def _models(said: Detected, askers: Mapping[str, Asker], engine: str) -> list[ModelSeen]:
    """The models; their context lengths are asked for where the list has none."""
    planes = DIALECTS[engine].planes
    found = []
    for number, model in enumerate(said.models):
        length = model.context_length
        if length is None and planes.context and number < MOST_MODELS:
            length = await _context_length(askers, engine, planes.context.replace("{model}", quote(model.id, safe="")))
        found.append(ModelSeen(id=model.id, context_length=length))
    return found


async def _context_length(askers: Mapping[str, Asker], engine: str, path: str) -> int | None:
    """From the business plane, else from the management plane's /info."""
    for plane, asked in (("business", path), ("management", "/info")):
        answer = await askers[plane].get(asked) if plane in askers else None
        if isinstance(answer, tuple) and answer[0] == 200:
            length = DIALECTS[engine].context(answer[2])
            if length is not None:
                return length
    return None


def _status(seen: Seen) -> int:
    answer = seen.get(QUESTIONS[0].name)
    return answer[0] if isinstance(answer, tuple) else 0


def _mistake(seen: Seen, engine: str | None) -> str | None:
    """What is wrong with an address that answers; None: nothing."""
    answer = seen.get(QUESTIONS[0].name)
    if not isinstance(answer, tuple):
        return None
    status, headers, body = answer
    if status != 200:
        return unusable(status, headers)
    try:
        DIALECTS[engine or "openai"].models(body)
    except ValueError:
        return NO_LIST if engine else "something answers, but nothing that an engine would say"
    return None
