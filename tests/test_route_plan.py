"""From targets to an ordered plan: trees of policies, health, context lengths, rules that lead on, parameters."""

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.resolved import Target
from gateway.errors import Refusal
from gateway.route.ask import Ask
from gateway.route.breaker import Breaker, BreakerSettings
from gateway.route.build import figured, looks, tree
from gateway.route.decide import Route, RuleLive, fallbacks, rest, sorted_by_health
from gateway.route.explain import explain
from gateway.route.load import Load
from gateway.route.parameters import Parameters
from gateway.route.plan import PLANS, SUBSETS, Leaf
from gateway.route.prefix_affinity import PrefixAffinity

SETTINGS = BreakerSettings(failures=1, cooldown=10.0, slow_start=0.0)


@dataclass(eq=False)
class Way:
    """A hop, as plans see it."""

    name: str
    url: str
    model: str = "m"
    context: int = 0
    weight: int = 1
    priority: int = 0
    breaker: Breaker = field(default_factory=lambda: Breaker(SETTINGS))
    load: Load = field(default_factory=Load)
    dialect: Any = field(default_factory=lambda: SimpleNamespace(answer_needs_room=True))
    apis: tuple[str, ...] = ("chat", "completions", "embeddings", "tokenize")

    @property
    def at(self) -> "Way":
        return self

    def serves(self, api: str) -> bool:
        return api in self.apis

    def length(self) -> int:
        return self.context

    def __repr__(self) -> str:
        return self.url


def ask(now: float = 0.0, **more: Any) -> Ask:
    return Ask(**{"api": "chat", "model": "m", "now": now, "luck": 0.5, "size": 10, **more})


def known(*, tokens: int, **more: Any) -> Ask:
    """Its prompt counted, and sure."""
    found = ask(tokens=tokens, **more)
    found.sure = tokens
    return found


def leaf(channel: str, urls: str = "", **more: Any) -> Leaf:
    return Leaf(channel, [Way(channel, url, **more) for url in urls or channel], [-1])


def group(policy: str, *targets: Target, **more: Any) -> Target:
    return Target(policy=policy, targets=targets, **more)


def target(channel: str, weight: int = 1) -> Target:
    return Target(channel=channel, model="m", weight=weight)


def built(top: Target, leaves: dict[str, Leaf] | None = None) -> tuple[Any, dict[str, Leaf]]:
    made: dict[str, Leaf] = leaves or {}

    def of(one: Target) -> Leaf:
        return made.setdefault(one.channel, leaf(one.channel))

    return tree(top, of, lambda key, make: make(), "models.m"), made


def plan(node: Any, now: float = 0.0, **more: Any) -> str:
    one = ask(now, **more)
    return "".join(way.url for way in sorted_by_health(node.order(one), now))


def way(leaves: dict[str, Leaf], url: str) -> Way:
    found: Way = next(one for each in leaves.values() for one in each.ways() if one.url == url)
    return found


def fail(one: Way, now: float = 0.0) -> None:
    one.breaker.begin(now)
    assert one.breaker.failure(now, "reset")


# -- trees --------------------------------------------------------------------------------------------------------------


def test_a_groups_members_come_first_one_way_each_then_their_further_ones():
    node, _ = built(group("proportional", target("a"), target("b")), {"a": leaf("a", "12"), "b": leaf("b", "345")})
    assert sorted(plan(node)) == list("12345")
    seen = plan(node)
    assert {seen[0], seen[1]} & set("12") and {seen[0], seen[1]} & set("345")


def test_the_plans_of_sticky_values_that_are_remembered_are_bounded():
    node, _ = built(group("proportional", *map(target, "abcdefghijkl"), sticky="x-user"))
    first = plan(node, headers={"x-user": "0"})
    for number in range(PLANS + 100):
        plan(node, headers={"x-user": str(number)})
    assert len(node._plans) <= PLANS
    assert plan(node, headers={"x-user": "0"}) == first


