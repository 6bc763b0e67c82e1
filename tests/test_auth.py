"""Who is calling, from where, and what they may do: tables."""

import hashlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.auth.addresses import Gate
from gateway.auth.keyring import ANONYMOUS, Keyring, Visitor, standing
from gateway.auth.permit import Permit, in_set
from gateway.auth.proxies import Proxies
from gateway.auth.systems import told_system
from gateway.config.keys import new_secret
from gateway.config.resolve_when import resolve_schedules
from gateway.config.resolved import Key
from gateway.config.resolved_access import OPEN, Access, Models, Switch
from gateway.config.when import Schedule
from gateway.errors import Refusal
from gateway.route.schedule import compile_schedule

SECRET = "gw_live_0123456789abcdef"
EIGHT, TWENTY = (datetime(2026, 11, 27, hour, tzinfo=UTC).timestamp() for hour in (8, 20))
SCHEDULES = {"office": lambda now: now == EIGHT, "never": lambda now: False}


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def key(secret: str = SECRET, **more: object) -> Key:
    return Key("k1", digest(secret), "acme", "bot", **more)  # type: ignore[arg-type]


def ring_of(*keys: Key, access: dict[str, Access] | None = None) -> Keyring:
    ring = Keyring("keys", access or {})
    ring.schedules = SCHEDULES
    ring.add(keys)
    return ring


def permit(*chain: Access) -> Permit:
    return Permit(chain, SCHEDULES)


def code_of(call: object, *arguments: object) -> str:
    with pytest.raises(Refusal) as refused:
        call(*arguments)  # type: ignore[operator]
    return refused.value.code


def lost(ring: Keyring, found: Key) -> str | None:
    no = ring.lost(found)
    return None if no is None else no.code


@pytest.fixture
def ring():
    return ring_of(key(), key("other"))


