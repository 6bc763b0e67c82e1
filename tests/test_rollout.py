"""The two phases of a change, told by what the supervisor and the workers are asked, and in which order."""

from pathlib import Path
from typing import Any, cast

import pytest

from gateway.admin.desk import NoSuch
from gateway.bus.frames import Parcel
from gateway.bus.server import BusServer
from gateway.config.resolved import Resolved
from gateway.config.revisions import Revisions
from gateway.discover.endpoints import Endpoints
from gateway.errors import ConfigError
from gateway.govern.rollout import Rollout

HEAD = 'version: 1\nlisteners: {api: {bind: "127.0.0.1:8080", serves: api}}\n'
ONE = HEAD + 'channels: {a: {engine: vllm, endpoints: ["http://127.0.0.1:1"]}}\nmodels: {qwen: {targets: [{channel: a}]}}\n'
TWO = ONE.replace("qwen", "other")


class Play:
    """The supervisor (rollout.Sockets) and the bus; `said` is what they were asked, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gateway.yaml"
        self.path.write_text(f"data_dir: {folder}/data\n" + ONE)
        self.said: list[str] = []
        self.no_socket = ""
        self.trouble: dict[int, str] = {}
        self.current: Parcel | None = None
        self.revisions = Revisions(folder / "data")
        self.rollout = Rollout(self.path, Endpoints())

    def write(self, text: str) -> None:
        self.path.write_text(f"data_dir: {self.path.parent}/data\n" + text)

    async def begin(self) -> None:
        self.rollout.read()
        await self.rollout.settle_in(self.revisions, again=False)

    async def reload(self, **more: Any) -> Any:
        self.said.clear()
        return await self.rollout.reload(cast(BusServer, Workers(self)), self, by="test", why="test", **more)

    def in_force(self) -> int:
        found = self.revisions.current()
        return found.rev if found else 0

    async def prepare(self, config: Resolved) -> None:
        self.said.append("sockets prepare")
        if self.no_socket:
            raise OSError(98, self.no_socket)

    async def commit(self, config: Resolved, parcel: Parcel) -> None:
        self.said.append(f"sockets commit (in force: {self.in_force()})")

    def abort(self) -> None:
        self.said.append("sockets abort")


class Workers:
    """bus.server.BusServer, as far as a rollout uses it."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.current: Parcel | None = None

    async def gathered(self, workers: int) -> None:
        self.play.said.append(f"gather {workers}")

    async def prepare(self, parcel: Parcel) -> dict[int, str]:
        self.play.said.append(f"workers prepare {parcel.rev}")
        return self.play.trouble

    async def commit(self, parcel: Parcel) -> None:
        self.play.said.append(f"workers commit {parcel.rev}")

    def abort(self) -> None:
        self.play.said.append("workers abort")


@pytest.fixture
async def play(tmp_path: Path) -> Play:
    made = Play(tmp_path)
    await made.begin()
    return made


async def test_prepare_everywhere_then_commit_then_swap(play: Play) -> None:
    play.write(TWO)
    outcome = await play.reload()
    assert (outcome.ok, outcome.changed, outcome.rev) == (True, True, 2)
    gather = play.said.pop(1)
    assert gather.startswith("gather ")
    assert play.said == ["sockets prepare", "workers prepare 2", "sockets commit (in force: 2)", "workers commit 2"]
    assert play.rollout.counts == {"accepted": 2, "refused": 0, "unchanged": 0}
    assert outcome.changes and play.rollout.last is outcome