def test_tiers_of_shares():
    node, leaves = built(group("primary-backup", group("proportional", target("a", 3), target("b", 1)), target("c"), fail_back=5.0))
    assert Counter(plan(node)[0] for _ in range(40)) == {"a": 30, "b": 10}
    assert all(plan(node)[-1] == "c" for _ in range(4))
    for url in "ab":
        way(leaves, url).breaker.adopt("down", "it does not answer", 1.0)
    assert plan(node, 2.0)[0] == "c"
    way(leaves, "a").breaker.adopt("", "", 3.0)
    assert plan(node, 3.5)[0] == "c", "hysteresis"
    assert plan(node, 9.0)[0] == "a"


PAIRS = {"A": "ab", "B": "cd"}
NESTED = [
    (group("proportional", target("A"), target("B")), "abcd"),
    (group("proportional", target("A", 3), target("B")), "aaabbbcd"),
    (group("proportional", group("proportional", target("a"), target("b")), target("c")), "abcc"),
    (group("primary-backup", group("proportional", target("A"), target("B")), target("A")), "abcd"),
]


@pytest.mark.parametrize(("top", "shares"), NESTED, ids=["channels", "3 to 1", "groups", "tiers"])
def test_a_members_turns_pass_only_when_it_is_picked_so_that_everybody_below_gets_a_share(top, shares):
    node, _ = built(top, {name: leaf(name, urls) for name, urls in PAIRS.items()})
    seen = Counter(plan(node)[0] for _ in range(100 * len(shares)))
    assert seen == {url: 100 * shares.count(url) for url in set(shares)}


@pytest.mark.parametrize("spare", [target("B"), group("proportional", target("c", 2), target("d", 2)), group("proportional", target("B"))])
@pytest.mark.parametrize("policy", ["proportional", "primary-backup"])
def test_failover_is_spread_over_all_below_a_member_that_was_not_picked(policy, spare):
    node, _ = built(group(policy, target("a", 1), spare), {"B": leaf("B", "cd")})
    plans = [plan(node, luck=n / 1000) for n in range(1000)]
    seconds = Counter(one[1] for one in plans if one[0] == "a")
    assert min(seconds["c"], seconds["d"]) > 0.4 * seconds.total()


def test_a_channel_in_several_places_is_tried_once():
    tiers = group(
        "primary-backup", group("proportional", target("a"), target("b", 0)), target("b"), group("least-busy", target("a"), target("c"))
    )
    assert plan(built(tiers)[0]) == "abc"
    assert plan(built(group("proportional", tiers, target("b", 0), target("d", 0)))[0]) == "abdc"


@pytest.mark.parametrize("policy", ["proportional", "primary-backup", "least-busy", "prefix-affinity"])
def test_whoever_was_ejected_gets_a_trial_under_every_policy(policy):
    node, leaves = built(group(policy, target("a"), target("b"), target("c")))
    broken = way(leaves, "a")
    fail(broken)
    assert all(plan(node, 5.0)[-1] == "a" for _ in range(4)), "left alone while it cools down"
    first = plan(node, 11.0)
    assert first[0] == "a", "then one request tries it, wherever it is ranked"
    broken.breaker.begin(11.0)
    assert all(plan(node, 11.0)[0] != "a" for _ in range(4)), "one alone"
    assert broken.breaker.success(12.0)
    plan(node, 12.0)
    assert "a" in {plan(node, 60.0, luck=luck / 10)[0] for luck in range(10)}, "a tier returns when it was well for a while"


def test_of_two_trials_that_are_due_one_goes_first():
    node, leaves = built(group("proportional", target("a"), target("b"), target("c")))
    for url in "ab":
        fail(way(leaves, url))
    seen = plan(node, 20.0)
    assert seen[0] in "ab" and seen[1] == "c"


@pytest.mark.parametrize("policy", ["proportional", "least-busy", "prefix-affinity"])
def test_who_comes_back_slowly_gets_its_share(policy):
    node, leaves = built(group(policy, target("a"), target("b")))
    one = way(leaves, "a")
    one.breaker.settings = BreakerSettings(failures=1, cooldown=10.0, slow_start=100.0)
    fail(one)
    one.breaker.begin(10.0)
    one.breaker.success(10.0)
    early = sum(plan(node, 11.0, luck=n / 1000)[0] == "a" for n in range(1000))
    late = sum(plan(node, 105.0, luck=n / 1000)[0] == "a" for n in range(1000))
    assert 0 < early < 150 and early < late


