"""The command line as a whole: help, start-up, exit codes, what goes to stdout and what to stderr."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer

from gatewayctl import app, trouble
from gatewayctl.client import _wordless
from tests.fixtures.cli import GATEWAYCTL, ROOT, ctl, environment

DOCS = (ROOT / "docs/cli.md").read_text()
NOT_FOR_HELP = {
    "rich",
    "pydantic",
    "pydantic_core",
    "aiohttp",
    "asyncio",
    "yaml",
    "ruamel",
    "msgspec",
    "http",
    "ssl",
    "uvloop",
    "duckdb",
    "mcp",
}


def contexts(command: Any, parent: Any = None, name: str = "gatewayctl") -> Iterator[Any]:
    """A context for each command and group, the lazy ones loaded."""
    ctx = typer.Context(command, parent=parent, info_name=name)
    yield ctx
    for below in getattr(command, "commands", {}):
        yield from contexts(app.load(below) if parent is None else command.commands[below], ctx, below)


ALL = {ctx.command_path: ctx for ctx in contexts(app.root())}


def test_the_list_is_the_one_of_the_issue():
    nouns = "serve init demo simulate status reload config keys channels models routes limits requests health version completion"
    nouns += " freeze unfreeze audit tenants prices alerts doctor support-bundle backup restore ledger usage cost"
    nouns += " upgrade install uninstall"
    assert sorted(app.COMMANDS) == sorted(nouns.split())


@pytest.mark.parametrize("path", ALL)
def test_help_begins_with_examples_that_are_of_this_command(path):
    text = ALL[path].command.get_help(ALL[path])
    assert text.startswith("Examples:\n  ")
    examples = text[: text.index("\nUsage:")]
    assert path in examples


@pytest.mark.parametrize("path", ALL)
def test_each_command_and_each_option_is_in_the_docs(path):
    assert f"`{path}" in DOCS
    for parameter in ALL[path].command.params:
        option = next((name for name in parameter.opts if name.startswith("--")), None)
        assert option is None or f"`{option}" in DOCS, f"{path} {option} is not in docs/cli.md"


def test_examples_in_help_and_docs_name_commands_and_options_that_exist():
    texts = [ctx.command.epilog or "" for ctx in ALL.values()] + [DOCS]
    lines = [line for text in texts for line in re.findall(r"(?:^ *|[`(])gatewayctl ([a-z][^`\n]*)", text, re.M)]
    assert len(lines) > 60
    for line in lines:
        words = line.split()
        path = next((p for n in (2, 1) if (p := " ".join(["gatewayctl", *words[:n]])) in ALL), None)
        assert path, f"gatewayctl {line}"
        known = {name for parameter in ALL[path].command.get_params(ALL[path]) for name in (*parameter.opts, *parameter.secondary_opts)}
        if "simulate" in path:
            continue
        command = re.split(r"\s{2,}|[|<>&;#)]", line)[0]
        for option in re.findall(r"(?<=\s)(--[a-z-]+)", command):
            assert option in known, f"{option} in: gatewayctl {line}"


def test_examples_may_be_typed_as_they_stand():
    """All that help shows and that the docs show as typed: nothing that must be said is missing, and every value is one."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"^```(?:console|sh|)\n(.*?)^```", page.read_text(), re.S | re.M)]
    texts = [*(ctx.command.epilog or "" for ctx in ALL.values()), *blocks]
    typed = [line for text in texts for line in re.findall(r"^(?:\s*|\$ )(?:sudo (?:-u \w+ )?)?gatewayctl ([a-z].*)", text, re.M)]
    assert len(typed) > 250
    for line in typed:
        words = shlex.split(re.split(r"\s{2,}|\s[|<>&;#←]|[;)]", line)[0])
        path = next(path for n in (2, 1) if (path := " ".join(["gatewayctl", *words[:n]])) in ALL)
        if "simulate" not in path:  # it reads its words itself
            try:
                ALL[path].command.make_context(path, words[path.count(" ") :])
            except typer.Exit:  # a noun alone shows its help
                assert path.count(" ") == 1 and words == path.split()[1:], line
            except Exception as error:
                raise AssertionError(f"gatewayctl {line}: {error}") from error


def test_each_exit_code_is_in_the_docs():
    codes = {value for name, value in vars(trouble).items() if name.isupper() and isinstance(value, int)}
    assert {0, 1, 2, 4, 5, 6, 78, 130} <= codes | {0}
    for code in codes:
        assert f"| {code} |" in DOCS


