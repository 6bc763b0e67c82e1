"""Policies: shares, stickiness, hysteresis, busyness, the bound. No I/O; time and luck are arguments."""

from collections import Counter
from math import ceil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.route.ask import Ask
from gateway.route.least_busy import COMPARED, FEW, LeastBusy
from gateway.route.load import KV_FULL, STALE, WAITING, Load
from gateway.route.prefix import BLOCKS, HEAD, PLAIN_BLOCKS, chain
from gateway.route.prefix_affinity import BOUND, KNOWN, SPAN, PrefixAffinity
from gateway.route.primary_backup import PrimaryBackup
from gateway.route.proportional import Proportional
from gateway.route.sticky import Sticky

NOW = 1000.0
PICKS = 10_000


def ask(messages=None, *, now=NOW, luck=0.5, **about) -> Ask:
    """messages: (role, text) pairs."""
    fields = about.pop("fields", {})
    if messages is not None:
        fields = fields | {"messages": [{"role": role, "content": text} for role, text in messages]}
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return Ask(api="chat", model="qwen", fields=raw, now=now, luck=luck, **about)


# -- proportional ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "picks"),
    [
        ((3, 1), "aaba"),
        ((1, 1), "abab"),
        ((5, 1, 1), "aabacaa"),
        ((1, 0), "aaaa"),
        ((0, 1), "bbbb"),
        ((300, 100), "aaba"),
        ((0, 0), "aaaa"),
        ((7,), "aaaa"),
    ],
)
def test_shares_are_exact_and_smooth(weights, picks):
    shares = Proportional(weights)
    for _ in range(3):
        assert "".join("abc"[shares.order(ask())[0]] for _ in picks) == picks


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any))
@settings(deadline=None, max_examples=25)
def test_any_shares_are_within_one_percent(weights):
    shares = Proportional(weights)
    picks = Counter(shares.order(ask())[0] for _ in range(PICKS))
    for number, weight in enumerate(weights):
        assert abs(picks[number] / PICKS - weight / sum(weights)) <= 0.01
        assert weight or not picks[number]


def test_everybody_follows_as_failover_and_weight_0_last():
    shares = Proportional((2, 0, 1))
    for _ in range(6):
        order = shares.order(ask())
        assert sorted(order) == [0, 1, 2] and order[-1] == 1


def test_a_peek_takes_nothing():
    shares = Proportional((3, 1))
    for _ in range(9):
        assert shares.peek(ask()) == shares.peek(ask()) == shares.order(ask())


def test_picks_that_repeat_only_after_millions_are_not_kept():
    weights = [2 * number + 60_001 for number in range(100)]
    shares, alike = Proportional(weights), Proportional(weights)
    for _ in range(300):
        assert shares.peek(ask()) == alike.order(ask()) == shares.order(ask())
    assert len(shares._cycle) <= 1


def test_large_weights_are_worked_out_as_they_are_needed():
    shares = Proportional((10_000, 9_999, 1))
    picks = [shares.order()[0] for _ in range(20_000)]
    assert (picks.count(0), picks.count(1), picks.count(2)) == (10_000, 9_999, 1)
    assert [shares.order()[0] for _ in range(20_000)] == picks


# -- sticky ------------------------------------------------------------------------------------------------------------

BY = {
    "key": lambda value: ask(key=value),
    "tenant": lambda value: ask(tenant=value),
    "x-user": lambda value: ask(headers={"x-user": value}),
}


@pytest.mark.parametrize("by", BY)
def test_the_same_value_goes_to_the_same_target_in_every_worker(by):
    one, other = Proportional((1, 1, 1), Sticky(by)), Proportional((1, 1, 1), Sticky(by))
    for number in range(50):
        request = BY[by](f"value {number}")
        assert one.order(request) == one.peek(request) == one.order(request) == other.order(request)
    assert len({one.order(BY[by](f"value {number}")) for number in range(50)}) == 6, "failover differs as well"


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any))
@settings(deadline=None, max_examples=10)
def test_shares_of_values_follow_the_weights(weights):
    shares = Proportional(weights, Sticky("key"))
    picks = Counter(shares.order(ask(key=f"k{number}"))[0] for number in range(PICKS))
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(picks[number] / PICKS - share) <= 5 * (share * (1 - share) / PICKS) ** 0.5, "as near as luck gets"