@pytest.mark.parametrize("channels", [{"a": "1234"}, {"a": "1", "b": "2", "c": "3", "d": "4"}])
def test_the_turns_of_who_is_out_go_to_all_others_alike(channels):
    leaves = {name: leaf(name, urls) for name, urls in channels.items()}
    node, _ = built(group("proportional", *map(target, channels)), leaves)
    assert Counter(plan(node)[0] for _ in range(120)) == dict.fromkeys("1234", 30)
    way(leaves, "2").breaker.adopt("draining", "by root", 1.0)
    assert Counter(plan(node, 2.0)[0] for _ in range(120)) == dict.fromkeys("134", 40)
    way(leaves, "2").breaker.settings = BreakerSettings(slow_start=100.0)
    way(leaves, "2").breaker.adopt("", "", 10.0)
    seen = Counter(plan(node, 20.0, luck=n / 1200)[0] for n in range(1200))
    assert 20 < seen["2"] < 90 and max(seen.values()) - min(seen[url] for url in "134") < 40, seen


def test_the_turns_of_who_is_left_are_remembered_for_a_bounded_number_of_sets():
    node, leaves = built(group("proportional", *map(target, "abcdefgh")))
    for number in range(1, 255):
        for bit, url in enumerate("abcdefgh"):
            way(leaves, url).breaker.adopt("down" if number >> bit & 1 else "", "it does not answer", float(number))
        assert way(leaves, plan(node, float(number))[0]).breaker.state(float(number)) == "up"
    assert 0 < len(node._left._kept) <= SUBSETS


@pytest.mark.parametrize("weights", [(2, 1, 1), (5, 3, 1), (1, 3, 3)])
def test_the_turns_of_a_weighted_endpoint_that_is_out_go_to_all_others_alike(weights):
    ways = [Way("a", url, weight=weight) for url, weight in zip("abc", weights, strict=True)]
    one = Leaf("a", ways, [-1])
    ways[0].breaker.adopt("down", "it does not answer", 0.0)
    firsts = Counter(one.order(ask(1.0, luck=number / 400))[0].url for number in range(400))
    assert abs(firsts["b"] - 400 * weights[1] / (weights[1] + weights[2])) <= 1 and firsts["b"] + firsts["c"] == 400


@pytest.mark.parametrize("weights", [(1, 1, 1), (4, 1, 1), (2, 3, 1)])
def test_the_turns_of_a_channel_without_endpoints_go_to_all_others_alike(weights):
    leaves = {"a": leaf("a"), "b": leaf("b"), "c": leaf("c")}
    node, _ = built(group("proportional", *map(target, "abc", weights)), leaves)
    assert plan(node)[0] in "abc"
    leaves["a"].refill([])
    firsts = Counter(plan(node, luck=number / 400)[0] for number in range(400))
    assert firsts["b"] == 400 * weights[1] // (weights[1] + weights[2]) and firsts["c"] == 400 - firsts["b"]


CONTEXTS = {"1": 100, "2": 9000, "3": 9000, "4": 9000}


def picked(one: Route, **more: Any) -> str:
    found = one.decide(ask(size=5000, **more))
    assert found is not None
    first: str = found.ways[0].url
    return first


@pytest.mark.parametrize(
    ("channels", "weight", "shares"),
    [
        ({"a": ("1234", 1)}, 1, (4, 4, 4)),
        ({"a": ("1234", 1)}, 2, (6, 3, 3)),
        ({"a": ("1", 1), "b": ("2", 1), "c": ("3", 1), "d": ("4", 1)}, 1, (4, 4, 4)),
        ({"a": ("1", 5), "b": ("2", 2), "c": ("3", 1), "d": ("4", 1)}, 1, (6, 3, 3)),
        ({"a": ("123", 2), "b": ("4", 1)}, 1, (4, 4, 4)),
    ],
)
def test_long_prompts_are_shared_evenly_among_those_that_they_fit(channels, weight, shares):
    """weight: of endpoint 2 within its channel. Endpoint 1 is too short."""
    leaves = {}
    for name, (urls, _) in channels.items():
        ways = [Way(name, url, context=CONTEXTS[url], weight=weight if url == "2" else 1) for url in urls]
        leaves[name] = Leaf(name, ways, [-1])
    node, _ = built(group("proportional", *(target(name, share) for name, (_, share) in channels.items())), leaves)
    one = route("m", node)
    firsts: Counter[str] = Counter()
    for number in range(480):
        firsts[picked(one, tokens=5000, luck=number / 480)] += 1
        for _ in range(number % 3):  # short ones in between take turns of their own
            picked(one, tokens=10, luck=number / 480)
    assert firsts == dict(zip("234", (share * 40 for share in shares), strict=True))