@pytest.mark.parametrize("header", [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER  {SECRET} "])
def test_a_key_is_known_by_its_secret(ring, header):
    assert ring.identify(header, Visitor()).id == "k1" and len(ring) == 2


@pytest.mark.parametrize(
    ("header", "code", "log"),
    [
        (None, "missing_api_key", "no key"),
        ("", "missing_api_key", "no key"),
        (SECRET, "invalid_api_key", "not a bearer header"),
        ("Bearer", "invalid_api_key", "not a bearer header"),
        ("Bearer ", "invalid_api_key", "not a bearer header"),
        ("Basic " + SECRET, "invalid_api_key", "not a bearer header"),
        (f"Bearer {SECRET}x", "invalid_api_key", "mistyped key"),
        pytest.param(f"Bearer {new_secret('k9')[1][:-1]}", "invalid_api_key", "mistyped key", id="not whole"),
        pytest.param(f"Bearer {new_secret('k9')[1]}", "invalid_api_key", "unknown key", id="not ours"),
        ("Bearer sk-somebody-elses", "invalid_api_key", "unknown key"),
        ("Bearer \udcff", "invalid_api_key", "unknown key"),
        (f"Bearer {digest(SECRET).hex()}", "invalid_api_key", "unknown key"),
        ("Bearer k1", "invalid_api_key", "unknown key"),
    ],
)
def test_everybody_else_is_refused_alike_but_not_in_our_log(ring, header, code, log):
    with pytest.raises(Refusal) as refused:
        ring.identify(header, Visitor())
    no = refused.value
    assert (no.status, no.code, no.phase, no.log) == (401, code, "K", log)
    assert SECRET not in no.message and (
        code == "missing_api_key" or log == "not a bearer header" or no.message == "Incorrect API key provided."
    )


def test_without_keys_everybody_is_anonymous_and_may_do_anything():
    ring = Keyring("none", {})
    assert ring.identify(None, Visitor()) is ANONYMOUS and ring.lost(ANONYMOUS) is None
    assert ring.permit(ANONYMOUS).allows("anything", ("anything",), 0.0) and not ring.permit(ANONYMOUS).checked


def test_who_asks_again_on_a_connection_is_known_under_the_same_keys_alone(monkeypatch):
    ring, visitor = ring_of(key()), Visitor()
    header = f"Bearer {SECRET}"
    first = ring.identify(header, visitor)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.sha256", None)
        assert ring.identify(header, visitor) is first
    for other in ("Bearer other", header + "x", None, ""):
        with pytest.raises(Refusal):
            ring.identify(other, visitor)
    with pytest.raises(Refusal):
        ring_of().identify(header, visitor)
    assert ring.identify(header, visitor) is first


@pytest.mark.parametrize(
    ("settings", "now", "code"),
    [
        ({}, 9e9, None),
        ({"enabled": False}, 0.0, "key_disabled"),
        ({"expires": 100.0}, 99.9, None),
        ({"expires": 100.0}, 100.0, "key_expired"),
        ({"expires": 100.0, "enabled": False}, 200.0, "key_disabled"),
    ],
)
def test_a_key_that_is_disabled_or_has_expired(settings, now, code):
    found = ring_of(key(**settings)).identify(f"Bearer {SECRET}", Visitor())
    if code is None:
        standing(found, now)
    else:
        assert code_of(standing, found, now) == code


def test_the_secret_before_is_good_for_a_while_and_counts_as_the_same_key():
    ring = ring_of(key(previous=digest("old"), until=100.0, systems=("crm",)))
    old = ring.identify("Bearer old", Visitor())
    assert (old.id, old.systems, old.expires) == ("k1", ("crm",), 100.0) and ring.lost(old) is None
    assert ring_of(key(previous=digest("old"), until=100.0, expires=50.0)).identify("Bearer old", Visitor()).expires == 50.0
    assert lost(ring_of(key()), old) == "invalid_api_key"


def test_an_open_request_of_a_key_that_is_gone_or_disabled_is_not_good_any_more():
    found = ring_of(key()).identify(f"Bearer {SECRET}", Visitor())
    assert lost(ring_of(key(expires=1.0)), found) is None
    assert lost(ring_of(key(enabled=False)), found) == "key_disabled" and lost(ring_of(key("new")), found) == "invalid_api_key"


def test_a_ring_that_nobody_asks_any_more_is_emptied_bit_by_bit():
    ring = ring_of(*(key(str(number)) for number in range(5)))
    ring.permit(ring.identify("Bearer 3", Visitor()))
    assert [ring.let_go(2) for _ in range(3)] == [True, True, False] and len(ring) == 0


def test_keys_that_open_the_same_share_a_permit():
    ring = ring_of(key(access=Access(Models(("qwen*",)))), key("other", access=Access(Models(("qwen*",)))), key("third"))
    first, second, third = (ring.permit(ring.identify(f"Bearer {secret}", Visitor())) for secret in (SECRET, "other", "third"))
    assert first is second and first is not third


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "name", "may"),
    [
        (("*",), "x", True),
        (("qwen*",), "qwen3", True),
        (("qwen*",), "Qwen3", False),
        (("qwen",), "qwen3", False),
        (("a", "b"), "b", True),
        (("*-mini",), "gpt-mini", True),
        (("a*c",), "abc", True),
        (("a*c",), "abcd", False),
        (("m[1]",), "m[1]", True),
        (("m[1]",), "m1", False),
        (("a?",), "ab", False),
        (("Org/*",), "Org/x/y", True),
        (("a.c",), "abc", False),
        (("*",), "a\nb", True),
        ((), "x", False),
    ],
)
def test_which_models_a_key_may_use(globs, name, may):
    assert permit(Access(Models(globs))).allows(name, (name,), 0.0) is may
    assert permit(Access(Models(globs))).allows(name, (name,), 0.0) is may


@pytest.mark.parametrize(
    ("allow", "deny", "name", "may"),
    [
        (("*",), ("big",), "big", False),
        (("*",), ("big",), "gpt-4o", False),
        (("*",), ("gpt-4o*",), "big", False),
        (("*",), ("gpt-4o-mini",), "gpt-4o", True),
        (("*",), ("gpt-4o-mini",), "gpt-4o-mini", False),
        (("gpt-4o",), (), "gpt-4o", True),
        (("gpt-4o",), (), "big", False),
        (("big",), (), "gpt-4o", True),
        (("big",), ("*",), "big", False),
    ],
)
def test_denied_is_a_model_by_any_of_its_names(allow, deny, name, may):
    assert in_set(Models(allow, deny), name, ("big", "gpt-4o", "gpt-4o*")) is may


