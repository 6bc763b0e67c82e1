"""A changed file is noticed, whatever way it is written; and nothing else is."""

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from gateway.discover import files
from gateway.discover.files import changes

LONG = 3600.0
REPORTS = ("watch", "poll")
"""What happens right after a report may be noticed before the watch is in place again."""


class Watching:
    """`changes` in a task: `next()` waits for a report."""

    def __init__(self, paths, poll=LONG, since=None):
        self.paths = paths
        self.looks = 0
        self._found: asyncio.Queue[str] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(poll, since))

    def _watched(self):
        self.looks = 0
        return self.paths

    async def _run(self, poll, since):
        async for why in changes(self._watched, poll=poll, since=since):
            self._found.put_nowait(why)

    async def ready(self, looks=2):
        """The first look is at what there is, the second one follows when the watch is in place."""
        async with asyncio.timeout(10):
            while self.looks < looks:  # noqa: ASYNC110 - counted in another thread
                await asyncio.sleep(0.01)

    async def next(self):
        async with asyncio.timeout(10):
            return await self._found.get()

    def none(self):
        return self._found.empty()

    async def stop(self):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
async def watching(monkeypatch):
    begun = []

    async def begin(*paths, **options):
        begun.append(Watching(list(paths), **options))
        return begun[-1]

    def counted(paths):
        found = look(paths)
        for one in begun:
            one.looks += 1
        return found

    look = files.marks
    monkeypatch.setattr(files, "marks", counted)
    yield begin
    for one in begun:
        await one.stop()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("version: 1\n")
    return path


@pytest.fixture
def no_watch(monkeypatch):
    """A file system without events (NFS), or a kernel without watches left."""

    def awatch(*_, **__):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(files, "awatch", awatch)


async def test_a_file_is_written_in_place(watching, file):
    seen = await watching(file)
    await seen.ready()
    file.write_text("version: 2\n")
    assert await seen.next() == "watch"


async def test_an_editor_renames_a_new_file_over_the_old_one(watching, file):
    seen = await watching(file)
    await seen.ready()
    for number in range(3):
        new = file.with_name(".gateway.yaml.swp")
        new.write_text(f"version: {number}\n")
        file.rename(file.with_name("gateway.yaml~"))
        new.rename(file)
        assert await seen.next() in REPORTS


async def test_kubernetes_swaps_the_folder_behind_the_link(watching, tmp_path):
    mount = tmp_path / "mount"
    for name, text in (("..2026_01", "version: 1\n"), ("..2026_02", "version: 2\n")):
        (mount / name).mkdir(parents=True)
        (mount / name / "gateway.yaml").write_text(text)
    (mount / "..data").symlink_to("..2026_01")
    (mount / "gateway.yaml").symlink_to("..data/gateway.yaml")
    (tmp_path / "etc.yaml").symlink_to(mount / "gateway.yaml")
    seen = await watching(tmp_path / "etc.yaml")
    await seen.ready()
    (mount / "..data_tmp").symlink_to("..2026_02")
    (mount / "..data_tmp").rename(mount / "..data")
    assert await seen.next() == "watch"


async def test_a_file_goes_and_comes(watching, file):
    seen = await watching(file)
    await seen.ready()
    file.unlink()
    assert await seen.next() == "watch"
    file.write_text("version: 1\n")
    assert await seen.next() in REPORTS


async def test_a_folder_stands_for_the_names_in_it(watching, tmp_path):
    seen = await watching(tmp_path)
    await seen.ready()
    (tmp_path / ".hidden.swp").write_text("")
    (tmp_path / "more.yaml").write_text("")
    assert await seen.next() == "watch"


async def test_a_busy_neighbour_is_not_our_business(watching, file):
    seen = await watching(file)
    await seen.ready()
    for number in range(20):
        file.with_name("server.log").write_text(f"{number}")
        await asyncio.sleep(0.02)
    file.with_name("server.log").unlink()
    file.write_text("version: 2\n")
    assert await seen.next() == "watch"
    assert seen.none()


async def test_several_steps_are_one_change(watching, file, tmp_path):
    others = [tmp_path / f"{number}.yaml" for number in range(5)]
    seen = await watching(file, *others)
    await seen.ready()
    for other in others:
        other.write_text("keys: []\n")
        await asyncio.sleep(0.02)
    assert await seen.next() == "watch"
    await asyncio.sleep(3 * files.QUIET)
    assert seen.none()


