"""The form of a key's secret."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.keys import checksum_ok, hash_of, new_id, new_secret


def test_a_new_secret_has_the_form_and_its_hash():
    id, secret, hash = new_secret()
    assert re.fullmatch(rf"gw_{id}_[0-9A-Za-z]{{43}}_[0-9A-Za-z]{{6}}", secret) and re.fullmatch("[a-z2-9]{8}", id)
    assert hash == "sha256:" + hashlib.sha256(secret.encode()).hexdigest() == hash_of(secret)
    assert checksum_ok(secret)


def test_ids_may_be_chosen():
    assert new_secret("team-a.1")[1].startswith("gw_team-a.1_")
    for bad in ("", "a_b", "a b", "-a", "x" * 65, "ä"):
        with pytest.raises(ValueError):
            new_secret(bad)


def test_no_two_are_alike():
    assert len({new_secret()[1] for _ in range(100)} | {new_id() for _ in range(100)}) == 200


@given(st.integers(0, 60), st.sampled_from("09AZaz_-"))
def test_one_wrong_character_is_noticed(place, character):
    secret = "gw_abcdefgh_" + "q" * 43
    made = new_secret("abcdefgh")[1]
    wrong = made[:place] + character + made[place + 1 :]
    assert checksum_ok(wrong) == (wrong == made)
    assert not checksum_ok(secret)


def test_imported_secrets_are_not_ours():
    assert not checksum_ok("sk-abcdef") and hash_of("sk-abcdef").startswith("sha256:")
