"""The habits of the house: small files that say what they are for, a menu, locks that name no host, a changelog."""

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(file for folder in ("gateway", "gatewayctl") for file in (ROOT / folder).rglob("*.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
FILE_LINES, FUNCTION_LINES = 400, 60
SAY_NOTHING = {"util", "utils", "manager", "managers", "helper", "helpers", "common", "misc"}


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock.read_text(), re.M))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def report(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def test_each_file_says_what_it_is_for():
    report([f"{file.relative_to(ROOT)}: no module docstring" for file in SOURCES if not ast.get_docstring(ast.parse(file.read_text()))])


def test_files_and_functions_are_small():
    found = []
    for file in SOURCES:
        text, path = file.read_text(), file.relative_to(ROOT)
        if (lines := text.count("\n")) > FILE_LINES:
            found.append(f"{path}: {lines} lines, more than {FILE_LINES}")
        for function in functions(ast.parse(text)):
            if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES:
                found.append(f"{path}:{function.lineno}: {function.name} has {lines} lines, more than {FUNCTION_LINES}")
    report(found)


def test_names_say_something():
    found = [str(file.relative_to(ROOT)) for file in SOURCES if SAY_NOTHING & set(re.split(r"[/_.]", str(file.relative_to(ROOT))))]
    report([f"{path}: a name that says nothing" for path in found])


def test_the_changelog_has_a_place_for_what_is_not_yet_released():
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_host_and_hashes_everything(lock):
    text = lock.read_text()
    assert "//" not in text and "index" not in text and "find-links" not in text
    entries = re.findall(r"^[a-z0-9-]+==(?:.*\\\n)*.*$", text, re.M)
    assert entries and all("--hash=sha256:" in entry for entry in entries)


def test_tests_run_with_the_versions_that_are_shipped():
    runtime, dev = pinned(ROOT / "requirements/runtime.txt"), pinned(ROOT / "requirements/dev.txt")
    assert runtime.items() <= dev.items()


def test_locks_hold_what_the_project_asks_for_and_each_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    dev = project["optional-dependencies"]["dev"]
    for lock, wanted in {"runtime": project["dependencies"], "dev": project["dependencies"] + dev}.items():
        names = {re.split(r"[=<>~]", line)[0].lower() for line in wanted}
        assert names <= pinned(ROOT / f"requirements/{lock}.txt").keys(), "make lock"
    lines = [line.strip() for line in text.splitlines()]
    asked = {f'"{name}",' for name in project["dependencies"] + dev}
    report([f"{line}: no comment says why" for before, line in pairwise(lines) if line in asked and not before.startswith("#")])


def test_make_alone_is_the_menu():
    menu = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    targets = set(re.findall(r"^  make (\S+) +\S", menu, re.M))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert phony and targets == set(phony[1].split())


def test_ci_calls_make_and_nothing_else():
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    called = re.findall(r"^ *(make [a-z][a-z -]+|suite [a-z-]+)$", run.read_text(), re.M)
    assert called == ["make lint types", "suite test", "suite test-hard", "suite test-compiled"]
    assert run.read_text().count('make "$1"') == 2, "once, and what failed once more"