async def test_what_is_left_to_be_written_is_warned_of_and_served(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    play.write(TWO.replace("{channel: a}", "{channel: a, model: name-at-the-engine}"))
    assert (await play.reload()).changed and "models.other: `name-at-the-engine` only stands" in caplog.text
    caplog.clear()
    play.rollout.read()
    assert [record.levelname for record in caplog.records if "only stands" in record.getMessage()] == ["WARNING"], "at a start as well"
    caplog.clear()
    play.write(TWO)
    assert (await play.reload()).changed and "only stands" not in caplog.text


async def test_the_same_text_asks_nobody(play: Play) -> None:
    outcome = await play.reload()
    assert (outcome.ok, outcome.changed, play.said) == (True, False, [])
    assert (await play.reload(force=True)).changed


async def test_no_at_any_step_leaves_everything_as_it_was(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.write(TWO)
    before = (play.rollout.config, play.rollout.keys, play.rollout.digest, play.rollout.rev)
    play.no_socket = "cannot listen on 127.0.0.1:80: Permission denied"
    outcome = await play.reload()
    assert (outcome.ok, outcome.message, play.said[-2:]) == (False, play.no_socket, ["workers abort", "sockets abort"])
    play.no_socket, play.trouble = "", {1: "a certificate is gone"}
    outcome = await play.reload()
    assert (outcome.message, play.said[-2:]) == ("worker-1 cannot serve it: a certificate is gone", ["workers abort", "sockets abort"])
    play.trouble = {}

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(play.revisions, "save", full)
        outcome = await play.reload()
        said = f"{play.revisions.folder}: it cannot be written: No space left on device; when it can, gatewayctl reload"
        assert (outcome.message, play.said[-2:]) == (said, ["workers abort", "sockets abort"])
        patch.setattr(play.revisions, "save", lambda **_: 1 // 0)
        outcome = await play.reload()
        assert "ZeroDivisionError" in outcome.message and play.said[-2:] == ["workers abort", "sockets abort"]
    assert before == (play.rollout.config, play.rollout.keys, play.rollout.digest, play.rollout.rev)
    assert play.in_force() == 1 and play.rollout.counts["refused"] == 4 and not play.rollout.last.ok
    assert (await play.reload()).ok and play.rollout.last.ok


async def test_a_bad_file_asks_nobody_and_is_watched_on(play: Play) -> None:
    extra = play.path.parent / "extra.yaml"
    play.write("include: [extra.yaml]\n" + TWO)
    outcome = await play.reload()
    assert not outcome.ok and outcome.mistakes and not play.said
    assert play.rollout.watched[0] == play.path
    extra.write_text("oops: 1\n")
    assert not (await play.reload()).ok
    assert extra in play.rollout.watched, "what mends it may be written there"


async def test_a_restart_goes_on_with_the_revision_that_is_served(play: Play) -> None:
    play.write(TWO)
    await play.reload()
    again = Rollout(play.path, Endpoints())
    play.write("nonsense")
    with pytest.raises(ConfigError):
        again.read()
    assert again.recall(play.revisions)
    parcel = await again.settle_in(play.revisions, again=True)
    assert (parcel.rev, again.rev, list(parcel.config().models)) == (2, 2, ["other"])
    assert play.in_force() == 2 and len(play.revisions.list()) == 2, "nothing was written"


async def test_a_damaged_current_is_replaced_by_what_was_read(play: Play) -> None:
    for file in (play.path.parent / "data" / "revisions").glob("*.rev"):
        file.write_bytes(b"GWREV1\nrubbish")
    again = Rollout(play.path, Endpoints())
    assert not again.recall(play.revisions)
    again.read()
    assert (await again.settle_in(play.revisions, again=False)).rev == play.in_force() == 2


async def test_back_says_what_no_rollback_mends(play):
    """A file that was not there before stays where it is: going back further would not help, and would undo what is right."""
    play.write(ONE + "include: [conf.d/*.yaml]\n")
    assert (await play.reload()).ok
    play.write(TWO + "include: [conf.d/*.yaml]\n")
    assert (await play.reload()).ok and play.rollout.back()[0] == 2
    (play.path.parent / "conf.d").mkdir()
    (play.path.parent / "conf.d" / "new.yaml").write_text("chanels: {}\n")
    assert not (await play.reload()).ok
    rev, why = play.rollout.back()
    assert rev == 0 and "new.yaml:1:1: unknown word" in why and "say to which revision" in why
    with pytest.raises(NoSuch, match="Mend that"):
        play.rollout.restore(None)
    play.write("version: [")
    assert not (await play.reload()).ok
    assert play.rollout.back()[0] == 3
