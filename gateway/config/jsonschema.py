"""The language as JSON Schema (draft 2020-12), for editors: they complete, explain and underline while one types."""

import json
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import BeforeValidatorFunctionSchema

from gateway.config.fields import nothing_is_empty
from gateway.config.schema import Config
from gateway.config.show import value_of

NAME: Final = "gateway.schema.json"
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{(env|file):"}


class _Generate(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        return value_of(dft)

    def function_before_schema(self, schema: BeforeValidatorFunctionSchema) -> dict[str, Any]:
        """A group may be written with nothing after its colon, all of its words being comments."""
        made = super().function_before_schema(schema)
        return {"anyOf": [made, {"type": "null"}]} if schema["function"]["function"] is nothing_is_empty else made


def schema() -> dict[str, Any]:
    """What a configuration file may hold. An included file needs no `version`, so nothing at the top is required."""
    made = Config.model_json_schema(schema_generator=_Generate)
    made = _tidied(made)
    made.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": NAME, **made, "title": "gateway.yaml"}


def text() -> str:
    """The schema as a file's text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _tidied(node: Any, names: bool = False) -> Any:
    """Without pydantic's titles; where a reference may stand for a number, a pattern or a word, that is allowed too.

    names: the keys of `node` are names of fields, not words of JSON Schema.
    """
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {name: _tidied(item) for name, item in node.items()}
    kept = {
        word: item if word in ("default", "examples", "enum", "const") else _tidied(item, word in ("properties", "$defs"))
        for word, item in node.items()
        if word not in ("title", "minimum", "maximum") or (word != "title" and node.get("type") == "integer")
    }
    rules = {word: kept.pop(word) for word in ("type", "pattern", "enum", "const", "minimum", "maximum") if word in kept}
    if rules.get("type") in ("integer", "number", "boolean") or "enum" in rules or "pattern" in rules:
        rules = _loosened(rules)
        return {"anyOf": [rules, _REFERENCE], **kept}
    return {**rules, **kept}


def _loosened(rules: dict[str, Any]) -> dict[str, Any]:
    """1.2 and 429 may be written without quotes."""
    words = rules.get("enum")
    if words is None:
        return rules
    numbers = [json.loads(word) for word in words if isinstance(word, str) and word.replace(".", "").isdigit()]
    return {"enum": [*words, *numbers]}


if __name__ == "__main__":
    print(text(), end="")
