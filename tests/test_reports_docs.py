"""docs/reports.md: what `cost budgets` and `cost forecast` print there is what they print of six weeks that a seed makes."""

import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.admin.server import serve_admin
from gateway.config.resolve import resolve
from gateway.config.resolved import Resolved
from gateway.ledger.duck import DuckStore
from gateway.ledger.keeper import Ledger
from gateway.record import Record, Tokens
from gateway.report.reports import Reports, ledger_book
from tests.config_text import loaded
from tests.fixtures.desk import FakeDesk
from tests.test_ledger_store import done, write

PAGE = (Path(__file__).parents[1] / "docs" / "reports.md").read_text()
NOW = datetime(2026, 11, 28, 1, 6, tzinfo=UTC)
SHARES = {"retail": 45, "bank": 10, "lab": 5}
CONFIG = """\
version: 1
data_dir: data
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}
models: {qwen: {targets: [{channel: gpu}]}, embed: {targets: [{channel: gpu}]}}
currencies: {base: CNY, rates: {USD: "7.1"}}
prices:
  - {model: qwen, currency: CNY, input: "2", output: "8"}
  - {model: embed, currency: USD, input: "0.1", output: "0"}
tenants:
  retail:
    budget: {amount: "250", currency: CNY, warn: [80], stop: 100}
    projects:
      chatbot: {budget: {amount: "10", currency: CNY, per: day, zone: Asia/Shanghai, warn: [50, 90]}}
  bank: {budget: {amount: "2000", currency: CNY, warn: [80]}, projects: {chatbot: {}}}
  lab: {projects: {chatbot: {}}}
"""


class Shelf:
    """A ledger as far as reports look at it."""

    def __init__(self, store: DuckStore) -> None:
        self._store = store
        self.facts = store.facts()

    async def read(self, work: Callable[[DuckStore], Any]) -> Any:
        return work(self._store)


def six_weeks() -> Iterator[Record]:
    """Offices by the clock of Shanghai: busy from 8 to 18, Monday to Friday, a tenth of it at any other time."""
    rng = random.Random(11)
    at = NOW - timedelta(days=42)
    while at < NOW:
        local = at + timedelta(hours=8)
        busy = 10 if local.weekday() < 5 and 8 <= local.hour < 18 else 1
        for tenant, share in SHARES.items():
            tokens = busy * share * rng.randint(300, 400)
            common: dict[str, Any] = {"tenant": tenant, "project": "chatbot", "key": f"{tenant}-1", "source": "final"}
            yield done(at.timestamp(), model="qwen", tokens=Tokens(tokens, 0, tokens // 6), **common)
            yield done(at.timestamp(), model="embed", tokens=Tokens(tokens // 3, 0, 0), **common)
        at += timedelta(hours=1)


@pytest.fixture
def made(tmp_path: Path) -> Resolved:
    (tmp_path / "made").mkdir()
    return resolve(loaded(tmp_path / "made", CONFIG))[0]


@pytest.fixture
def store(tmp_path: Path, made: Resolved) -> Iterator[DuckStore]:
    (tmp_path / "journal").mkdir()
    store = DuckStore(tmp_path / "ledger.duckdb", memory=128 * 1024**2, journal=tmp_path / "journal", clock=NOW.timestamp)
    store.open()
    store.book = ledger_book(made)
    store.load([write(tmp_path / "journal", "0-a-000001", *six_weeks())])
    yield store
    store.close()


@pytest.fixture
async def told(config: Path, made: Resolved, store: DuckStore) -> AsyncIterator[None]:
    """A control that answers from the six weeks, at their end."""

    async def note(*args: Any, **more: Any) -> str:
        return ""

    desk = FakeDesk(config)
    desk.reports = cast(Any, Reports(cast(Ledger, Shelf(store)), lambda: made, list, note, NOW.timestamp))
    server = await serve_admin(desk, config.parent / "data/admin.sock")
    yield
    await server.close()


@pytest.mark.parametrize("command", ["cost budgets", "cost forecast --by tenant"])
async def test_the_page_shows_what_the_command_prints(command: str, told: None, inside: Any) -> None:
    code, out, err = await inside(*command.split())
    assert code == 0, err
    shown = re.search(rf"```\n\$ gatewayctl {re.escape(command)}\n(.*?)```", PAGE, re.S)
    printed = "".join(line.rstrip() + "\n" for line in (out + err).splitlines())
    assert shown is not None and shown[1] == printed, f"write it anew:\n{printed}"
