"""The record as a view of an exchange."""

from typing import Any

from gateway.exchange import MODEL_MOST, Exchange
from gateway.record import Attempt, Tokens, decode_record, encode_record


def exchange(**known: Any) -> Exchange:
    x = Exchange("id-1", "id-1", None, "POST", "/v1/chat/completions", {}, "10.0.0.9", 100.0, 1.7e9)
    for name, value in known.items():
        setattr(x, name, value)
    return x


def test_the_open_line_says_which_engine_was_asked() -> None:
    x = exchange(api="chat", model="qwen", channel="gpu", endpoint="http://10.0.0.6:8000", upstream_model="qwen3")
    found = decode_record(encode_record(x.opening("n", 0, 7)))
    assert (found.kind, found.channel, found.endpoint, found.upstream_model, found.rev) == (
        "open",
        "gpu",
        "http://10.0.0.6:8000",
        "qwen3",
        7,
    )
    assert found.status == 0 and found.end == ""


def test_the_done_line_accounts_for_all_of_it() -> None:
    x = exchange(stream=True, read=100.001, connected=100.002, first=100.5, status=200, end="--", tokens=Tokens(5, 0, 11), source="final")
    x.attempts.append(Attempt("first", "gpu", "http://e", "m", "ok", 200, 3.0))
    found = decode_record(encode_record(x.closing("n", 0, 1, 101.5)))
    assert (found.kind, found.status, found.end, found.source) == ("done", 200, "--", "final")
    assert (round(found.ms.read), round(found.ms.connect), round(found.ms.first), round(found.ms.total)) == (1, 1, 500, 1500)
    assert round(found.tpot) == 100, "ten tokens after the first in one second"
    assert found.attempts == x.attempts


def test_records_hold_no_more_of_a_model_than_a_name_may_have() -> None:
    whole, long = exchange(model="q" * MODEL_MOST), exchange(model="q" * 1_000_000)
    for record in (long.opening("n", 0, 1), long.closing("n", 0, 1, 101.0)):
        assert record.model == "q" * MODEL_MOST + "…"
        assert len(encode_record(record)) < 500
    assert whole.opening("n", 0, 1).model == whole.closing("n", 0, 1, 101.0).model == whole.model
    assert len(long.model) == 1_000_000, "what it asks for is looked up as it is"


def test_exchanges_are_told_apart_by_identity_not_by_what_they_say() -> None:
    assert exchange() != exchange() and len({exchange(), exchange()}) == 2
