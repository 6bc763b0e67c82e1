"""The file of drains: on the disk before it counts, and never a reason not to serve."""

import os

import pytest

from gateway.discover.drains import Drain, Drains


def drain(endpoint: str = "", *, until: float | None = None, since: float = 1.0, channel: str = "gpu") -> Drain:
    return Drain(channel=channel, endpoint=endpoint, by="ann", since=since, until=until)


def test_what_is_added_is_there_after_a_restart(tmp_path):
    path = tmp_path / "drains.json"
    drains = Drains.of_file(path)
    assert drains.of("gpu", "a") is None and not path.exists()
    drains.add(drain("a"))
    drains.add(drain("a", since=5.0, until=9.0))
    found = Drains.of_file(path)
    assert found.of("gpu", "a") == drain("a", until=9.0), "again: the time begins with the first"
    assert found.of("gpu", "b") is None and found.of("other", "a") is None and found.whole("gpu") is None
    found.add(drain())
    assert found.of("gpu", "b") == found.whole("gpu") == drain()
    assert not list(tmp_path.glob("*.new"))


def test_taking_back(tmp_path):
    drains = Drains(tmp_path / "drains.json")
    for endpoint in ("a", "b"):
        drains.add(drain(endpoint))
    drains.add(drain(channel="other"))
    assert drains.remove("gpu", "a") and not drains.remove("gpu", "a") and not drains.remove("none")
    assert drains.of("gpu", "b") is not None
    assert drains.remove("gpu") and drains.of("gpu", "b") is None
    assert Drains.of_file(tmp_path / "drains.json").whole("other") is not None


def test_those_whose_time_is_over(tmp_path):
    drains = Drains(tmp_path / "drains.json")
    drains.add(drain("a", until=10.0))
    drains.add(drain("b", until=20.0))
    drains.add(drain("c"))
    assert drains.expire(9.9) == []
    assert [one.endpoint for one in drains.over(10.0)] == ["a"]
    assert [one.endpoint for one in drains.expire(10.0)] == ["a"] and drains.over(10.0) == []
    assert {one for one in "abc" if Drains.of_file(tmp_path / "drains.json").of("gpu", one)} == {"b", "c"}


@pytest.mark.parametrize("text", ["", "nonsense", '{"format":1}', '{"format":9,"drains":[]}', '{"format":1,"drains":[{"channel":1}]}'])
def test_a_file_that_cannot_be_read_is_put_aside(tmp_path, text, caplog):
    path = tmp_path / "drains.json"
    path.write_text(text)
    assert Drains.of_file(path).whole("gpu") is None
    assert "nothing is drained" in caplog.text and (tmp_path / "drains.bad").read_text() == text and not path.exists()


def test_what_cannot_be_written_does_not_count(tmp_path, monkeypatch):
    drains = Drains(tmp_path / "drains.json")
    drains.add(drain("a", until=10.0))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        drains.add(drain("b"))
    with pytest.raises(OSError, match="No space"):
        drains.remove("gpu")
    assert drains.of("gpu", "b") is None and drains.of("gpu", "a") is not None
    assert [one.endpoint for one in drains.expire(10.0)] == ["a"], "over is over"
    assert drains.of("gpu", "a") is None