@given(st.lists(st.integers(1, 20), min_size=2, max_size=5), st.data())
@settings(deadline=None, max_examples=25)
def test_one_weight_changed_moves_values_to_or_from_that_target_alone(weights, data):
    changed = data.draw(st.integers(0, len(weights) - 1))
    weight = data.draw(st.integers(0, 40))
    before = Proportional(weights, Sticky("key"))
    after = Proportional([weight if number == changed else old for number, old in enumerate(weights)], Sticky("key"))
    for number in range(500):
        request = ask(key=f"k{number}")
        old, new = before.order(request)[0], after.order(request)[0]
        assert old == new or (new if weight > weights[changed] else old) == changed


def test_a_target_that_comes_moves_only_what_it_takes():
    before = Proportional((1, 1), Sticky("key"), ["a", "b"])
    after = Proportional((1, 1, 1), Sticky("key"), ["new", "a", "b"])
    moved = 0
    for number in range(1000):
        old, new = before.order(ask(key=f"k{number}"))[0], after.order(ask(key=f"k{number}"))[0]
        assert new in (0, old + 1)
        moved += new == 0
    assert 280 < moved < 390


def test_without_a_value_targets_take_turns():
    shares = Proportional((3, 1), Sticky("x-user"))
    assert [shares.order(request)[0] for request in [ask(), ask(headers={"x-user": ""}), ask(), ask()]] == [0, 0, 1, 0]


def test_what_proportional_tells():
    assert Proportional((3, 1)).told(ask()) == "proportional 3:1: in turn"
    sticky = Proportional((1, 1), Sticky("x-user"))
    first = sticky.order(ask(headers={"x-user": "ann"}))[0] + 1
    assert sticky.told(ask(headers={"x-user": "ann"})) == f"proportional 1:1, sticky by header x-user: `ann` always goes to target {first}"
    assert sticky.told(ask()) == "proportional 1:1, sticky by header x-user: the request has none, so in turn"
    assert len(sticky.told(ask(headers={"x-user": "ann" * 10_000}))) < 150


# -- primary-backup ----------------------------------------------------------------------------------------------------

BACK = 30.0


@pytest.mark.parametrize(
    "steps",
    [
        [(0, "ww", "01"), (1, "-w", "10"), (2, "ww", "10"), (31.9, "ww", "10"), (32, "ww", "01")],
        [(0, "-w", "10"), (10, "ww", "10"), (39, "-w", "10"), (41, "ww", "10"), (70, "ww", "10"), (71, "ww", "01")],
        [(0, "www", "012"), (1, "--w", "201"), (2, "-ww", "210"), (20, "www", "201"), (32, "www", "102"), (50, "www", "012")],
        [(0, "www", "012"), (1, "-ww", "120"), (2, "w-w", "201"), (32, "w-w", "021")],
        [(0, "--", "01"), (1, "-w", "10"), (2, "ww", "10"), (32, "ww", "01")],
        [(0, "ww", "01"), (1, "--", "01"), (2, "w-", "01"), (3, "ww", "01")],
        [(0, "-w", "10"), (1, "w-", "01"), (2, "ww", "01")],
        [(0, "w", "0"), (1, "-", "0"), (2, "w", "0")],
    ],
    ids="simple interrupted tiers second-dies all-away all-away-then-primary backup-dies alone".split(),
)
def test_fail_over_and_back(steps):
    tiers = PrimaryBackup(len(steps[0][1]), BACK)
    for after, seen, wanted in steps:
        well = [one == "w" for one in seen]
        peeked = tiers.peek(ask(now=NOW + after), well)
        assert peeked == tiers.peek(ask(now=NOW + after), well) == tiers.order(ask(now=NOW + after), well)
        assert "".join(map(str, peeked)) == wanted, after


def test_no_hysteresis_when_none_is_wanted():
    tiers = PrimaryBackup(2, 0.0)
    assert tiers.order(ask(), [False, True]) == (1, 0) and tiers.order(ask(), [True, True]) == (0, 1)


