"""Man pages and completion scripts are those of the commands, and tools that read them have nothing to complain about."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from gateway.config.tree import words
from gatewayctl import app, manual, roff, trouble
from gatewayctl.command import SHARED
from tests.test_cli_app import ALL

PAGES = dict(manual.pages())


def bare(text: str) -> str:
    """What a reader sees of a page."""
    text = re.sub(r"\\f[BRI]|\\&", "", text)
    for coded, shown in (("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ti", "~"), ("\\(ha", "^"), ("\\(rs", "\\")):
        text = text.replace(coded, shown)
    return re.sub(r"\\\[u([0-9A-F]+)\]", lambda m: chr(int(m[1], 16)), text)


def test_a_page_for_each_noun():
    assert set(PAGES) == {"gatewayctl.1", "gateway.yaml.5", *(f"gatewayctl-{name}.1" for name in app.COMMANDS)}
    for name in app.COMMANDS:
        assert f"gatewayctl-{name}(1)" in bare(PAGES["gatewayctl.1"])


@pytest.mark.parametrize("path", [path for path in ALL if path != "gatewayctl"])
def test_each_command_and_each_option_is_there(path):
    page = bare(PAGES[f"gatewayctl-{path.split()[1]}.1"])
    assert path in page
    for parameter in ALL[path].command.params:
        if parameter.name not in SHARED:
            assert (name := max(parameter.opts, key=len)) in page or name.upper() in page or str(parameter.metavar) in page, name


def test_what_all_share_is_on_the_first_page():
    page = bare(PAGES["gatewayctl.1"])
    for name in SHARED:
        assert f"--{name}" in page
    codes = {str(value) for name, value in vars(trouble).items() if name.isupper() and isinstance(value, int)}
    assert codes <= set(manual.EXIT)


def test_each_word_of_the_configuration_is_there():
    page = bare(PAGES["gateway.yaml.5"])
    for path, info in words().items():
        assert path in page and " ".join((info.description or "").replace("`", "").split()) in page, path


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not here")
@pytest.mark.parametrize("name", PAGES)
def test_groff_has_nothing_to_complain_about(name):
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8"], input=PAGES[name].encode(), capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not here")
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_nothing_to_complain_about(name):
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning"], input=PAGES[name].encode(), capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"")


def test_all_of_it_is_written(tmp_path: Path, capsys):
    manual.main(tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    scripts = {"completions/bash/gatewayctl", "completions/zsh/_gatewayctl", "completions/fish/gatewayctl.fish"}
    assert written == {*(f"man/{name}" for name in PAGES), *scripts}
    assert str(len(PAGES) + 3) in capsys.readouterr().out
    for shell in ("bash", "zsh"):
        if shutil.which(shell):
            [script] = (tmp_path / "completions" / shell).iterdir()
            subprocess.run([shell, "-n", str(script)], check=True, timeout=30)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (".br is no command", "\\&.br is no command"),
        ("a-b's `c` \\n", "a\\-b\\(aqs \\fBc\\fR \\(rsn"),
        ("`.x` é…", "\\fB\\&.x\\fR \\[u00E9]\\[u2026]"),
        ("one\n\ntwo ` three", "one\n.PP\ntwo \\(ga three"),
    ],
)
def test_text_stays_text(text, shown):
    assert roff.prose(text) == shown


def test_usage_names_arguments():
    ctx = typer.Context(app.load("backup"), info_name="backup")
    assert "DIR|FILE.tar" in bare(manual._usage(ctx))