def test_requests_are_shared_evenly_among_those_that_have_the_api():
    ways = [Way("a", "1", apis=("chat",)), *(Way("a", url) for url in "234")]
    one = route("m", Leaf("a", ways, [-1]))
    assert Counter(picked(one, api="embeddings") for _ in range(120)) == dict.fromkeys("234", 40)


def test_a_long_prompt_does_not_change_which_tier_serves_the_others():
    leaves = {"a": Leaf("a", [Way("a", "1", context=100)], [-1]), "b": Leaf("b", [Way("b", url, context=9000) for url in "23"], [-1])}
    one = route("m", built(group("primary-backup", target("a"), target("b")), leaves)[0])
    assert Counter(picked(one, tokens=5000) for _ in range(40)) == {"2": 20, "3": 20}
    assert picked(one, tokens=10) == "1"


def test_who_drains_or_rests_is_not_asked_at_all_and_all_down_means_all_are_tried():
    node, leaves = built(group("proportional", target("a"), target("b"), target("c")))
    way(leaves, "a").breaker.adopt("draining", "by root", 1.0)
    way(leaves, "b").breaker.rest(1.0, 20.0)
    assert plan(node, 2.0) == "c"
    way(leaves, "c").breaker.adopt("down", "it does not answer", 3.0)
    assert plan(node, 4.0) == "c", "when nobody else can serve, it is tried all the same"
    way(leaves, "c").breaker.adopt("draining", "by root", 5.0)
    assert plan(node, 6.0) == "" and rest(node.ways(), 6.0) == pytest.approx(15.0)


def test_endpoints_of_a_registry_go_by_priority_then_weight():
    ways = [Way("a", "1", weight=3), Way("a", "2", weight=1), Way("a", "9", priority=10)]
    node = Leaf("a", ways, [-1])
    assert Counter("".join(way.url for way in node.order(ask()))[0] for _ in range(8)) == {"1": 6, "2": 2}
    assert all(node.order(ask())[-1].url == "9" for _ in range(4))


@pytest.mark.parametrize("policy", ["least-busy", "prefix-affinity"])
def test_what_ranks_endpoints_of_several_channels_leaves_each_channels_later_priorities_to_the_end(policy):
    ways = [Way("a", "8", priority=20), Way("a", "1"), Way("a", "2"), Way("a", "7", priority=10), Way("b", "3", priority=10)]
    node, _ = built(group(policy, target("a"), target("b")), {"a": Leaf("a", ways[:4], [-1]), "b": Leaf("b", ways[4:], [-1])})
    for luck in (0.1, 0.3, 0.5, 0.7, 0.9):
        urls = [way.url for way in node.order(ask(luck=luck))]
        assert set(urls[:3]) == set("123") and urls[3:] == ["7", "8"]
    for way in ways[1:3]:
        way.breaker.adopt("down", "it does not answer", 0.0)
    urls = [way.url for way in node.order(ask(1.0))]
    assert set(urls[:2]) == set("73") and urls[2] == "8" and set(urls[3:]) == set("12"), "the next priority of `a` takes its place"


@pytest.mark.parametrize("policy", ["proportional", "primary-backup", "least-busy", "prefix-affinity"])
def test_other_endpoints_are_in_the_next_plan(policy):
    node, leaves = built(group(policy, target("a"), target("b")))
    plan(node)
    leaves["a"].refill([Way("a", "x"), Way("a", "y")])
    assert sorted(plan(node)) == list("bxy")
    leaves["a"].refill([])
    assert plan(node) == "b"


