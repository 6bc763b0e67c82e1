"""The part of the configuration that says what callers ask for and where it goes: `models`."""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from gateway.config.fields import Alias, DurationField, Empty, ModelName, Name, Referable, Whole, Word
from gateway.config.limits import LimitList, limits_field
from gateway.config.part import Part, duration, field, group
from gateway.config.prices import Budget, budget_field
from gateway.config.scalars import Duration
from gateway.config.when import Header, Number, When

Reason = Annotated[Literal["connect", "timeout", "429", "5xx", "stream"], Word]
PolicyName = Literal["proportional", "primary-backup", "least-busy", "prefix-affinity"]
FAIL_BACK: Final = Duration.of("30s")
"""When `fail_back` is not written."""
Weight = Annotated[int, Field(ge=0, le=10_000), Referable]
Text = Annotated[str, Field(min_length=1, max_length=512)]


class Target(Part):
    """One place that requests may go to: a channel, or a policy with targets of its own."""

    channel: str | None = field("The channel.", "gpu", None)
    model: str | None = field(
        "The engine's name for the model. Default: the channel's `model`, else the virtual model's name.", "qwen3", None, min_length=1
    )
    weight: Weight | None = field("Its share among its siblings under `proportional`. 0 = only when others fail. Default: 1.", 3, None)
    policy: PolicyName | None = field("In place of a channel: how one of `targets` is picked.", "least-busy", None)
    targets: "list[Target] | None" = field("What `policy` picks from.", [{"channel": "gpu"}], None, min_length=1)
    sticky: Header | None = field("As the model's `sticky`, for this policy.", "key", None)
    fail_back: DurationField | None = field("As the model's `fail_back`, for this policy.", "10s", None)


def _target_list(value: Any) -> Any:
    return {"targets": value} if isinstance(value, list) else value


class To(Target):
    """Where a rule sends requests: a channel, a policy with targets, or (`model` alone) another virtual model."""


class Rule(Part):
    """Requests that go somewhere else than the model's own targets. The first rule that matches decides."""

    name: Name = field("Its name in records and explanations.", "long")
    when: Annotated[When, Empty] = field("What must be so, all of it. Empty = always.", {"prompt_tokens": {"over": 30000}})
    to: Annotated[To, BeforeValidator(_target_list, json_schema_input_type=To | list[Target])] = field(
        "Where they go: a channel, a list of targets, a policy, or `{model: …}`, another virtual model.", {"channel": "gpu"}
    )


class Retry(Part):
    """When another attempt is made before the caller sees anything."""

    on: list[Reason] = field(
        "Failures that are tried again elsewhere: `connect` (no connection), `timeout` (no first event in time), `429`, `5xx`, "
        "`stream` (it broke before its first event).",
        ["connect", "5xx"],
        ["connect", "timeout", "429", "5xx", "stream"],
    )
    attempts: Whole = field("Attempts altogether, the first included.", 2, 3, ge=1, le=10)
    within: DurationField = duration("60s", "No further attempt begins later than this after the first one began.", "30s")


class Model(Part):
    """A virtual model: a name that callers use."""

    aliases: list[Alias] = field("Further names for it: exact, or a beginning followed by `*`.", ["gpt-4o*"], [])
    policy: PolicyName = field(
        "How a target is picked. `proportional`: by weight, exactly over time. `primary-backup`: the first that is well. `least-busy`: "
        "the endpoint with the least to do. `prefix-affinity`: the endpoint that knows the conversation's beginning already.",
        "least-busy",
        "proportional",
    )
    targets: list[Target] = field("Where its requests may go.", [{"channel": "gpu", "weight": 3}], min_length=1)
    sticky: Header | None = field(
        "Under `proportional`: requests with the same value go to the same target. `key`, `tenant`, or a header's name.",
        "x-user",
        None,
    )
    fail_back: DurationField | None = field(
        "Under `primary-backup`: how long a better target must have been well again before requests return to it. Default: 30s.", "2m", None
    )
    rules: list[Rule] = field("Requests that go elsewhere. The first rule that matches decides.", [{"name": "long", "when": {}}], [])
    fallback: list[ModelName] = field("Other virtual models that serve when this one's targets all failed, in this order.", ["small"], [])
    retry: Annotated[Retry, Empty] = group(Retry, "When another attempt is made.", {"attempts": 2})
    continuation: Literal["off", "same-model"] = field(
        "What happens to a stream whose engine dies. `off`: it ends with an error. `same-model`: another endpoint of the same engine's "
        "model goes on with it (vLLM and SGLang; plain text only).",
        "same-model",
        "off",
    )
    tokenizer: Text | None = field(
        "What counts a prompt's tokens when a rule or a context length turns on it: `cl100k`, `o200k`, `qwen`, a `tokenizer.json` or "
        "`.tiktoken` file, or `engine` to ask the engine. Default: an estimate.",
        "qwen",
        None,
    )
    limits: LimitList = limits_field("everybody together of this model")
    budget: Budget | None = budget_field("everybody together on this model")
    defaults: Annotated[dict[str, Any], Empty] = field(
        "Parameters of chat and completions for callers who send none.", {"temperature": 0.6}, {}
    )
    caps: Annotated[dict[str, Number], Empty] = field(
        "The largest values of parameters of chat and completions; larger ones are lowered. `max_tokens` is set where it is missing.",
        {"max_tokens": 8192},
        {},
    )