def long(now, since):
    """Who has been well for long enough."""
    return [number for number, began in enumerate(since) if began is not None and now - began >= BACK]


@given(st.lists(st.tuples(st.floats(0, 40), st.lists(st.booleans(), min_size=3, max_size=3)), max_size=60))
def test_a_tier_takes_over_from_a_well_one_only_when_it_was_well_long_enough(history):
    tiers, now, front = PrimaryBackup(3, BACK), NOW, None
    since: list[float | None] = [-BACK] * 3  # since when each is well without interruption; at the start: always
    for seconds, well in history:
        now += seconds
        since = [(old if old is not None else now) if fine else None for fine, old in zip(well, since, strict=True)]
        order = tiers.order(ask(now=now), well)
        assert sorted(order) == [0, 1, 2]
        if any(well):
            assert well[order[0]]
            if front is not None and well[front] and order[0] != front:
                assert order[0] < front and order[0] in long(now, since)
            ready = long(now, since)
            assert not ready or order[0] <= ready[0], "who was well long enough does not wait behind worse ones"
            front = order[0]
        else:
            assert order == (0, 1, 2)
            front = None


def test_what_primary_backup_tells():
    tiers = PrimaryBackup(3, BACK)
    assert tiers.told(ask(), [True] * 3) == "primary-backup: tier 1 of 3 serves"
    assert tiers.told(ask(), [False] * 3) == "primary-backup: no tier is well, so all are tried in their order"
    tiers.order(ask(), [False, False, True])
    tiers.order(ask(now=NOW + 1), [True, False, True])
    said = tiers.told(ask(now=NOW + 11), [True, False, True])
    assert said == "primary-backup: tier 3 of 3 serves; tier 1 is well again, and takes over in 20 s; tier 2 is away"
    assert PrimaryBackup(3, BACK).news(NOW) is None
    for other, now in ((PrimaryBackup(3, BACK), NOW + 5_000), (PrimaryBackup(2, BACK), NOW)):
        other.learn(msgspec.json.decode(msgspec.json.encode(tiers.news(NOW + 11))), now)  # another process, with a clock of its own
        many = other._count
        told = other.told(ask(now=now), [True, False, True][:many])
        assert told == (said if many == 3 else "primary-backup: tier 1 of 2 serves"), "tiers that became others begin anew"


# -- load --------------------------------------------------------------------------------------------------------------


def load(in_flight=0, *, running=None, waiting=None, kv=None, at=NOW, since=0) -> Load:
    """in_flight: when scraped; since: starts less ends since then."""
    made = Load()
    made.in_flight = in_flight
    made.figures(at, running, waiting, kv)
    made.in_flight += since
    return made


@pytest.mark.parametrize(
    ("made", "busy"),
    [
        (load(3), 3),
        (load(3, running=10), 10),
        (load(3, running=10, waiting=2), 10 + 2 * WAITING),
        (load(3, running=10, since=4), 14),
        (load(3, running=10, since=-3), 7),
        (load(5, running=2), 5),
        (load(5, running=2, since=-5), 0),
        (load(0, waiting=1), WAITING),
        (load(0, running=1, kv=0.9), 1),
        (load(0, running=1, kv=0.95), 1 + KV_FULL / 2),
        (load(0, running=1, kv=1.0), 1 + KV_FULL),
        (load(3, running=10, at=NOW - STALE), 10),
        (load(3, running=10, at=NOW - STALE - 0.1, since=1), 4),
        (load(3, kv=1.0), 3),
    ],
)
def test_how_busy(made, busy):
    assert made.busy(NOW) == pytest.approx(busy)


def test_time_to_first_token_is_a_moving_average():
    made = Load()
    made.began(1.0)
    made.began(2.0)
    assert made.ttft == pytest.approx(1.2)


# -- least-busy --------------------------------------------------------------------------------------------------------

LUCKS = [number / 997 for number in range(997)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=FEW), st.floats(0, 1, exclude_max=True))
def test_of_few_the_least_busy_is_taken_and_the_others_follow(flying, luck):
    order = LeastBusy().order(ask(luck=luck), [load(count) for count in flying])
    assert [flying[number] for number in order] == sorted(flying) and sorted(order) == list(range(len(flying)))