def test_help_loads_next_to_nothing():
    code = (
        "import sys, atexit, json\nsys.argv = ['gatewayctl', '--help']\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\nfrom gatewayctl.app import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=30, check=True)
    assert done.stdout.startswith("Examples:")
    assert not {name.split(".")[0] for name in json.loads(done.stderr)} & NOT_FOR_HELP


def test_no_command_is_help():
    assert ctl() == ctl("--help")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["statsu"], "Did you mean 'status'"),
        (["status", "--nope"], "No such option"),
        (["status", "-o", "xml"], "'--output' / '-o': 'xml' is not one of 'table', 'json', 'yaml', 'csv'."),
        (["completion", "tcsh"], "'shell': 'tcsh' is not one of 'bash', 'zsh', 'fish'."),
        (["keys", "create", "--tenant", "retail"], "--project"),
        (["requests", "tail", "--status", "bad"], "503 or 4xx"),
        (["requests", "tail", "--since", "yesterday"], "10m"),
        (["config", "show", "--effective", "--running"], "one of them"),
        (["freeze", "--key", "a", "--key", "b"], "--key is said twice"),
        (["requests", "tail", "-n", "3", "--number=4"], "--number is said twice"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_meant(args, said):
    ran = ctl(*args)
    assert ran.code == 2 and ran.out == "" and said in ran.err


def test_the_demonstration_is_painted_as_asked(monkeypatch, capsys):
    class Stage(contextlib.nullcontext[Any]):
        folder = Path("/nowhere")
        children: ClassVar[dict[str, Any]] = {}

        def __enter__(self) -> Any:
            return self

    monkeypatch.setattr("gatewayctl.commands.demo.Stage", Stage)
    monkeypatch.setattr("gatewayctl.commands.demo.Demo.play", lambda demo: demo.step("title"))
    monkeypatch.setattr("sys.stdout.reconfigure", lambda **options: None, raising=False)
    for color, painted in (("always", True), ("never", False)):
        assert app.run(["demo", "--color", color]) == 0
        assert ("\x1b[1m1. title" in capsys.readouterr().out) == painted


@pytest.mark.parametrize("command", ["status", "reload", "health", "models", "requests tail -f", "config diff", "config rollback --yes"])
def test_without_a_gateway_each_says_so_and_exits_with_5(command, tmp_path):
    ran = ctl(*command.split(), "--socket", tmp_path / "admin.sock", "--config", tmp_path / "g.yaml")
    assert ran.code == 5 and ran.out == ""
    assert f"not running: nobody listens on {tmp_path}/admin.sock" in ran.err
    assert "systemctl start gateway" in ran.err and f"gatewayctl serve --config {tmp_path}/g.yaml" in ran.err


@pytest.mark.parametrize(("text", "said"), [(None, "does not exist"), ("", "is empty"), ("/", "is a folder, not a file")])
def test_without_a_configuration_nobody_knows_whether_a_gateway_runs(text, said, tmp_path):
    file = tmp_path / "g.yaml"
    if text == "/":
        file.mkdir()
    elif text is not None:
        file.write_text(text)
    ran = ctl("reload", "--config", file)
    assert ran.code == 5 and "not running" not in ran.err and f"{file} {said}, and nobody" in ran.err and "--socket" in ran.err


@pytest.mark.parametrize(("number", "hint"), [(28, "`df -h`"), (30, "where it comes from"), (122, "quota")])
def test_what_a_disk_refuses_is_said_with_what_to_do(number, hint, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, os.strerror(number), "/etc/gateway/keys.yaml")

    monkeypatch.setattr(app, "_invoke", refuse)
    assert app.run([]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"gatewayctl: /etc/gateway/keys.yaml: {os.strerror(number)}\n  ") and hint in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("config rollback abc", "'[REV]': write a whole number"),
        ("requests tail -n 1.5", "'--number': write a whole number"),
        ("audit -n 99999999", "'-n': write 10000 at most"),
        ("usage top -n -1", "'-n': write 0 or more"),
        ("keys create --tenant t --project p --expires 31.12.2027", "'31.12.2027' is not a date Write 2027-01-01"),
        ("keys create --tenant t --project p --expires 2001-01-01", "is no time to expire: that is over"),
    ],
)
def test_a_number_that_is_none_is_told_in_plain_words(line, said, capsys):
    assert app.run(line.split()) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_shell_in_a_folder_that_is_gone_is_told_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert app.run(["status", "--config", "gateway.yaml"]) == 1
    assert "the folder that this shell is in is gone" in capsys.readouterr().err


def test_a_configuration_that_may_not_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    file = tmp_path / "g.yaml"
    file.write_text("data_dir: data\n")
    for name, does in (("os.access", lambda *_: False), ("pathlib.Path.stat", _refuse)):
        with monkeypatch.context() as patch:
            patch.setattr(name, does)
            assert _wordless(file) == ("may not be read by you", 4)
    assert _wordless(file) == ("", 5)


def _refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_the_socket_is_found_through_the_configuration_even_when_it_is_broken(tmp_path):
    (tmp_path / "g.yaml").write_text("data_dir: state\nnonsense: [\n")
    assert f"{tmp_path}/state/admin.sock" in ctl("status", GATEWAY_CONFIG=str(tmp_path / "g.yaml")).err
    assert "/elsewhere.sock" in ctl("status", GATEWAY_SOCKET="/elsewhere.sock").err
    assert "/after.sock" in ctl("--socket", "/before.sock", "status", "--socket", "/after.sock", GATEWAY_SOCKET="/env.sock").err