def test_usable_models_are_those_of_all_three():
    models = [(name, (name,)) for name in ("qwen", "qwen3", "x", "y")]
    found = permit(Access(Models(("*",), ("y",))), OPEN, Access(Models(("qwen*", "x", "y")))).usable(models, 0.0)
    assert found == {"qwen", "qwen3", "x"}


def test_permissions_intersect():
    chain = Access(Models(("qwen*",)), apis=("chat", "embeddings")), Access(Models(("*",), ("qwen-big",))), Access(apis=("embeddings",))
    may = permit(*chain)
    assert may.allows("qwen", ("qwen",), 0.0) and not may.allows("qwen-big", ("qwen-big",), 0.0) and not may.allows("x", ("x",), 0.0)
    may.check("1.2.3.4", "embeddings")
    may.check("1.2.3.4", "models")
    assert code_of(may.check, "1.2.3.4", "chat") == "api_not_allowed"
    assert not permit(Access(Models(("a",)))).checked and may.checked


def test_names_of_strangers_do_not_fill_the_memory():
    may = permit(Access(Models(("gpt*",))))
    for number in range(3000):
        assert may.allows(f"gpt-{number}", ("gpt*",), 0.0)
    assert len(may._allowed) <= 1000


# -- hours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "now", "may"),
    [
        ((Switch(during="office", models=Models(("small",))),), EIGHT, {"small"}),
        ((Switch(during="office", models=Models(("small",))),), TWENTY, {"small", "big"}),
        ((Switch(outside="office", models=Models(("small",))),), TWENTY, {"small"}),
        ((Switch(during="office", priority=9), Switch(during="office", models=Models(("big",)))), EIGHT, {"big"}),
        ((Switch(during="office", models=Models(("big",))), Switch(outside="never", models=Models(("small",)))), EIGHT, {"big"}),
        ((Switch(during="office", models=Models(("big",))), Switch(outside="never", models=Models(("small",)))), TWENTY, {"small"}),
        ((Switch(during="office", models=Models(())),), EIGHT, set()),
    ],
)
def test_models_of_the_hour(hours, now, may):
    found = permit(OPEN, OPEN, Access(hours=hours))
    assert {name for name in ("small", "big") if found.allows(name, (name,), now)} == may
    assert found.usable([(name, (name,)) for name in ("small", "big")], now) == may


@pytest.mark.parametrize(
    ("chain", "eight", "twenty"),
    [
        ((OPEN, OPEN, OPEN), 5, 5),
        ((Access(priority=2), OPEN, OPEN), 2, 2),
        ((Access(priority=2), Access(priority=0), OPEN), 0, 0),
        ((Access(priority=2), Access(priority=0), Access(priority=9)), 9, 9),
        ((Access(priority=2), OPEN, Access(hours=(Switch(during="office", priority=8),))), 8, 2),
        ((Access(hours=(Switch(outside="office", priority=1),)), OPEN, Access(priority=7)), 7, 7),
        ((OPEN, Access(priority=4, hours=(Switch(outside="office", priority=1),)), OPEN), 4, 1),
    ],
)
def test_a_priority_is_that_of_the_nearest_that_says_one(chain, eight, twenty):
    found = permit(*chain)
    assert (found.priority(EIGHT), found.priority(TWENTY)) == (eight, twenty)


BERLIN = Schedule(zone="Europe/Berlin", when=["02:00-03:00"])
WEEK = Schedule(zone="Europe/Berlin", when=["Mon-Fri 09:00-18:00", "Wed 08:00-20:00"], holidays=["2027-01-01"])


def moment(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "may", "priority"),
    [
        (moment("2027-03-28 01:59"), "big", 5),
        (moment("2027-03-28 01:59") + 60, "big", 5),
        (moment("2027-10-31 02:30"), "small", 8),
        (moment("2027-10-31 02:30", fold=1), "small", 8),
        (moment("2027-10-31 03:00"), "big", 5),
        (moment("2027-06-01 02:30"), "small", 8),
    ],
)
def test_hours_on_days_when_the_clocks_change(now, may, priority):
    """An hour that is skipped is not there; one that comes twice counts twice."""
    schedules = {"night": compile_schedule(resolve_schedules({"night": BERLIN})["night"]).open_at}
    hours = (Switch(during="night", models=Models(("small",)), priority=8),)
    found = Permit([OPEN, OPEN, Access(Models(("big",)), hours=hours)], schedules)
    assert [name for name in ("small", "big") if found.allows(name, (name,), now)] == [may] and found.priority(now) == priority