def test_luck_decides_among_equals():
    picks = Counter(LeastBusy().order(ask(luck=luck), [load(1), load(1), load(1)])[0] for luck in LUCKS)
    assert set(picks) == {0, 1, 2} and max(picks.values()) < 1.2 * min(picks.values())


@given(st.lists(st.integers(0, 9), min_size=FEW + 1, max_size=40), st.floats(0, 1, exclude_max=True))
def test_of_many_the_less_busy_of_two_is_taken(flying, luck):
    loads = [load(count) for count in flying]
    order = LeastBusy().order(ask(luck=luck), loads)
    assert order == LeastBusy().peek(ask(luck=luck), loads)
    assert sorted(order) == list(range(len(flying)))
    assert flying[order[0]] < max(flying) or sum(count >= flying[order[0]] for count in flying) > 1, "the busiest one alone never is"
    following = [flying[number] for number in order[1 : min(len(order), COMPARED)]]
    assert following == sorted(following)


def test_every_pair_is_drawn_equally_often():
    flying = [0, 1, 2, 3, 4]
    picks = Counter(LeastBusy().order(ask(luck=luck), [load(count) for count in flying])[0] for luck in LUCKS)
    assert [round(picks[number] / len(LUCKS) * 10) for number in range(5)] == [4, 3, 2, 1, 0], "4, 3, 2, 1, 0 of the 10 pairs"


def test_like_is_compared_with_like():
    quiet_but_unknown, known = load(2), load(1, running=50)
    assert LeastBusy().order(ask(), [quiet_but_unknown, known]) == [1, 0], "by this worker's requests alone"
    assert LeastBusy().order(ask(), [load(2, running=2), known]) == [0, 1]


def test_least_busy_of_none_and_one():
    assert LeastBusy().order(ask(), []) == [] and LeastBusy().order(ask(), [load()]) == [0]
    assert LeastBusy().told(ask()).startswith("least-busy: ")


# -- the chain of a prompt ---------------------------------------------------------------------------------------------


def test_a_conversation_keeps_its_chain_as_it_grows():
    talk = [("system", "Be brief."), ("user", "Hello")]
    keys = chain(ask(talk))
    assert len(keys) == 2
    for turn in range(3):
        talk += [("assistant", f"Yes {turn}?"), ("user", "Go on")]
        assert chain(ask(talk)) == keys
    assert chain(ask([("user", "Hello")]))[-1] == chain(ask([("user", "Hello"), ("assistant", "x")]))[-1] != keys[-1]


def test_conversations_share_what_they_share():
    one, other = chain(ask([("system", "A"), ("user", "1")])), chain(ask([("system", "A"), ("user", "2")]))
    assert one[0] == other[0] and one[1] != other[1]
    assert not set(one) & set(chain(ask([("system", "B"), ("user", "1")])))
    tools = {"tools": [{"function": {"name": "f"}}]}
    assert not set(one) & set(chain(ask([("system", "A"), ("user", "1")], fields=tools))), "engines put tools first"


def test_a_long_document_is_known_whatever_is_asked_about_it():
    document = "".join(map(str, range(2000)))
    one, other = (chain(ask([("user", f"{document} {question}")])) for question in ("Who?", "Where?"))
    assert one[:2] == other[:2] and one[-1] != other[-1] and len(one) == 3


@pytest.mark.parametrize("length", [BLOCKS[-1] * 2, HEAD * 3])
def test_a_very_long_beginning(length):
    one = chain(ask([("system", "s" * length), ("user", "a")]))
    assert one == chain(ask([("system", "s" * length), ("user", "a"), ("assistant", "b"), ("user", "c")]))
    other = chain(ask([("system", "s" * length), ("user", "b")]))
    assert one[: len(BLOCKS)] == other[: len(BLOCKS)]
    assert (one[-1] == other[-1]) is (length > HEAD), "nobody looks further than that"
    longer = chain(ask([("system", "s" * (length + 1)), ("user", "a")]))
    assert (one[-1] == longer[-1]) is (length > HEAD), "with the same last bytes, but not in the same place"