def test_a_path_that_no_socket_can_have_is_said_to_be_too_long(tmp_path):
    ran = ctl("status", "--socket", tmp_path / ("x" * 120))
    assert ran.code == 1 and "107 bytes" in ran.err


def test_a_reader_that_leaves_makes_no_noise():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            [*GATEWAYCTL, "--help"], stdout=gone, stderr=subprocess.PIPE, text=True, env=environment(), timeout=30, check=False
        )
    assert (done.returncode, done.stderr) == (trouble.READER_GONE, "")


def test_a_terminal_that_cannot_show_a_character_is_no_failure(tmp_path):
    ran = ctl("simulate", "--help", PYTHONIOENCODING="ascii")
    assert ran.code == 0
    ran = ctl("channels", "probe", "é", "--socket", tmp_path / "s", PYTHONIOENCODING="ascii")
    assert ran.code == 5 and "http://\\u2026" in ran.err


AT_AN_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "gatewayctl.command":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from gatewayctl.__main__ import main
main()
"""


def test_ctrl_c_while_it_is_still_being_loaded_ends_quietly():
    def ran(before: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", before + AT_AN_IMPORT, "version"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert (ran().returncode, ran().stdout, ran().stderr) == (130, "", "")
    assert ran("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)").returncode == 0, "who ignores it, as nohup does, goes on"


def test_control_c_is_130_and_quiet(tmp_path):
    """The command waits for a child that says nothing."""
    code = "import gatewayctl.app as a, os, time\na._invoke = lambda _: os.kill(os.getpid(), 2) or time.sleep(9)\na.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=30, check=False
    )
    assert done.returncode == 128 + signal.SIGINT and "Traceback" not in done.stderr


def test_our_own_fault_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(app, "_invoke", lambda _: 1 / 0)
    assert app.run([]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_is_forbidden_says_who_may(monkeypatch, capsys):
    def forbidden(_):
        raise PermissionError(13, "Permission denied", "/var/lib/gateway/ledger.duckdb")

    monkeypatch.setattr(app, "_invoke", forbidden)
    for user, said in ((1000, "  Use sudo.\n"), (0, "")):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        assert app.run([]) == 4
        assert capsys.readouterr().err == f"gatewayctl: /var/lib/gateway/ledger.duckdb: Permission denied\n{said}"


def test_version_in_each_form():
    ran = ctl("version", "-o", "json")
    found = json.loads(ran.out)
    assert ran.code == 0 and found["python"].startswith("3.") and found["libraries"]["typer"]
    assert "python" in ctl("-o", "yaml", "version").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, capsys):
    assert app.run(["completion", shell]) == 0
    assert "_GATEWAYCTL_COMPLETE=complete_" + shell in capsys.readouterr().out


def test_completion_completes_commands_and_options():
    def complete(words: str) -> list[str]:
        number = str(len(words.split(" ")) - 1)
        return ctl(_GATEWAYCTL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=number).out.split()

    assert complete("gatewayctl re") == ["reload", "requests", "restore"]
    assert complete("gatewayctl keys c") == ["create"]
    assert "--tenant" in complete("gatewayctl keys create --t")
    assert complete("gatewayctl simulate ") == ["vllm", "sglang", "mindie"]
    assert complete("gatewayctl simulate vllm --t") == ["--tps", "--ttft"]


@pytest.mark.parametrize(("options", "colored"), [(["--color", "always"], True), (["--color=always", "--color=never"], False), ([], False)])
def test_mistakes_are_colored_as_said(options, colored, tmp_path):
    (tmp_path / "g.yaml").write_text("version: 2\n")
    ran = ctl(*options, "config", "check", "--config", tmp_path / "g.yaml")
    assert ran.code == 78 and ("\x1b[1;31merror" in ran.err) == colored


def test_serve_and_simulate_become_the_gateways_own_programs(monkeypatch, capsys):
    became: list[list[str]] = []

    def execv(program: str, argv: list[str]) -> None:
        became.append(argv)

    monkeypatch.setattr(os, "execv", execv)
    app.run(["serve", "--config", "/x/g.yaml", "--resume"])
    app.run(["simulate", "vllm", "--port", "0", "--api-key", "k", "--help"])
    assert [argv[1:] for argv in became] == [
        ["-m", "gateway", "serve", "--config", "/x/g.yaml", "--resume"],
        ["-m", "gateway", "simulate", "vllm", "--port", "0", "--api-key", "k", "--help"],
    ]
    assert app.run(["simulate", "--help"]) == 0 and len(became) == 2
    assert "--tps" in capsys.readouterr().out


def test_rich_is_known_to_one_module_only():
    found = [
        file.name for file in Path(app.__file__).parent.rglob("*.py") if re.search(r"^\s*(?:from|import) rich\b", file.read_text(), re.M)
    ]
    assert found == ["show.py"]
