"""`gatewayctl init` and probing without a gateway: what is written, with which rights, and that it works as it is."""

import errno
import json
import stat
import sys

import pytest

from gateway.config import files
from gateway.config.keys import checksum_ok, hash_of
from gateway.config.load import load
from gatewayctl import app, programs
from tests.fixtures.cli import ctl

FOUND = {
    "url": "https://10.0.0.5:1025",
    "reachable": True,
    "engine": "mindie",
    "version": "2.0.RC2",
    "models": [{"id": "qwen3-32b", "context_length": 32768}],
    "tls": {"version": "TLSv1.3", "verified": True},
    "evidence": ["/info says so"],
    "would": {"engine": "mindie", "endpoints": ["https://10.0.0.5:1025"]},
}


@pytest.fixture
def inside(capsys):
    def run(*args):
        return app.run([str(arg) for arg in args]), *capsys.readouterr()

    return run


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """What the probing child says: JSON, or another text."""

    def say(answer, code=0):
        (tmp_path / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
        script = f"import sys; print(open({str(tmp_path / 'answer')!r}).read()); print('why', file=sys.stderr); sys.exit({code})"
        monkeypatch.setattr(programs, "gateway_command", lambda role, *args: [sys.executable, "-c", script])

    return say


def test_it_asks_nothing_and_what_it_writes_is_right(tmp_path):
    ran = ctl("init", "--dir", tmp_path / "gw", "--data-dir", tmp_path / "data")
    assert ran.code == 0 and checksum_ok(ran.out.strip())
    loaded = load(tmp_path / "gw/gateway.yaml")
    assert [key.hash for key in loaded.config.keys] == [hash_of(ran.out.strip())]
    assert "gatewayctl config check" in ran.err and ran.out.strip() not in ran.err
    for name in ("gateway.yaml", "keys.yaml"):
        assert stat.S_IMODE((tmp_path / "gw" / name).stat().st_mode) == 0o640


def test_without_a_folder_it_writes_where_the_configuration_is_looked_for(tmp_path, inside, monkeypatch):
    assert inside("init", "--config", tmp_path / "gw/gateway.yaml", "-q")[0] == 0
    assert {file.name for file in (tmp_path / "gw").iterdir()} >= {"gateway.yaml", "keys.yaml"}
    monkeypatch.setenv("GATEWAY_CONFIG", str(tmp_path / "other/gateway.yaml"))
    assert inside("init", "-q")[0] == 0 and inside("config", "check", "-q")[0] == 0
    assert inside("init", "--dir", tmp_path / "third", "-q")[0] == 0 and (tmp_path / "third/gateway.yaml").exists()


def test_a_configuration_of_another_name_wants_a_folder(tmp_path, inside):
    code, out, err = inside("init", "--config", tmp_path / "mine.yaml")
    assert (code, out) == (2, "") and "the file is named gateway.yaml" in err and "--dir" in err
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_named_twice_is_refused(tmp_path, inside, answers):
    answers(FOUND)
    code, out, err = inside(
        "init", "--dir", tmp_path / "gw", "--engine", "vllm=http://10.0.0.6:8000", "--engine", "auto=http://10.0.0.6:8000/v1/"
    )
    assert (code, out) == (2, "") and "names http://10.0.0.6:8000/v1/ twice" in err and not (tmp_path / "gw").exists()


def test_it_overwrites_nothing_unless_told_to(tmp_path, inside):
    (tmp_path / "keys.yaml").write_text("mine")
    code, out, err = inside("init", "--dir", tmp_path)
    assert (code, out) == (1, "") and "keys.yaml" in err and "--force" in err
    assert not (tmp_path / "gateway.yaml").exists()
    assert inside("init", "--dir", tmp_path, "--force", "-q")[0] == 0
    assert (tmp_path / "keys.yaml.bak").read_text() == "mine"


def test_no_backup_is_overwritten(tmp_path, inside):
    """The first one may be the only copy of what somebody has written by hand."""
    (tmp_path / "gateway.yaml").write_text("mine")
    (tmp_path / "gateway.yaml.bak.2").symlink_to("nowhere")
    for number in ("", ".3", ".4"):
        assert (
            f"gateway.yaml was there before: it is {tmp_path}/gateway.yaml.bak{number} now"
            in inside("init", "--dir", tmp_path, "--force")[2]
        )
    assert (tmp_path / "gateway.yaml.bak").read_text() == "mine" and not (tmp_path / "nowhere").exists()
    first, second = (tmp_path / f"keys.yaml.bak{number}" for number in ("", ".2"))
    assert first.read_text() != second.read_text() != (tmp_path / "keys.yaml").read_text()


def test_a_disk_that_is_full_leaves_everything_as_it_was(tmp_path, inside, monkeypatch):
    assert inside("init", "--dir", tmp_path)[0] == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.suffix != ".lock"}
    there_meanwhile: list[bool] = []
    full: list[str] = []
    write = files.write

    def refuse(path, *rest):
        there_meanwhile.append((tmp_path / "gateway.yaml").exists())
        if path.name == full[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, *rest)

    monkeypatch.setattr(files, "write", refuse)
    for name in ("gateway.yaml", "keys.yaml"):
        full[:] = [name]
        code, out, err = inside("init", "--dir", tmp_path, "--force", "--bind", "127.0.0.1:1")
        assert (code, out) == (1, "") and f"{tmp_path / name}: No space left" in err
        after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.suffix != ".lock"}
        assert {**after, "gateway.schema.json": b""} == {**before, "gateway.schema.json": b""}
    assert all(there_meanwhile), "a gateway that runs would have found no configuration"
    full[:] = ["keys.yaml"]
    assert inside("init", "--dir", tmp_path / "new")[0] == 1 and not (tmp_path / "new/gateway.yaml").exists()


