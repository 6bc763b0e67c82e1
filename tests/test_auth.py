"""Who is calling, from where, and which models they may name: tables."""

import hashlib

import pytest

from gateway.auth.keyring import ANONYMOUS, Keyring, may_use
from gateway.auth.proxies import Proxies
from gateway.config.resolved import Key
from gateway.errors import Refusal

SECRET = "gw_live_0123456789abcdef"


def key(*models: str, id: str = "k1", secret: str = SECRET) -> Key:
    return Key(id, hashlib.sha256(secret.encode()).digest(), "acme", "bot", models or ("*",))


@pytest.fixture
def ring():
    ring = Keyring("keys")
    ring.add([key(), key(id="k2", secret="other")])
    return ring


@pytest.mark.parametrize("header", [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER  {SECRET} "])
def test_a_key_is_known_by_its_secret(ring, header):
    assert ring.identify(header).id == "k1" and len(ring) == 2


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        (SECRET, "invalid_api_key"),
        ("Bearer", "invalid_api_key"),
        ("Bearer ", "invalid_api_key"),
        ("Basic " + SECRET, "invalid_api_key"),
        (f"Bearer {SECRET}x", "invalid_api_key"),
        ("Bearer \udcff", "invalid_api_key"),
        (f"Bearer {hashlib.sha256(SECRET.encode()).hexdigest()}", "invalid_api_key"),
        ("Bearer k1", "invalid_api_key"),
    ],
)
def test_everybody_else_is_refused_alike(ring, header, code):
    with pytest.raises(Refusal) as refused:
        ring.identify(header)
    assert (refused.value.status, refused.value.code, refused.value.phase) == (401, code, "K")
    assert SECRET not in refused.value.message


def test_without_keys_everybody_is_anonymous():
    assert Keyring("none").identify(None) is ANONYMOUS and may_use(ANONYMOUS, "anything")


@pytest.mark.parametrize(
    ("globs", "name", "may"),
    [
        (("*",), "x", True),
        (("qwen*",), "qwen3", True),
        (("qwen*",), "Qwen3", False),
        (("qwen",), "qwen3", False),
        ((), "x", True),
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
    ],
)
def test_which_models_a_key_may_use(globs, name, may):
    assert may_use(key(*globs), name) is may


def test_usable_models_are_those_of_the_globs(ring):
    assert ring.usable(key("qwen*", "x"), ["qwen", "qwen3", "x", "y"]) == {"qwen", "qwen3", "x"}


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