@given(
    st.recursive(
        st.sampled_from("abcdef"),
        lambda inner: st.tuples(st.sampled_from(["proportional", "primary-backup"]), st.lists(inner, min_size=1, max_size=3)),
        max_leaves=8,
    )
)
def test_every_way_is_in_the_plan_once_and_peeking_takes_nothing(shape):
    def made(part: Any) -> Target:
        return target(part) if isinstance(part, str) else group(part[0], *map(made, part[1]))

    top = made(shape) if not isinstance(shape, str) else group("proportional", made(shape))
    node, leaves = built(top)
    peeked = "".join(way.url for way in node.order(ask(), peek=True))
    assert "".join(way.url for way in node.order(ask())) == peeked
    assert set(peeked) == {one.url for each in leaves.values() for one in each.ways()}


def test_policies_that_look_at_the_request_are_known():
    assert not looks(group("proportional", target("a"), target("b")))
    assert looks(group("proportional", target("a"), group("least-busy", target("b"))))
    assert looks(group("proportional", target("a"), sticky="key"))
    assert figured([]) == set()


# -- rules, lengths, fallbacks ------------------------------------------------------------------------------------------


class When:
    """A condition that answers what it was told to."""

    def __init__(self, holds: bool | None, word: str = "api") -> None:
        self.word, self._holds = word, holds

    def holds(self, ask: Ask) -> bool | None:
        return self._holds if ask.tokens is None or self._holds is not None else ask.tokens > 100

    def told(self, ask: Ask) -> str:
        return "because"


def rule(name: str, holds: bool | None, node: Any = None, route: Route | None = None) -> RuleLive:
    condition = When(holds)
    return RuleLive(name, [condition], condition.holds, "proportional" if node else "", node, route)


def route(name: str, node: Any, bounds: tuple[int, int] = (0, 10)) -> Route:
    return Route(name, "proportional", node, lambda ask: bounds, asks=True)


def test_the_first_rule_that_holds_decides_and_leads_on():
    other = route("other", leaf("b"))
    other.rules = [rule("inner", True, leaf("c"))]
    one = route("m", leaf("a"))
    one.rules = [rule("no", False, leaf("x")), rule("yes", True, route=other), rule("later", True, leaf("y"))]
    found = one.decide(ask())
    assert found is not None and (found.rule, [way.url for way in found.ways]) == ("yes > inner", ["c"])


def test_a_rule_that_needs_the_count_stops_there_until_it_is_known():
    one = route("m", leaf("a"))
    one.rules = [rule("long", None, leaf("b"))]
    assert one.decide(ask()) is None
    for tokens, url in ((50, "a"), (101, "b")):
        found = one.decide(ask(tokens=tokens))
        assert found is not None and found.ways[0].url == url


def test_how_many_tokens_are_enough_is_for_rules_further_on_to_say_as_well():
    inner, outer = route("inner", leaf("a", context=100)), route("outer", leaf("b", context=50))
    inner.limits, outer.limits = [300], [200]
    outer.rules = [rule("on", True, route=inner)]
    assert (inner.enough(), outer.enough()) == (301, 301)


def mixed(*lengths: int) -> Leaf:
    return Leaf("a", [Way("a", str(length), context=length) for length in lengths], [-1])


def decided(one: Route, **more: Any) -> list[str]:
    found = one.decide(ask(**more))
    assert found is not None
    return sorted(way.url for way in found.ways)


def test_what_fits_everywhere_by_its_bytes_is_not_looked_at():
    one = route("m", mixed(1000, 5000), bounds=(0, 999_999))
    assert decided(one, size=500, max_tokens=100) == ["1000", "5000"]


def test_where_it_fits_turns_on_the_count_when_bounds_leave_it_open():
    one = route("m", mixed(1000, 5000), bounds=(100, 2000))
    assert one.decide(ask(size=2000)) is None
    assert decided(one, size=2000, tokens=1500) == ["5000"]
    assert decided(one, size=2000, tokens=900, max_tokens=200) == ["5000"], "the answer needs room too"
    assert decided(one, size=2000, tokens=900) == ["1000", "5000"]


def test_mindie_cuts_its_answer_to_what_is_left():
    one = route("m", mixed(1000))
    one.node.ways()[0].dialect.answer_needs_room = False
    assert decided(one, size=2000, tokens=900, max_tokens=5000) == ["1000"]