def test_a_link_is_kept_and_not_what_it_leads_to_written(tmp_path, inside):
    (tmp_path / "theirs.yaml").write_text("version: 1\n")
    (tmp_path / "gateway.yaml").symlink_to("theirs.yaml")
    assert inside("init", "--dir", tmp_path, "--force")[0] == 0
    assert (tmp_path / "theirs.yaml").read_text() == "version: 1\n" and (tmp_path / "gateway.yaml.bak").is_symlink()
    assert not (tmp_path / "gateway.yaml").is_symlink() and load(tmp_path / "gateway.yaml").config.keys


@pytest.mark.parametrize(
    ("bind", "reached"),
    [
        ("0.0.0.0:9090", "http://127.0.0.1:9090/"),
        (":8080", "http://127.0.0.1:8080/"),
        ("[::]:8080", "http://[::1]:8080/"),
        ("[::1]:9090", "http://[::1]:9090/"),
        ("10.0.0.1:8080", "http://10.0.0.1:8080/"),
    ],
)
def test_what_is_written_is_right_wherever_callers_reach_it_and_says_where(tmp_path, inside, bind, reached):
    folder = tmp_path / "a folder"
    code, _, err = inside("init", "--dir", folder, "--bind", bind)
    assert code == 0 and reached in err and f"--config '{folder}/gateway.yaml'" in err
    assert load(folder / "gateway.yaml").config.listeners["api"].bind


def test_an_engine_that_answers_is_filled_in(tmp_path, inside, answers):
    answers(FOUND)
    code, out, err = inside("init", "--dir", tmp_path, "--engine", "mindie=https://10.0.0.5:1025", "-o", "json")
    assert code == 0 and json.loads(out)["key"]["secret"] and "qwen3-32b" in err
    config = load(tmp_path / "gateway.yaml").config
    assert config.channels["mindie"].engine == "mindie" and config.models["qwen3-32b"].targets[0].model == "qwen3-32b"


def test_an_engine_that_does_not_answer_is_written_down_all_the_same(tmp_path, inside, answers):
    answers({"url": "http://e:1", "reachable": False, "error": "refused", "models": []}, code=1)
    code, _, err = inside("init", "--dir", tmp_path, "--engine", "vllm=http://e:1", "--model", "qwen")
    assert code == 0 and "does not answer yet: refused" in err
    assert load(tmp_path / "gateway.yaml").config.models["qwen"].targets[0].channel == "vllm"


LOCKED = {
    "url": "http://e:1",
    "reachable": True,
    "engine": None,
    "models": [],
    "status": 401,
    "error": "the engine refuses the credential (401)",
}


def test_an_engine_that_asks_for_a_key_is_said_to_and_what_to_do_next(tmp_path, inside, answers):
    answers(LOCKED)
    code, _, err = inside("init", "--dir", tmp_path, "--engine", "vllm=http://e:1", "--engine", "vllm=http://f:1")
    assert code == 0 and "http://e:1 asks for a key (401): its models are not known" in err
    steps = err[err.index("Next:") :]
    order = ["channels.vllm.credential", "channels.vllm-2.credential", "config check", "gatewayctl serve", "channels probe vllm --config"]
    places = [steps.index(word) for word in order]
    assert places == sorted(places) and "in place of name-at-the-engine" in steps
    text = (tmp_path / "gateway.yaml").read_text()
    assert "model: name-at-the-engine, weight: 1}  # not its name: the engine asks for a key (401)" in text
    assert "vllm:  # it asks for a key (401)" in text and "did not answer" not in text
    assert load(tmp_path / "gateway.yaml").config.models["name-at-the-engine"].targets[1].channel == "vllm-2"
    code, out, err = inside("config", "check", tmp_path / "gateway.yaml")
    assert code == 0 and "is right" in out and "`name-at-the-engine` only stands for" in err and "channels probe vllm-2" in err
    assert json.loads(inside("config", "check", tmp_path / "gateway.yaml", "-o", "json")[1])["ok"] is True


