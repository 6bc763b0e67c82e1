"""An engine that works on requests and produces nothing: found by its figures, as a table of looks."""

import pytest

from gateway.discover.vitals import pulse_of
from gateway.discover.wedged import LONGEST_GAP, Wedged

T = 60.0

WORKS = [(at, 1, at) for at in range(0, 200, 10)]
IDLE = [(at, 0, 7) for at in range(0, 200, 10)]
STUCK = [(at, 2, 7) for at in range(0, 200, 10)]


@pytest.mark.parametrize(
    ("looks", "found_at"),
    [
        (WORKS, None),
        (IDLE, None),
        (STUCK, 60),
        ([(at, 2, 7) for at in range(0, 200, 2)], 60),
        ([(0, 0, 7), *((at, 1, 7) for at in range(10, 60, 10))], None),
        ([(0, 0, 7), *((at, 1, 7) for at in range(10, 80, 10))], 70),  # what ran before the first look at it does not count
        ([(at, 1, at // 50) for at in range(0, 300, 10)], None),  # slow, but it moves
        ([(at, 1, 900 if at < 40 else 3) for at in range(0, 90, 10)], None),  # restarted: the counters begin anew
        ([(at, at // 10 % 2, 7) for at in range(0, 300, 10)], None),  # one short request after another
        ([(0, 1, 7), (300, 1, 7)], None),  # a silence counts for LONGEST_GAP only
        ([(at, 1, 7) for at in range(0, 500, 100)], 400),
        ([(0, 1, None), *((at, 1, None) for at in range(10, 300, 10))], None),
        ([(at, None, 7) for at in range(0, 300, 10)], None),
        ([(at, None if at == 50 else 1, 7) for at in range(0, 110, 10)], None),  # no figures between: begun anew
        ([(at, 1, 0 if at < 50 else 1) for at in range(0, 100, 10)], None),  # a long prompt was read within T
    ],
)
def test_when_an_engine_is_found_wedged(looks, found_at):
    engine = Wedged()
    found = [at for at, running, pulse in looks if engine.see(running, pulse, T, at)]
    assert (found[0] if found else None) == found_at
    if found_at is not None:
        assert engine.since == found_at


@pytest.mark.parametrize(("running", "pulse"), [(2, 8), (0, 7), (None, 7), (2, None)])
def test_how_it_ends(running, pulse):
    engine = Wedged()
    for at, runs, beats in STUCK[:8]:
        engine.see(runs, beats, T, at)
    assert engine.wedged and engine.flat == 70
    assert not engine.see(running, pulse, T, 80) and engine.flat == 0
    engine.see(2, 9, T, 90)
    assert not engine.see(2, 9, T, 90 + T - 1), "and it is found anew only after the whole time"


def test_a_patient_channel():
    engine = Wedged()
    assert not any(engine.see(1, 7, 600.0, at) for at in range(0, 600, 10))
    assert engine.see(1, 7, 600.0, 600)


def test_a_gap_counts_no_more_than_it_may():
    engine = Wedged()
    engine.see(1, 7, T, 0)
    engine.see(1, 7, T, 1000)
    assert engine.flat == LONGEST_GAP


PAGE = """\
# HELP vllm:generation_tokens_total Number of generation tokens processed.
vllm:generation_tokens_total{model_name="q"} 5
vllm:num_requests_running{model_name="tokens"} 1
vllm:e2e_request_latency_seconds_count{model_name="q"} 9
"""


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ('_total{model_name="q"} 5', '_total{model_name="q"} 6', True),
        ("running", "waiting", False),
        ('"tokens"} 1', '"tokens"} 2', False),
        ("count", "sum", False),
        ("HELP", "TYPE", False),
    ],
)
def test_which_figures_are_a_pulse(before, after, moved):
    assert (pulse_of(PAGE, None) != pulse_of(PAGE.replace(before, after), None)) == moved


def test_a_cache_that_fills_is_a_pulse_and_no_token_figure_is_none():
    assert pulse_of(PAGE, 0.25) != pulse_of(PAGE, 0.26)
    assert pulse_of("up 1\nprocess_cpu_seconds_total 3\n", 0.5) is None


def test_an_engine_that_counts_tokens_at_the_end_of_a_request_only():
    """SGLang does; what its scheduler holds moves all the same."""
    page = "sglang:generation_tokens_total{} 100\nsglang:num_used_tokens{} %d\n"
    assert pulse_of(page % 5, None) != pulse_of(page % 45, None)


def test_llama_cpp_counts_its_steps_while_its_totals_rest():
    """Its totals move when a request has ended, and `n_tokens_max` only when one grows longer than all before it."""
    page = "llamacpp:tokens_predicted_total 4000\nllamacpp:n_decode_total %d\nllamacpp:n_tokens_max 4100\nllamacpp:requests_deferred %d\n"
    assert pulse_of(page % (5, 0), None) != pulse_of(page % (45, 0), None)
    assert pulse_of(page % (5, 0), None) == pulse_of(page % (5, 3), None), "requests that wait are no sign of life"
