"""What is frozen: whom it stops, how the file of it fails (closed), and what control and a worker make of it."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admin.freeze_file import FreezeFile
from gateway.auth.freezes import Freeze, Frozen
from gateway.auth.keyring import ANONYMOUS, Keyring
from gateway.config.resolved import Key
from gateway.errors import Refusal
from gateway.govern.freezing import Freezing
from gateway.serve.cutting import Cutting

ANN = Key(id="ann", digest=b"a" * 32, tenant="retail", project="bot")
BOB = Key(id="bob", digest=b"b" * 32, tenant="retail", project="web")
EVE = Key(id="eve", digest=b"e" * 32, tenant="other", project="bot")


def freeze(kind: str, name: str = "", *, since: float = 1.0, reason: str = "") -> Freeze:
    return Freeze(kind=kind, name=name, by="root (uid 0, pid 1)", since=since, reason=reason)


# -- whom it stops -------------------------------------------------------------------------------------------------------------


def stopped(frozen: Frozen, key: Key) -> bool:
    try:
        frozen.admit(key)
    except Refusal as no:
        assert (no.status, no.code, no.who, no.phase, no.headers) == (403, "frozen", "O", "K", {"x-should-retry": "false"})
        return True
    return False


@pytest.mark.parametrize(
    ("freezes", "keys"),
    [
        ([freeze("tenant", "retail")], {"ann", "bob"}),
        ([freeze("project", "retail/bot")], {"ann"}),
        ([freeze("project", "bot"), freeze("tenant", "bot"), freeze("key", "retail")], set()),
        ([freeze("key", "bob"), freeze("key", "eve")], {"bob", "eve"}),
        ([freeze("model", "qwen")], set()),
        ([freeze("all")], {"ann", "bob", "eve", ""}),
    ],
)
def test_whom_a_freeze_stops(freezes, keys):
    frozen = Frozen(freezes)
    assert {key.id for key in (ANN, BOB, EVE, ANONYMOUS) if stopped(frozen, key)} == keys


def test_a_frozen_model_is_stopped_by_its_name_and_on_the_way():
    frozen = Frozen([freeze("model", "qwen")])
    frozen.allow("small", "")
    with pytest.raises(Refusal, match="The model `qwen` is frozen") as no:
        frozen.allow("small", "qwen")
    assert (no.value.who, no.value.phase) == ("O", "R")
    x: Any = SimpleNamespace(key=ANN, virtual=SimpleNamespace(name="small"), via="qwen")
    assert frozen.stops(x)
    x.via = ""
    assert frozen.stops(x) is None
    x.virtual = None
    assert frozen.stops(x) is None


# -- the file --------------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_there_after_a_restart(tmp_path):
    file = FreezeFile.of(tmp_path)
    assert (file.freezes, file.trouble) == ([], "")
    file.save([freeze("tenant", "retail", reason="ticket"), freeze("all")])
    found = FreezeFile.of(tmp_path)
    assert found.freezes == [freeze("tenant", "retail", reason="ticket"), freeze("all")]
    assert os.listdir(tmp_path) == ["freezes.json"]


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", '{"format":1}', '{"format":9,"freezes":[]}', '{"format":1,"freezes":[{"kind":"tenant"}]}',
     '{"format":1,"freezes":[{"kind":"city","name":"x","by":"x","since":1.0}]}'],
)  # fmt: skip
def test_a_file_that_cannot_be_read_freezes_everything_and_stays_where_it_is(tmp_path, text, caplog):
    path = tmp_path / "freezes.json"
    path.write_text(text)
    for _ in range(2):
        file = FreezeFile.of(tmp_path)
        assert [one.kind for one in file.freezes] == ["all"] and file.trouble and path.read_text() == text
    assert "EVERYTHING IS FROZEN" in caplog.text
    file.save([])
    assert FreezeFile.of(tmp_path).freezes == [] and not file.trouble and (tmp_path / "freezes.bad").read_text() == text


def test_a_folder_in_its_place_freezes_everything(tmp_path):
    (tmp_path / "freezes.json").mkdir()
    file = FreezeFile.of(tmp_path)
    assert file.trouble
    with pytest.raises(OSError, match="directory"):
        file.save([])
    assert [one.kind for one in file.freezes] == ["all"]


# -- control ---------------------------------------------------------------------------------------------------------------------


class Bus:
    """A bus without workers."""

    def __init__(self) -> None:
        self.links: dict[int, Any] = {}
        self.sent: list[bytes] = []

    def on(self, kind: str, handler: Any) -> None: ...
    def greet(self, greeter: Any) -> None: ...
    async def gathered(self, workers: int) -> None: ...
    def broadcast(self, data: bytes) -> None:
        self.sent.append(data)


def control(tmp_path: Path, workers: int = 0) -> tuple[Freezing, Bus]:
    bus: Any = Bus()
    return Freezing(tmp_path, bus, lambda: workers), bus


async def test_a_second_freeze_keeps_the_time_of_the_first(tmp_path):
    freezing, bus = control(tmp_path)
    await freezing.freeze(freeze("key", "ann"))
    again, deaf = await freezing.freeze(freeze("key", "ann", since=9.0, reason="now I know"))
    assert (again.since, again.reason, deaf) == (1.0, "now I know", []) and len(bus.sent) == 2
    assert control(tmp_path)[0].all() == [again]
    assert (await freezing.unfreeze("key", "bob", by="x"))[0] is None and len(bus.sent) == 2
    assert (await freezing.unfreeze("key", "ann", by="x"))[0] == again
    assert control(tmp_path)[0].all() == []


async def test_workers_that_are_not_there_may_serve_without_having_heard(tmp_path):
    freezing, _ = control(tmp_path, workers=2)
    assert (await freezing.freeze(freeze("all")))[1] == [0, 1]


async def test_a_freeze_counts_on_a_full_disk_and_a_thaw_does_not(tmp_path, monkeypatch):
    freezing, bus = control(tmp_path)
    await freezing.freeze(freeze("key", "bob"))
    fsync = os.fsync

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    await freezing.freeze(freeze("key", "ann"))
    assert "No space left" in freezing.unwritten and [one.name for one in freezing.all()] == ["bob", "ann"] and len(bus.sent) == 2
    with pytest.raises(OSError, match="No space"):
        await freezing.unfreeze("key", "bob", by="x")
    assert [one.name for one in freezing.all()] == ["bob", "ann"] and len(bus.sent) == 2
    monkeypatch.setattr(os, "fsync", fsync)
    await freezing.freeze(freeze("tenant", "retail"))
    assert not freezing.unwritten and len(control(tmp_path)[0].all()) == 3


async def test_a_full_disk_keeps_nobody_frozen(tmp_path, monkeypatch):
    """What the file never knew of need not be written, and what it has less of fits into the room that it has."""
    freezing, _ = control(tmp_path)

    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as disk:
        disk.setattr("gateway.admin.freeze_file.files.write", full)
        await freezing.freeze(freeze("key", "ann"))
        assert freezing.unwritten
        await freezing.unfreeze("key", "ann", by="x")
        assert not freezing.unwritten and freezing.all() == [] and not (tmp_path / "freezes.json").exists()
    for name in ("ann", "bob"):
        await freezing.freeze(freeze("key", name))
    size = (tmp_path / "freezes.json").stat().st_size
    monkeypatch.setattr("gateway.admin.freeze_file.files.write", full)
    for name, left in (("ann", ["bob"]), ("bob", [])):
        await freezing.unfreeze("key", name, by="x")
        assert [one.name for one in freezing.all()] == [one.name for one in control(tmp_path)[0].all()] == left
        assert (tmp_path / "freezes.json").stat().st_size == size and (tmp_path / "freezes.json").read_bytes().endswith(b" \n")


async def test_more_is_frozen_while_the_file_is_damaged_and_everything_stays_so(tmp_path):
    (tmp_path / "freezes.json").write_text("{")
    freezing, _ = control(tmp_path)
    assert freezing.trouble
    await freezing.freeze(freeze("key", "ann"))
    assert {str(one) for one in control(tmp_path)[0].all()} == {"all", "key ann"}
    await freezing.unfreeze("all", "", by="x")
    assert {str(one) for one in control(tmp_path)[0].all()} == {"key ann"}


# -- a worker ----------------------------------------------------------------------------------------------------------------------


class Door:
    """Open requests."""

    def __init__(self, *open: Any) -> None:
        self.open = open

    def end(self, pick: Any) -> int:
        for x in self.open:
            x.cut = x.cut or pick(x)
        return sum(x.cut is not None for x in self.open)


def serving(key: Key) -> Any:
    return SimpleNamespace(key=key, virtual=SimpleNamespace(name="qwen"), via="", cut=None, spared=False)


def test_what_control_says_counts_more_than_the_file(tmp_path):
    FreezeFile.of(tmp_path).save([freeze("all")])
    live, said = SimpleNamespace(frozen=None), list[bytes]()

    def say(data: bytes) -> bool:
        said.append(data)
        return True

    door: Any = Door(serving(ANN))
    cutting = Cutting(live, door, say)
    cutting.recall(tmp_path)
    assert live.frozen is not None and door.open[0].cut.code == "frozen"
    cutting.heard({"number": 3, "freezes": []})
    assert live.frozen is None and b"\x03" in said[0]
    cutting.recall(tmp_path)
    assert live.frozen is None


def test_requests_whose_key_is_gone_end_unless_they_are_spared():
    ann, bob, eve, nobody = (serving(key) for key in (ANN, BOB, EVE, ANONYMOUS))
    door: Any = Door(ann, bob, eve, nobody)
    cutting = Cutting(SimpleNamespace(frozen=None), door, lambda data: True)
    keyring = Keyring("keys", {})
    keyring.add([EVE])
    cutting.revoked(keyring, ["bob"])
    assert (ann.cut.code, ann.cut.log, ann.cut.who) == ("invalid_api_key", "key_revoked", "O")
    assert bob.cut is eve.cut is nobody.cut is None
    cutting.revoked(keyring, [])
    assert bob.cut is None, "spared for good"
    cutting.revoked(Keyring("keys", {}), [])
    assert eve.cut is not None and nobody.cut is None
