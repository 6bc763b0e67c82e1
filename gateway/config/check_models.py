"""What is wrong with `models` beyond single fields: targets that lead nowhere, weights that sum to nothing, loops, parameters."""

from collections.abc import Iterator
from typing import Any, Final

from gateway.config.marks import Loc, Marks
from gateway.config.model import Model, Target, To
from gateway.config.read import Reading
from gateway.config.schema import Config
from gateway.config.tokenizers import BUNDLED, ENGINE, locate, trouble
from gateway.config.wording import nearest
from gateway.errors import Mistake

BY_ENDPOINT: Final = ("least-busy", "prefix-affinity")
"""Policies that pick among endpoints, not among targets."""
CAPPED: Final = (
    "max_tokens max_completion_tokens min_tokens n best_of temperature top_p top_k min_p presence_penalty frequency_penalty "
    "repetition_penalty top_logprobs"
).split()
"""Parameters whose values may be capped."""
FROM_ONE: Final = ("max_tokens", "max_completion_tokens", "n", "best_of", "top_k")
"""Parameters whose least value is 1."""
NOT_DEFAULTED: Final = "model messages prompt input query documents stream stream_options tools functions".split()
"""Fields that are the caller's alone."""


def models(config: Config, reading: Reading, channels: dict[str, None], names: dict[str, None], files: set[str]) -> Iterator[Mistake]:
    """channels, names: what is known of channels and models, those that are wrong in themselves included. files: gets the tokenizers'."""
    for name, model in config.models.items():
        yield from _Check(name, model, channels, names, reading).run()
    yield from _loops(config, reading.marks)
    yield from _tokenizers(config, reading, files)
    yield from _queues(config, reading.marks)


def _queues(config: Config, marks: Marks) -> Iterator[Mistake]:
    """Rules that look at the queue of a channel that has none."""
    for name, model in config.models.items():
        for number, rule in enumerate(model.rules):
            for place, load in enumerate(rule.when.load or ()):
                channel = config.channels.get(load.channel)
                if load.queue is not None and channel is not None and channel.max_in_flight is None:
                    loads: Loc = ("models", name, "rules", number, "when", "load")
                    alone: Loc = (*loads, "queue")  # one may be written without a list
                    at = alone if marks.pair(alone)[1] == len(alone) else (*loads, place, "queue")
                    said = f"the channel {load.channel} has no queue, so this can never match"
                    yield marks.at(at, said, "it has one with max_in_flight", key=True)


def _tokenizers(config: Config, reading: Reading, files: set[str]) -> Iterator[Mistake]:
    """Each is read once, however many models name it."""
    folder = reading.path.parent
    said: dict[str, str | None] = {}
    for name, model in config.models.items():
        wanted = model.tokenizer
        if wanted is None:
            continue
        if wanted not in said:
            said[wanted] = trouble(wanted, folder)
        found = said[wanted]
        if found is not None:
            message, meant, hint = found.partition("; did you mean ")
            yield reading.marks.at(("models", name, "tokenizer"), message, f"did you mean {hint}" if meant else None)
        elif wanted != ENGINE and wanted not in BUNDLED:
            files.add(str(locate(wanted, folder).resolve()))