def test_a_clock_that_jumps_by_a_day_and_back_finds_everything_as_it_was():
    schedules = {"week": compile_schedule(resolve_schedules({"week": WEEK})["week"]).open_at}
    found = Permit([OPEN, OPEN, Access(Models(("big",)), hours=(Switch(during="week", models=Models(("small",))),))], schedules)
    friday = moment("2027-01-08 10:00")
    caller = ring_of(key(expires=friday + 3600)).identify(f"Bearer {SECRET}", Visitor())
    for now, may in ((friday, True), (friday + 86400, False), (friday, True), (friday - 7 * 86400, False), (friday - 86400, True)):
        assert found.allows("small", ("small",), now) is may, "the Friday before was a holiday"
        assert found.usable([("small", ("small",)), ("big", ("big",))], now) == {"small" if may else "big"}
        if now > friday:
            assert code_of(standing, caller, now) == "key_expired"
        else:
            standing(caller, now)


def test_entries_of_a_schedule_that_overlap_add_up():
    week = compile_schedule(resolve_schedules({"week": WEEK})["week"])
    assert [week.open_at(moment(f"2027-01-06 {hour:02}:30")) for hour in (7, 8, 10, 19, 20)] == [False, True, True, True, False]


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "deny", "ip", "may"),
    [
        ((), (), "9.9.9.9", True),
        (("10.0.0.0/8",), (), "10.255.0.1", True),
        (("10.0.0.0/8",), (), "11.0.0.1", False),
        (("10.0.0.0/8",), ("10.0.9.0/24",), "10.0.9.1", False),
        (("10.0.0.0/8",), ("10.0.9.0/24",), "10.0.10.1", True),
        ((), ("10.0.9.0/24",), "10.0.9.1", False),
        ((), ("10.0.9.0/24",), "9.9.9.9", True),
        (("0.0.0.0/0",), (), "9.9.9.9", True),
        (("0.0.0.0/0",), (), "2001:db8::1", False),
        (("2001:db8::/32",), (), "2001:db8:1::1", True),
        (("2001:db8::/32",), (), "2001:db9::1", False),
        (("fe80::/10",), (), "fe80::1%eth0", True),
        (("10.0.0.0/8",), (), "::ffff:10.0.0.1", True),
        (("10.0.0.1/32", "10.0.0.3/32"), (), "10.0.0.3", True),
        (("10.0.0.1/32", "10.0.0.3/32"), (), "10.0.0.2", False),
        (("10.0.0.0/8",), (), "", False),
        ((), ("10.0.0.0/8",), "no address", False),
    ],
)
def test_who_is_let_in(allow, deny, ip, may):
    gate = Gate(allow, deny)
    assert gate.lets_in(ip) is may and gate.lets_in(ip) is may


def test_a_caller_has_to_be_let_in_everywhere():
    may = permit(Access(allow=("10.0.0.0/8",)), OPEN, Access(deny=("10.1.0.0/16",)))
    may.check("10.2.0.1", "chat")
    assert code_of(may.check, "10.1.0.1", "chat") == code_of(may.check, "9.9.9.9", "chat") == "address_not_allowed"


# -- what callers say of themselves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("globs", "said", "told"),
    [
        ((), "crm", ""),
        (("crm",), "crm", "crm"),
        (("crm",), "erp", ""),
        (("crm", "erp-*"), "erp-4", "erp-4"),
        (("*",), "Anything.1", "Anything.1"),
        (("*",), None, ""),
        (("*",), "", ""),
        (("*",), "two words", ""),
        (("*",), "x" * 65, ""),
        (("*",), "a\nb", ""),
        (("*",), "ä", ""),
    ],
)
def test_the_name_of_the_calling_application(globs, said, told):
    assert told_system(globs, said) == told


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1:80"], "1.1.1.1"),
        ("10.0.0.1", ["[2001:db8::7]:80"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["1.1.1.1"], "1.1.1.1"),
        ("::ffff:10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, ::ffff:10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["010.0.0.1"], "10.0.0.1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_the_rightmost_address_that_no_trusted_proxy_has(peer, forwarded, found):
    assert Proxies(["10.0.0.0/8", "fd00::/8"]).caller(peer, forwarded) == found