async def test_without_events_files_are_polled_and_it_is_said_once(watching, file, no_watch, caplog):
    seen = await watching(file, poll=0.05)
    await seen.ready(1)
    for number in range(3):
        file.write_text(f"version: {number * 111}\n")
        assert await seen.next() == "poll"
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.files"]
    assert len(said) == 1 and "inotify watch limit reached" in said[0]


async def test_while_no_watch_is_to_be_had_files_are_looked_at_no_more_often(watching, file, no_watch):
    seen = await watching(file, poll=0.5)
    await seen.ready(1)
    await asyncio.sleep(0.7)
    assert seen.looks == 2


async def test_a_folder_that_does_not_exist_yet(watching, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RETRY", 0.05)
    path = tmp_path / "conf.d" / "deep" / "keys.yaml"
    seen = await watching(path)
    await asyncio.sleep(0.2)
    path.parent.mkdir(parents=True)
    path.write_text("keys: []\n")
    assert await seen.next() in REPORTS


async def test_a_file_that_is_written_slowly_is_looked_at_when_it_is_whole(file, monkeypatch):
    """As `scp` writes it. Half of a file of keys is right as well, and the other half's callers would be cut off."""
    monkeypatch.setattr(files, "RESTLESS", 0.5)
    reports = changes(lambda: [file], poll=LONG)
    sizes = []

    async def listen() -> None:
        async for _ in reports:
            sizes.append(file.stat().st_size)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.5)
    with file.open("w") as out:
        for _ in range(30):
            out.write("- key\n")
            out.flush()
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)
    listening.cancel()
    assert sizes == [30 * 6]


async def test_what_happens_while_the_caller_is_busy_is_not_lost(file):
    reports = changes(lambda: [file], poll=LONG)
    first = asyncio.ensure_future(anext(reports))
    await asyncio.sleep(0.5)
    file.write_text("version: 2\n")
    async with asyncio.timeout(10):
        await first
        file.write_text("version: 33\n")
        await anext(reports)
    await reports.aclose()  # type: ignore[attr-defined]


async def test_the_set_of_files_may_change(file, tmp_path):
    """A file that is new among the watched ones and changed while the caller read it."""
    paths = [file]
    added = tmp_path / "added.yaml"
    reports = changes(lambda: paths, poll=LONG)
    first = asyncio.ensure_future(anext(reports))
    await asyncio.sleep(0.5)
    file.write_text("include: [added.yaml]\n")
    async with asyncio.timeout(10):
        await first
        paths.append(added)
        added.write_text("keys: []\n")
        assert await anext(reports) == "poll"
    await reports.aclose()  # type: ignore[attr-defined]


async def test_what_changed_since_the_files_were_read(watching, file):
    read = time.time()
    file.write_text("version: 2\n")
    seen = await watching(file, since=read)
    assert await seen.next() == "poll"


async def test_a_folder_is_replaced(watching, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RETRY", 0.05)
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").write_text("1")
    seen = await watching(folder / "a.yaml")
    await seen.ready()
    folder.rename(tmp_path / "old")
    folder.mkdir()
    (folder / "a.yaml").write_text("2")
    (tmp_path / "old" / "a.yaml").write_text("3")
    assert await seen.next() in REPORTS
    await seen.ready()
    (folder / "a.yaml").write_text("4444")
    assert await seen.next() == "watch"


async def test_links_that_lead_in_a_circle(watching, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    seen = await watching(tmp_path / "a")
    await seen.ready()
    (tmp_path / "a").unlink()
    (tmp_path / "a").write_text("")
    assert await seen.next() == "watch"


def test_a_cancelled_watch_leaves_no_thread(file):
    async def watch():
        seen = Watching([file])
        async with asyncio.timeout(10):
            while not any(thread.name.startswith("AnyIO") for thread in threading.enumerate()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await seen.stop()
        assert time.monotonic() - began < 2
        assert len(asyncio.all_tasks()) == 1

    before = threading.active_count()
    asyncio.run(watch())
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_the_folders_on_the_way(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.yaml").write_text("")
    (tmp_path / "link").symlink_to("real")
    assert files._on_the_way(tmp_path / "link" / "x.yaml") == {tmp_path, tmp_path / "real"}
    assert files._on_the_way(tmp_path / "link" / ".." / "x.yaml") == {tmp_path}
    assert files._on_the_way(tmp_path) == {tmp_path, tmp_path.parent}  # a directory may make way for a file
    assert files.marks([Path(os.devnull), tmp_path / "none"])[tmp_path / "none"] is None
