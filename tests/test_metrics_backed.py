"""Files of metrics on a disk without room: nobody dies of it, and what was counted meanwhile comes into the file."""

import errno
import os
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from gateway.meter.backed import FIRST, Backed


@pytest.fixture
def disk(monkeypatch):
    """Sets how large a file may become."""
    most = [1 << 30]
    real = os.posix_fallocate

    def fallocate(fd: int, offset: int, size: int) -> None:
        if size > most[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    yield lambda size: most.__setitem__(0, size)
    Backed.spilled.clear()


def shown(path: Path) -> dict[str, float]:
    return {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))}


def written(counts: Backed, first: int, last: int) -> dict[str, float]:
    for number in range(first, last):
        counts.write_value(f"key-{number}", float(number), 0.0)
    return {f"key-{number}": float(number) for number in range(first, last)}


def test_every_page_has_its_room_before_it_is_written(tmp_path, disk):
    path = tmp_path / "counter_0.db"
    counts = Backed(str(path))
    assert os.stat(path).st_blocks * 512 >= FIRST
    assert written(counts, 0, 5000) == shown(path) and os.stat(path).st_blocks * 512 >= os.stat(path).st_size > FIRST
    counts.close()
    again = Backed(str(path))
    assert again.read_value("key-77") == (77.0, 0.0)
    again.close()


def test_what_has_no_room_is_counted_in_memory_until_it_has(tmp_path, disk):
    path = tmp_path / "counter_0.db"
    counts = Backed(str(path))
    before = written(counts, 0, 100)
    disk(FIRST)
    after = written(counts, 100, 5000)
    counts.write_value("key-5", 55.0, 0.0)
    assert before.items() <= shown(path).items() and "key-4999" not in shown(path) and not Backed.catch_up()
    assert counts.read_value("key-4999") == (4999.0, 0.0)
    disk(1 << 30)
    assert Backed.catch_up() and shown(path) == {**before, **after, "key-5": 55.0}
    counts.write_value("key-6", 66.0, 0.0)
    assert shown(path)["key-6"] == 66.0
    counts.close()


def test_a_file_that_cannot_be_made_is_made_later_and_is_never_empty(tmp_path, disk):
    path = tmp_path / "counter_0.db"
    disk(0)
    counts = Backed(str(path))
    whole = written(counts, 0, 3000)
    assert not path.exists() and not Backed.catch_up() and not path.exists()
    disk(1 << 30)
    assert Backed.catch_up() and shown(path) == whole
    counts.close()