class _Check:
    """The checks of one model."""

    def __init__(self, name: str, model: Model, channels: dict[str, None], names: dict[str, None], reading: Reading) -> None:
        self.name, self.model, self.channels, self.names = name, model, channels, names
        self.reading, self.marks = reading, reading.marks
        self.at: Loc = ("models", name)

    def run(self) -> Iterator[Mistake]:
        model = self.model
        yield from self._options(model.policy, model, self.at)
        yield from self._targets(model.policy, model.targets, (*self.at, "targets"))
        seen: dict[str, int] = {}
        for number, rule in enumerate(model.rules):
            at: Loc = (*self.at, "rules", number)
            if seen.setdefault(rule.name, number) != number:
                yield self.marks.at((*at, "name"), f'two rules are called "{rule.name}"', f"the other is number {seen[rule.name] + 1}")
            yield from self._to(rule.to, (*at, "to"))
        for number, other in enumerate(model.fallback):
            yield from self._other(other, (*self.at, "fallback", number))
            if model.fallback.index(other) != number:
                yield self.marks.at((*self.at, "fallback", number), f'"{other}" is listed twice')
        if len(set(model.retry.on)) != len(model.retry.on):
            yield self.marks.at((*self.at, "retry", "on"), "a reason is listed twice")
        yield from self._parameters()

    # -- targets ------------------------------------------------------------------------------------------------------

    def _targets(self, policy: str, targets: list[Target], at: Loc) -> Iterator[Mistake]:
        seen: set[tuple[str, str | None]] = set()
        for number, target in enumerate(targets):
            here: Loc = (*at, number)
            yield from self._target(target, here)
            if target.weight is not None and policy != "proportional":
                yield self.marks.at((*here, "weight"), f"weight means nothing under {policy}", "it is for proportional", key=True)
            if target.targets is not None and policy in BY_ENDPOINT:
                hint = f"put the {policy} group inside the other policy, not around it"
                yield self.marks.at((*here, "targets"), f"{policy} picks among endpoints, so its targets are channels", hint, key=True)
            if target.channel is not None and target.targets is None:
                if (target.channel, target.model) in seen:
                    yield self.marks.at(here, "this target is listed twice", "give one of them the whole weight")
                seen.add((target.channel, target.model))
        if policy == "proportional" and all(target.weight == 0 for target in targets):
            yield self.marks.at((*at, 0, "weight"), "every weight is 0, so that no target would ever be picked")

    def _target(self, target: Target, at: Loc) -> Iterator[Mistake]:
        """One place: a channel, or a group."""
        if target.targets is not None:
            for word in ("channel", "model"):
                if getattr(target, word) is not None:
                    yield self.marks.at(
                        (*at, word), f"both {word} and targets", "a target is a channel, or a policy with targets", key=True
                    )
            policy = target.policy or "proportional"
            yield from self._options(policy, target, at)
            yield from self._targets(policy, target.targets, (*at, "targets"))
            return
        if target.channel is None:
            yield self.marks.at(at, "this target names no channel", "write `channel: …`, or `policy: …` with `targets: […]`")
        elif target.channel not in self.channels and not self.reading.broken:
            known = f"known are: {', '.join(list(self.channels)[:12])}" if self.channels else "no channel is configured"
            yield self.marks.at(
                (*at, "channel"), f'there is no channel "{target.channel[:64]}"', nearest(target.channel, self.channels) or known
            )
        for word in ("policy", "sticky", "fail_back"):
            if getattr(target, word) is not None:
                yield self.marks.at((*at, word), f"{word} without targets", "it says how one of `targets` is picked", key=True)

    def _options(self, policy: str, where: Any, at: Loc) -> Iterator[Mistake]:
        """Options of a policy that another policy has none of."""
        for word, of in (("sticky", "proportional"), ("fail_back", "primary-backup")):
            if getattr(where, word) is not None and policy != of:
                yield self.marks.at((*at, word), f"{word} means nothing under {policy}", f"it is for {of}", key=True)

    def _to(self, to: To, at: Loc) -> Iterator[Mistake]:
        if to.channel is None and to.targets is None and to.model is not None:
            yield from self._other(to.model, (*at, "model"))
        elif to.channel is None and to.targets is None:
            yield self.marks.at(at, "this leads nowhere", "write {channel: …}, {model: …} or a list of targets")
        else:
            yield from self._target(to, at)
        if to.weight is not None:
            yield self.marks.at((*at, "weight"), "a rule's only target needs no weight", "`share` in `when` takes a part", key=True)

    def _other(self, other: str, at: Loc) -> Iterator[Mistake]:
        """Another virtual model, by its name."""
        if other == self.name:
            yield self.marks.at(at, f'"{other}" leads back to itself')
        elif other not in self.names and not self.reading.broken:
            yield self.marks.at(at, f'there is no model "{other[:64]}"', nearest(other, self.names) or "no alias can stand here")

    # -- parameters -----------------------------------------------------------------------------------------------------

    def _parameters(self) -> Iterator[Mistake]:
        caps, defaults = self.model.caps, self.model.defaults
        for word, most in caps.items():
            at: Loc = (*self.at, "caps", word)
            if word not in CAPPED:
                known = nearest(word, CAPPED) or f"known are: {', '.join(CAPPED)}"
                yield self.marks.at(at, f'"{word}" is not a parameter that can be capped', known, key=True)
            elif most < 0 or (most < 1 and word in FROM_ONE) or (word == "top_p" and not most):
                yield self.marks.at(at, f"{word} cannot be at most {most:g}", "no engine takes such a value")
        for word, value in defaults.items():
            at = (*self.at, "defaults", word)
            if word in NOT_DEFAULTED:
                yield self.marks.at(at, f'"{word}" is the caller\'s alone', key=True)
            elif isinstance(value, int | float) and value > caps.get("max_tokens" if word == "max_completion_tokens" else word, value):
                yield self.marks.at(at, f"the default of {word} is over its cap")


def _loops(config: Config, marks: Marks) -> Iterator[Mistake]:
    """Models that lead to each other in a circle, by fallback or by rule: a request would never arrive."""
    ways: dict[str, list[tuple[str, Loc]]] = {}
    for name, model in config.models.items():
        by_fallback: list[tuple[str, Loc]] = [(other, ("models", name, "fallback", n)) for n, other in enumerate(model.fallback)]
        by_rule: list[tuple[str, Loc]] = [
            (rule.to.model, ("models", name, "rules", n, "to", "model"))
            for n, rule in enumerate(model.rules)
            if rule.to.model is not None and rule.to.channel is None and rule.to.targets is None
        ]
        ways[name] = [(other, at) for other, at in by_fallback + by_rule if other != name and other in config.models]
    done: set[str] = set()
    for start in ways:
        yield from _walk(start, ways, done, marks)


def _walk(name: str, ways: dict[str, list[tuple[str, Loc]]], done: set[str], marks: Marks) -> Iterator[Mistake]:
    """Depth first without recursion: thousands of models may stand in one chain."""
    stack = [(name, iter(ways[name]))] if name not in done else []
    path = [name] if stack else []
    while stack:
        here, rest = stack[-1]
        for other, at in rest:
            if other in path:
                circle = " → ".join([*path[path.index(other) :], other])
                yield marks.at(at, f"these models lead to each other in a circle: {circle}")
            elif other not in done:
                path.append(other)
                stack.append((other, iter(ways[other])))
                break
        else:
            done.add(here)
            path.pop()
            stack.pop()