def test_an_engine_that_asks_for_a_key_and_whose_model_is_said(tmp_path, inside, answers):
    answers(LOCKED)
    code, _, err = inside("init", "--dir", tmp_path, "--engine", "vllm=http://e:1", "--model", "qwen")
    assert code == 0 and "asks for a key (401)" in err and "channels.vllm.credential" in err and "channels probe" not in err
    assert "name-at-the-engine" not in (tmp_path / "gateway.yaml").read_text()
    assert not inside("config", "check", tmp_path / "gateway.yaml")[2]


@pytest.mark.parametrize(
    ("found", "said", "written"),
    [
        ({"reachable": True, "engine": "vllm", "status": 500, "error": "strange"}, "none told (strange)", "# not its name: strange"),
        ({"reachable": True, "engine": "vllm", "status": 200}, "models: none told\n", "# not its name: it told no model"),
        ({"reachable": False, "error": "refused"}, "does not answer yet", "# not its name: the engine did not answer"),
    ],
)  # fmt: skip
def test_why_a_name_is_not_known_stands_beside_it(found, said, written, tmp_path, inside, answers):
    answers({"url": "http://e:1", "models": [], **found})
    code, _, err = inside("init", "--dir", tmp_path, "--engine", "vllm=http://e:1")
    assert code == 0 and said in err and "engines under channels" in err and written in (tmp_path / "gateway.yaml").read_text()


@pytest.mark.parametrize("engine", ["mindie", "http://10.0.0.5", "cray=http://e:1", "vllm=e:1", "vllm=http://"])
def test_a_wrong_engine_is_wrong_usage(tmp_path, inside, answers, engine):
    answers("{}")
    code, _, err = inside("init", "--dir", tmp_path / "gw", "--engine", engine)
    assert code == 2 and ("names no host" if engine == "vllm=http://" else "--engine wants KIND=URL") in err
    assert not (tmp_path / "gw").exists()


@pytest.mark.parametrize("bind", ["nonsense", "8080", "127.0.0.1:0", "[::x]:80"])
def test_a_wrong_bind_is_wrong_usage(tmp_path, inside, bind):
    assert inside("init", "--dir", tmp_path / "gw", "--bind", bind)[0] == 2
    assert not (tmp_path / "gw").exists()


def test_a_password_in_an_engines_url_is_not_repeated(tmp_path, inside, answers):
    answers("{}")
    code, out, err = inside("init", "--dir", tmp_path / "gw", "--engine", "vllm=http://ann:canary@10.0.0.5:8000")
    assert code == 2 and "user name or password" in err and "canary" not in out + err and not (tmp_path / "gw").exists()
    code, out, err = inside("channels", "probe", "http://ann:canary@10.0.0.5:8000", "-o", "json")
    assert code == 2 and "user name or password" in err and "canary" not in out + err


def test_an_address_is_probed_without_a_gateway(inside, answers):
    answers(FOUND)
    code, out, _ = inside("channels", "probe", "https://10.0.0.5:1025")
    assert code == 0 and "mindie 2.0.RC2" in out and "32768" in out and "TLSv1.3" in out and "/info says so" in out
    assert json.loads(inside("channels", "probe", "https://10.0.0.5:1025", "-o", "json")[1])[0] == FOUND
    answers({**FOUND, "reachable": False, "error": "connection refused"}, code=1)
    code, out, _ = inside("channels", "probe", "https://10.0.0.5:1025")
    assert code == 6 and "unreachable" in out and "connection refused" in out
    answers("no json", code=1)
    code, _, err = inside("channels", "probe", "https://10.0.0.5:1025")
    assert code == 1 and "cannot probe" in err and "why" in err


def test_a_channel_can_only_be_probed_by_a_gateway(inside, tmp_path):
    code, _, err = inside("channels", "probe", "gpu", "--socket", tmp_path / "s")
    assert code == 5 and "gatewayctl channels probe http://" in err