@pytest.mark.parametrize("name", ["prompt", "input"])
def test_a_prompt_without_messages_is_known_by_its_blocks(name):
    text = "".join(map(str, range(500)))
    short, long = chain(ask(fields={name: text[:300]})), chain(ask(fields={name: text}))
    assert len(short) == 1 and short[0] == long[0] and len(long) == sum(block <= len(text) for block in PLAIN_BLOCKS)
    assert chain(ask(fields={name: "a"})) != chain(ask(fields={name: "b"}))


STRANGE = [b"[" * 100_000, b'[{"role":' * 30_000, b"[]", b"{}", b"[1,2]", b'[{"role":"user"', b" " * 200_000]


@given(st.binary(max_size=200) | st.sampled_from(STRANGE))
def test_whatever_stands_there_has_a_chain(raw):
    keys = chain(Ask(api="chat", model="m", fields={"messages": msgspec.Raw(raw)}))
    assert keys and all(0 <= key < 1 << 64 for key in keys)


def test_the_chain_is_the_same_in_every_process():
    assert chain(ask([("system", "A"), ("user", "1")])) == [17733466351987251087, 15951033543290302631]


def test_no_prompt_no_chain():
    assert chain(ask()) == []


# -- prefix-affinity ---------------------------------------------------------------------------------------------------

IDS = [f"gpu http://10.0.0.{number}:8000" for number in range(8)]


def fleet(count=8) -> list[Load]:
    return [Load() for _ in range(count)]


def talk(system, number, turns=0) -> Ask:
    more = [("assistant", "yes"), ("user", "go on")] * turns
    return ask([("system", f"You are {system}"), ("user", f"I am {number}"), *more])


def test_a_conversation_stays_where_it_is():
    affinity, loads = PrefixAffinity(), fleet()
    homes = {number: affinity.order(talk("a", number), IDS, loads)[0] for number in range(200)}
    for turns in (1, 2, 3):
        for number, home in homes.items():
            order = affinity.order(talk("a", number, turns), IDS, loads)
            assert order[0] == home and sorted(order) == list(range(8))


def test_a_frequent_system_prompt_is_spread_and_a_rare_one_is_not():
    affinity, loads = PrefixAffinity(), fleet()
    homes: Counter[int] = Counter()
    rare = set()
    for number in range(2000):
        homes[affinity.order(talk("frequent", number), IDS, loads)[0]] += 1
        if number % 40 == 0:
            rare.add(affinity.order(talk("rare", number), IDS, loads)[0])
    assert len(rare) == 1 and min(homes.values()) > 150


def test_who_shares_a_system_prompt_is_spilled_to_those_that_hold_it():
    affinity, loads = PrefixAffinity(), fleet()
    for number in range(3000):
        affinity.order(talk("half of all" if number % 4 == 0 else number, number), IDS, loads)
    sizes = [
        len({frozenset(affinity.peek(talk("half of all", n), IDS, loads)[:size]) for n in range(99_000, 99_050)}) for size in range(1, 8)
    ]
    assert 1 in sizes and sizes[0] > 1, "some first ones are the same for all, in another order for each"


def test_a_new_conversation_takes_the_less_loaded_of_its_first_two():
    affinity, loads = PrefixAffinity(), fleet()
    loads[7].in_flight = 100  # so that nobody else is at the bound
    for number in range(50):
        first, second, *_ = affinity.peek(talk(number, number), IDS, loads)
        if 7 not in (first, second):
            loads[first].in_flight = 1
            assert affinity.peek(talk(number, number), IDS, loads)[:2] == [second, first]
            loads[first].in_flight = 0


def test_a_beginning_that_many_have_in_common_has_no_home():
    affinity, loads = PrefixAffinity(), fleet()
    affinity.order(talk("a", 1), IDS, loads)
    assert "was last served" in affinity.told(talk("a", 1))
    for _ in range(100):
        affinity.order(talk("a", 1), IDS, loads)
    assert "is not remembered" in affinity.told(talk("a", 1))


