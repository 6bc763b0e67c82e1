"""Durations, sizes and plain scalars."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.scalars import Duration, Size, duration_text, plain, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        ("1m30s", 90),
        ("1.5s", 1.5),
        ("1d2h3m4s5ms", 93784.005),
        ("0s", 0),
    ],
)
def test_durations(text, seconds):
    made = Duration.of(text)
    assert made == pytest.approx(seconds) and made.text == text
    assert copy.deepcopy(made).text == text and pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("text", ["", "30", "s", "30 s", "-1s", "1s1m", "1w", "1e3s", "1:30", "1m ", "9999d", "٣s", "1s\n"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError):
        Duration.of(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512B", 512), ("64KiB", 65536), ("8MiB", 8 << 20), ("1GiB", 1 << 30), ("10MB", 10**7), ("1.5KiB", 1536), ("0B", 0)]
)
def test_sizes(text, size):
    made = Size.of(text)
    assert made == size and made.text == text and copy.copy(made).text == text


@pytest.mark.parametrize("text", ["", "8", "8M", "8 MiB", "-1B", "8mib", "1.3B", "9999TiB", "MiB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError):
        Size.of(text)


@given(st.integers(0, 3650 * 86_400_000))
def test_a_written_duration_reads_back(milliseconds):
    assert round(Duration.of(duration_text(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(0, 2**50))
def test_a_written_size_reads_back(size):
    assert Size.of(size_text(size)) == size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("010", 10),
        ("-7", -7),
        ("1.2", 1.2),
        ("1e3", 1000.0),
        *(
            (word, word)
            for word in ("no", "yes", "on", "off", "y", "12:30:00", "0x1f", "0o17", "1_000", ".inf", ".nan", "2026-11-22", "1.2.3", "5xx")
        ),
        ("9" * 40, "9" * 40),
    ],
)
def test_plain_scalars(text, value):
    found = plain(text)
    assert found == value and type(found) is type(value)
