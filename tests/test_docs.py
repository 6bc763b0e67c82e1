"""What the documentation promises: every error code and metric is in it, links lead somewhere, examples are accepted."""

import ast
import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway.config.load import load
from gateway.upgrade.formats import UNREADABLE
from gateway.wire.answers import type_of
from tests.harness import Rig, eventually

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [file for file in sorted((ROOT / "gateway").rglob("*.py")) if "simulate" not in file.parts]

PLACES = {"Refusal": (0, 1), "UpstreamFailure": (2, 3), "_of_engine": (1, 2)}
"""Callable → where its status and its code stand among the arguments."""
DEFAULTS = {"UpstreamFailure": (502, "upstream_error")}


def refusals() -> Iterator[tuple[str, int, str]]:
    """(code, status, where) of everything that a caller may be told. Codes that are no literals come from the engine."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name not in PLACES:
                continue
            given = {number: value for number, value in enumerate(node.args)}
            named = {word.arg: word.value for word in node.keywords}
            status_place, code_place = PLACES[name]
            status_node = named.get("status", given.get(status_place))
            code_node = named.get("code", given.get(code_place))
            status, code = DEFAULTS.get(name, (0, ""))
            if isinstance(status_node, ast.Constant) and isinstance(status_node.value, int):
                status = status_node.value
            if code_node is not None:
                code = code_node.value if isinstance(code_node, ast.Constant) and isinstance(code_node.value, str) else ""
            if code and status:
                yield code, status, f"{file.relative_to(ROOT)}:{node.lineno}"


def rows(page: str) -> dict[str, list[str]]:
    """The tables of a page whose first cell is one word of code: word → the other cells."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("| `")]
    return {found[1]: row[1:] for row in cells if (found := re.fullmatch(r"`([\w]+)`", row[0]))}


def test_every_error_code_is_explained_with_its_status_and_type():
    told = rows("callers.md")
    seen = list(refusals())
    assert len({code for code, _, _ in seen}) > 20, "the sources are no longer read as they are written"
    missing = [f"{where}: `{code}` ({status}) is not in docs/callers.md" for code, status, where in seen if code not in told]
    wrong = [f"{where}: `{code}` is {status}, which docs/callers.md does not say" for code, status, where in seen
             if code in told and str(status) not in told[code][0].split(", ")]  # fmt: skip
    types = [
        f"{code}: {cells[1]}"
        for code, cells in told.items()
        if len(cells) == 4 and cells[0].isdigit() and cells[1] != type_of(int(cells[0]))
    ]
    gone = [
        f"`{code}` of docs/callers.md is nowhere in the code"
        for code in told
        if code not in {c for c, _, _ in seen} and len(told[code]) == 4
    ]
    gone = [line for line in gone if not any(code in line for code in ("`invalid_request`",))]  # its code may be the engine's own
    assert not missing + wrong + types + gone, "\n" + "\n".join(missing + wrong + types + gone)


async def test_every_metric_is_explained_with_its_type_and_labels(rig: Rig) -> None:
    await rig.engine("a", "vllm")
    rig.model("qwen")
    await rig.start()
    await rig.chat("qwen", stream=True, max_tokens=3)
    await rig.chat("nobody")

    async def counted() -> str:
        text = await rig.metrics()
        return text if "gateway_requests_total{" in text else ""

    text = await eventually(counted)
    told = rows("metrics.md")
    families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    literal = {
        name
        for file in ("metrics", "exposition")
        for name in re.findall(r'"(gateway_[a-z_]+)"', (ROOT / f"gateway/meter/{file}.py").read_text())
    }
    known = {*families, *(name if name in families or name.endswith("_total") else f"{name}_total" for name in literal)}
    assert len(known) > 15
    assert known <= told.keys(), f"not in docs/metrics.md: {known - told.keys()}"
    assert told.keys() <= known, f"docs/metrics.md has metrics that are gone: {told.keys() - known}"
    for name, kind in families.items():
        assert told[name][0] == kind, name
        labels = {
            label
            for sample in re.findall(rf"^{name}(?:_bucket|_sum|_count)?{{(.*)}} ", text, re.M)
            for label in re.findall(r'(\w+)="', sample)
        }
        assert labels - {"le", "pid"} <= set(re.findall(r"\w+", told[name][1])), name


def test_every_call_of_the_admin_api_is_in_its_table_and_no_other():
    table = (ROOT / "docs/cli.md").read_text().split("## The admin API")[1]
    told = {
        (method.lower(), path)
        for method, paths in re.findall(r"^\| (GET|POST) ([^|]+) \|", table, re.M)
        for path in re.findall(r"(/v1/[\w/{}]+)", paths)
    }
    sources = "".join(file.read_text() for file in sorted((ROOT / "gateway/admin").glob("*.py")))
    there = {(method, path.replace(":.+", "")) for method, path in re.findall(r'web\.(get|post)\("(/v1/[^"]+)"', sources)}
    assert len(there) > 40 and told == there, told ^ there


def test_prometheus_understands_the_rules_that_are_recommended(tmp_path: Path) -> None:
    [text] = re.findall(r"```yaml\n(groups:.*?)```", (ROOT / "docs/metrics.md").read_text(), re.S)
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    assert all(rule.keys() <= {"alert", "expr", "for"} and isinstance(rule["expr"], str) for rule in rules)
    named = {name for rule in rules for name in re.findall(r"gateway_\w+", rule["expr"])}
    assert len(named) > 8 and named <= rows("metrics.md").keys()
    if shutil.which("promtool"):
        (tmp_path / "rules.yml").write_text(text)
        judged = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page: Path) -> None:
    """A row after an empty line begins another table, which has a line of dashes below its head."""
    lines = ["", *page.read_text().splitlines(), ""]
    heads = [number for number in range(1, len(lines) - 1) if lines[number].startswith("|") and not lines[number - 1].startswith("|")]
    assert not [lines[number] for number in heads if not re.match(r"\|[-| :]+\|$", lines[number + 1])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    lost = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not lost, lost


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_example_configurations_are_accepted(page: str, tmp_path: Path) -> None:
    examples = [text for text in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.S) if text.startswith("version:")]
    assert examples
    for text in examples:
        (tmp_path / "keys.yaml").write_text("keys: []\n")
        text = re.sub(r"^ *tls: \{ca: .*\n", "", text, flags=re.M)  # names files that are not here
        file = tmp_path / "gateway.yaml"
        file.write_text(text)
        load(file)


def test_every_page_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert not [page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme]


def test_the_unit_has_what_the_supervisor_counts_on():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "systemd/gateway.service")
    service = unit["Service"]
    assert service["Type"] == "notify" and float(service["WatchdogSec"]) > 5, "a hung child is replaced after 5 s"
    assert service["KillMode"] == "mixed", "SIGTERM is for the supervisor alone"
    assert service["RestartPreventExitStatus"].split() == [str(UNREADABLE), "78"]
    assert service["ExecStart"].split()[1] == "serve" and service["ExecReload"].split()[1] == "reload"