def test_surely_too_long_is_refused_and_an_estimate_refuses_nobody():
    one = route("m", mixed(1000, 2000))
    sure = ask(size=9000, tokens=3000, max_tokens=7)
    sure.sure = 2995
    with pytest.raises(Refusal) as caught:
        one.decide(sure)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    assert "2000" in caught.value.message and "3000" in caught.value.message and "7" in caught.value.message
    guess = ask(size=9000, tokens=3000)
    assert one.decide(guess) is not None


@pytest.mark.parametrize(
    ("least", "max_tokens", "said"),
    [
        (0, 2500, "2500 for the answer alone"),
        (2200, 0, "at least 2200 in the prompt"),
        (30, 1990, "at least 30 in the prompt and 1990 for the answer"),
    ],
)
def test_of_a_prompt_that_nobody_counted_no_number_is_invented(least, max_tokens, said):
    one = route("m", mixed(1000, 2000), bounds=(least, 9999))
    with pytest.raises(Refusal) as caught:
        one.decide(ask(size=9000, max_tokens=max_tokens))
    assert f"is 2000 tokens. However, your request has {said}. " in caught.value.message


def test_a_tokenize_call_fits_everywhere_also_when_it_is_explained():
    one = route("m", mixed(1000, 2000))
    told = explain(one, ask(api="tokenize", tokens=5000, size=9000))
    assert told["refused"] is None and len(told["plan"]) == 2 == len(decided(one, api="tokenize", size=9000))


def test_fallbacks_of_fallbacks_each_once():
    a, b, c = (route(name, leaf(name)) for name in "abc")
    a.fallback, b.fallback, c.fallback = [b, c], [c], []
    assert [one.name for one in fallbacks(a)] == ["b", "c"]


def test_explain_tells_rules_plan_and_what_is_left_out():
    ways = [Way("a", "1", context=100), Way("a", "2", context=9000), Way("a", "3", context=9000)]
    ways[2].breaker.adopt("draining", "drained by root", 1.0)
    one = route("m", Leaf("a", ways, [-1]))
    one.rules = [rule("no", False, leaf("b"))]
    told = explain(one, ask(2.0, tokens=500, size=5000))
    assert [(each["name"], each["matched"]) for each in told["rules"]] == [("no", False)]
    assert [each["endpoint"] for each in told["plan"]] == ["2"]
    assert {each["endpoint"]: each["why"].split(":")[0] for each in told["left_out"]} == {"1": "too long for it", "3": "drained by root"}
    assert msgspec.json.encode(told)


def test_explain_leaves_out_engines_without_the_api_and_refuses_as_workers_do_when_none_has_it():
    ways = [Way("a", "1"), Way("b", "2", apis=("chat",))]
    told = explain(route("m", Leaf("a", ways, [-1])), ask(api="embeddings"))
    assert [each["endpoint"] for each in told["plan"]] == ["1"] and told["refused"] is None
    assert [(each["endpoint"], each["why"]) for each in told["left_out"]] == [("2", "its engine does not have this API (embeddings)")]
    inner, outer = route("inner", Leaf("b", ways[1:], [-1])), route("outer", leaf("a"))
    outer.rules = [rule("on", True, route=inner)]
    led = explain(outer, ask(api="embeddings"))["leads_to"]
    assert led["plan"] == [] and (led["refused"]["status"], led["refused"]["code"]) == (404, "unsupported_api")
    assert "`outer`" in led["refused"]["message"]


def test_a_model_without_a_tokenizer_refuses_nobody_by_another_ones_count_also_when_it_is_explained():
    inner = Route("inner", "proportional", mixed(4096), lambda ask: (0, 99_999), asks=True, counts=False)
    outer = route("outer", leaf("a"))
    outer.rules = [rule("on", True, route=inner)]
    one = known(tokens=4500, size=8000)
    found = outer.decide(one)
    assert found is not None and [way.url for way in found.ways] == ["4096"]
    assert [way["endpoint"] for way in explain(outer, one)["leads_to"]["plan"]] == ["4096"]