def test_workers_agree_without_speaking():
    one, other = PrefixAffinity(), PrefixAffinity()
    for number in range(500):  # each sees other conversations of the same kinds
        one.order(talk(number % 3, f"one {number}"), IDS, fleet())
        other.order(talk(number % 3, f"other {number}"), IDS, fleet())
    agreed = sum(one.peek(talk(n % 3, n), IDS, fleet()) == other.peek(talk(n % 3, n), IDS, fleet()) for n in range(200))
    assert agreed == 200


def test_moves_are_told_and_learned():
    one, other, loads = PrefixAffinity(), PrefixAffinity(), fleet()
    guess = other.peek(talk("a", 1), IDS, loads)[0]
    one.order(talk("a", 1), IDS, loads)
    assert one.moves() == {}, "where hashing sends it needs no telling"
    loads[guess].in_flight = 5
    home = one.order(talk("a", 1, 1), IDS, loads)[0]
    assert home != guess
    other.learn(one.moves())
    assert one.moves() == {} and other.peek(talk("a", 1, 2), IDS, fleet())[0] == home
    loads = fleet()
    loads[home].in_flight = 5
    assert one.order(talk("a", 1, 2), IDS, loads)[0] == guess
    assert list(one.moves().values()) == [IDS[guess]], "back to where hashing sends it: others had learned otherwise"


def test_the_ids_decide_not_the_places():
    affinity = PrefixAffinity()
    for number in range(50):
        home = IDS[affinity.peek(talk("a", number), IDS, fleet())[0]]
        turned = IDS[3:] + IDS[:3]
        assert turned[affinity.peek(talk("a", number), turned, fleet())[0]] == home
        fewer = [one for one in IDS if one != IDS[5]]
        assert home == IDS[5] or fewer[affinity.peek(talk("a", number), fewer, fleet(7))[0]] == home


@given(st.integers(2, 9), st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=200), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_bound_is_never_exceeded(count, steps, scraped):
    affinity, loads, going = PrefixAffinity(), fleet(count), []
    others = [number % 3 if scraped else 0 for number in range(count)]
    for one, extra in zip(loads, others, strict=True):
        if scraped:
            one.figures(NOW, extra, 0, 0)
    for number, (system, ends) in enumerate(steps):
        pick = affinity.order(talk(system, number // 2), IDS[:count] + ["one more"] * (count - 8), loads)[0]
        flying = [one.in_flight + extra for one, extra in zip(loads, others, strict=True)]
        assert flying[pick] + 1 <= ceil(BOUND * (sum(flying) + 1) / count)
        loads[pick].in_flight += 1
        going.append(pick)
        if ends:
            loads[going.pop(0)].in_flight -= 1


def test_all_conversations_alike_are_still_shared_out():
    affinity, loads = PrefixAffinity(), fleet()
    for _ in range(400):
        loads[affinity.order(talk("a", 1), IDS, loads)[0]].in_flight += 1
    assert max(one.in_flight for one in loads) <= ceil(BOUND * 400 / 8)


def test_a_peek_changes_nothing():
    affinity, loads = PrefixAffinity(), fleet()
    for number in range(300):
        affinity.order(talk("a", number), IDS, loads)
    for number in range(300, 400):
        request = talk("a", number)
        assert affinity.peek(request, IDS, loads) == affinity.peek(request, IDS, loads) == affinity.order(request, IDS, loads)


def test_without_a_prompt_the_least_in_flight():
    loads = [load(3), load(1), load(2)]
    assert PrefixAffinity().order(ask(), IDS[:3], loads) == [1, 2, 0]
    assert PrefixAffinity().order(talk("a", 1), IDS[:1], loads[:1]) == [0] and PrefixAffinity().order(talk("a", 1), [], []) == []


def test_what_is_remembered_is_bounded():
    affinity, loads = PrefixAffinity(), fleet(2)
    for number in range(KNOWN + 50):
        affinity.order(talk("a", number), IDS[:2], loads)
    assert len(affinity._homes) == KNOWN and len(affinity._counts) <= 2 * SPAN
    assert affinity.told(talk("a", 0)).endswith("is not remembered, so its hash decides")
    assert "was last served by gpu http://10.0.0." in affinity.told(talk("a", KNOWN))
    assert affinity.told(ask()) == "prefix-affinity: no prompt, so the least in flight"