def test_an_engine_without_the_api_is_no_place_where_a_request_fits():
    ways = [Way("a", "1", context=100), Way("b", "2", context=9000, apis=("chat",))]
    one = route("m", Leaf("a", ways, [-1]))
    with pytest.raises(Refusal) as caught:
        one.decide(known(api="embeddings", tokens=500, size=5000))
    assert caught.value.code == "context_length_exceeded" and "100 tokens" in caught.value.message
    assert explain(one, known(api="embeddings", tokens=500, size=5000))["refused"]["code"] == "context_length_exceeded"
    found = one.decide(known(api="score", tokens=500, size=5000))
    assert found is not None and len(found.ways) == 2, "that nobody has it is said when it is sent"


# -- parameters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "becomes", "done"),
    [
        ({}, {"temperature": 0.5, "max_tokens": 10}, ["+temperature", "max_tokens<=10"]),
        ({"temperature": 1}, {"temperature": 1, "max_tokens": 10}, ["max_tokens<=10"]),
        ({"temperature": 0, "max_tokens": 5}, {"temperature": 0, "max_tokens": 5}, []),
        ({"temperature": 0, "max_completion_tokens": 50}, {"temperature": 0, "max_completion_tokens": 10}, ["max_completion_tokens<=10"]),
        ({"temperature": 0, "max_tokens": None}, {"temperature": 0, "max_tokens": 10}, ["max_tokens<=10"]),
        ({"temperature": 0, "max_tokens": "many"}, {"temperature": 0, "max_tokens": "many"}, []),
        ({"temperature": 0, "max_tokens": "5000"}, {"temperature": 0, "max_tokens": 10}, ["max_tokens<=10"]),
        ({"temperature": 0, "max_tokens": " 1e9 "}, {"temperature": 0, "max_tokens": 10}, ["max_tokens<=10"]),
        ({"temperature": 0, "max_tokens": "7"}, {"temperature": 0, "max_tokens": "7"}, []),
        ({"temperature": 0, "max_tokens": -1}, {"temperature": 0, "max_tokens": 10}, ["max_tokens<=10"]),
        ({"temperature": 0, "max_tokens": 0}, {"temperature": 0, "max_tokens": 0}, []),
        ({"temperature": "nan", "max_tokens": 1}, {"temperature": 2, "max_tokens": 1}, ["temperature<=2"]),
        ({"temperature": -1, "max_tokens": 1}, {"temperature": -1, "max_tokens": 1}, []),
        ({"temperature": 0, "max_tokens": True}, {"temperature": 0, "max_tokens": True}, []),
        ({"temperature": "3.5", "max_tokens": " 50 "}, {"temperature": 2, "max_tokens": 10}, ["max_tokens<=10", "temperature<=2"]),
        ({"temperature": None, "max_tokens": "1e3"}, {"temperature": 0.5, "max_tokens": 10}, ["+temperature", "max_tokens<=10"]),
        ({"temperature": 0, "max_tokens": 5e3}, {"temperature": 0, "max_tokens": 10}, ["max_tokens<=10"]),
        ({"temperature": 3.5, "max_tokens": 1}, {"temperature": 2, "max_tokens": 1}, ["temperature<=2"]),
    ],
)
def test_defaults_and_caps(sent, becomes, done):
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in sent.items()}
    assert Parameters({"temperature": 0.5}, {"max_tokens": 10, "temperature": 2}).apply(fields) == done
    assert {name: msgspec.json.decode(raw) for name, raw in fields.items()} == becomes


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
def test_a_cap_of_either_name_caps_the_answer_by_whatever_name_it_is_asked_for(cap):
    for sent in ("max_tokens", "max_completion_tokens", None):
        fields = {sent: msgspec.Raw(b"50")} if sent else {}
        Parameters({}, {cap: 10}).apply(fields)
        assert fields == {sent or cap: msgspec.Raw(b"10")}


def test_conversations_that_moved_are_known_to_the_other_worker():
    mine, theirs = PrefixAffinity(), PrefixAffinity()
    ids, loads = ["a", "b", "c"], [Load(), Load(), Load()]
    one = ask(fields={"messages": msgspec.Raw(msgspec.json.encode([{"role": "user", "content": "a long question " * 40}]))})
    home = mine.order(one, ids, loads)[0]
    loads[home].in_flight = 50
    moved = mine.order(one, ids, loads)[0]
    assert moved != home
    loads[home].in_flight = 0
    theirs.learn(mine.moves())
    assert theirs.order(one, ids, loads)[0] == moved
