"""`gatewayctl prices`: what models cost by the files, and LiteLLM's map brought into them."""

import json

import pytest

from tests.fixtures.cli import ctl
from tests.test_config_litellm import MAP

FILE = """version: 1
auth: none
include: [more.yaml]
channels: {gpu: {engine: vllm, endpoints: ["http://h:1"]}}
models: {qwen: {aliases: [q], targets: [{channel: gpu}]}, free: {targets: [{channel: gpu}]}}
schedules: {night: {zone: UTC, when: ["00:00-06:00"]}}
tenants: {retail: {discount: 10%, projects: {p: }}}
"""
PRICES = """# ours
prices:
  - {model: qwen, currency: CNY, input: "2", cached: "0.5", output: "8", tiers: [{over: 32000, output: "16"}]}
  - {model: qwen, currency: CNY, from: 2020-01-01, per: 1K, input: "0.003", output: "0.009", request: "0.01"}
  - {model: qwen, currency: CNY, from: 2199-01-01, input: "9", output: "9"}
  - {model: qwen, currency: CNY, during: night, input: "1", output: "4"}
  - {channel: gpu, currency: CNY, second: "0.002"}
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "gateway.yaml").write_text(FILE)
    (tmp_path / "more.yaml").write_text(PRICES)
    (tmp_path / "map.json").write_text(MAP)
    return tmp_path / "gateway.yaml"


def prices(config, *args, **more):
    return ctl("prices", *args, "--config", config, COLUMNS="200", TZ="UTC", **more)


def test_list(config):
    ran = prices(config)
    assert ran.code == 0 and not ran.err
    assert "replaced" in ran.out and "begins later" in ran.out and "during night" in ran.out and "channel gpu" in ran.out
    found = json.loads(prices(config, "list", "-o", "json").out)
    assert {one["state"] for one in found} <= {"replaced", "applies now", "begins later", "at its hours", "at other hours"}
    assert found[0]["input"] == "2" and found[0]["tiers"][0]["over"] == 32000 and found[1]["from"] == "2020-01-01"
    assert prices(config, "list", "-o", "csv").out.splitlines()[0].startswith("of,from,when,currency,input")


@pytest.mark.parametrize(
    ("night", "states"),
    [
        (["2001-01-01"], ["replaced", "applies now", "begins later", "at its hours", "applies now"]),
        (["00:00-24:00"], ["replaced", "at other hours", "begins later", "applies now", "applies now"]),
    ],
)
def test_which_applies_now_and_which_at_its_hours(config, night, states):
    config.write_text(FILE.replace('"00:00-06:00"', ", ".join(f'"{hours}"' for hours in night)))
    assert [one["state"] for one in json.loads(prices(config, "list", "-o", "json").out)] == states
    assert "at its hours" in (out := prices(config).out) or "at other hours" in out
    more = config.parent / "more.yaml"
    more.write_text(PRICES.replace("during: night", "outside: night"))
    states = json.loads(prices(config, "list", "-o", "json").out)
    assert states[3]["state"] == ("at its hours" if night == ["00:00-24:00"] else "applies now")


def test_of_two_schedules_that_hold_the_first_in_the_files_goes_before(config):
    config.write_text(FILE.replace("night: {", 'day: {when: ["00:00-24:00"]}, night: {').replace('"00:00-06:00"', '"00:00-24:00"'))
    more = PRICES + '  - {model: qwen, currency: CNY, during: day, input: "3", output: "4"}\n'
    (config.parent / "more.yaml").write_text(more)
    found = json.loads(prices(config, "list", "-o", "json").out)
    assert [one["state"] for one in found][3:] == ["applies now", "applies now", "at other hours"]
    charged = json.loads(prices(config, "show", "qwen", "-o", "json").out)["price"]
    assert charged["tokens"][0]["input"] == "1", "as requests are priced"


def test_what_a_model_costs_now(config):
    ran = prices(config, "show", "q", "--at", "2026-11-20 12:00")
    assert ran.code == 0 and not ran.err
    assert "qwen: callers pay" in ran.out and "input 3, cached 3, output 9, reasoning 9 CNY" in ran.out and "0.01 CNY" in ran.out
    assert "channel gpu: costs" in ran.out and "0.002 CNY" in ran.out
    assert "input 1, cached 1, output 4" in prices(config, "show", "qwen", "--at", "2026-11-20 02:00").out
    found = json.loads(prices(config, "show", "qwen", "--tenant", "retail", "--at", "2010-11-20 12:00", "-o", "json").out)
    assert found["discount"] == "10%" and found["price"]["tokens"] == [
        {"over": 0, "input": "1.8", "cached": "0.45", "output": "7.2", "reasoning": "7.2"},
        {"over": 32000, "input": "1.8", "cached": "0.45", "output": "14.4", "reasoning": "14.4"},
    ]
    assert len(found["price"]["rev"]) == 12
    assert "unknown, unless its channel has a price" in prices(config, "show", "free").out


def test_who_is_not_there(config):
    for args, said in ((["qwem"], "no model 'qwem'"), (["qwen", "--tenant", "x"], "no tenant 'x'"), (["qwen", "--at", "now"], "no time")):
        ran = prices(config, "show", *args)
        assert ran.code in (1, 2) and said in ran.err and not ran.out


def test_a_map_is_printed_as_yaml(config):
    ran = prices(config, "import", config.parent / "map.json", "--currency", "EUR", "--from", "2027-01-01")
    assert ran.code == 0 and ran.out.startswith("prices:\n")
    assert '  - {model: gpt-4o, from: 2027-01-01, currency: EUR, input: "2.5", cached: "1.25", output: "10"}\n' in ran.out
    assert "dall-e-3: skipped output_cost_per_image" in ran.err and "2 models without a price" in ran.err
    assert len(json.loads(prices(config, "import", config.parent / "map.json", "-m", "g*", "-o", "json").out)) == 2
    assert ctl("prices", "import", "-", "-m", "gpt-4o", stdin=MAP).out.count("model:") == 1, "and needs no configuration"


def test_into_a_file_of_the_configuration(config):
    into = config.parent / "more.yaml"
    ran = prices(config, "import", config.parent / "map.json", "--into", into, "-q")
    assert ran.code == 0 and not ran.err, ran.err
    assert into.read_text() == PRICES + '  - {model: free, currency: USD, input: "0", output: "0"}\n'
    ran = prices(config, "import", config.parent / "map.json", "--into", into, "-m", "gpt-4o", "--as", "qwen", "--from", "2030-01-01")
    assert ran.code == 0 and "1 price added" in ran.err and into.read_text().startswith(PRICES)


def test_a_price_that_starts_twice_is_taken_back(config):
    into = config.parent / "more.yaml"
    ran = prices(config, "import", config.parent / "map.json", "--into", into, "-m", "gpt-4o", "--as", "qwen")
    assert ran.code == 78 and "starts twice" in ran.err and into.read_text() == PRICES


def test_a_new_file(config):
    (config.parent / "more.yaml").unlink()
    config.write_text(FILE.replace("more.yaml", "'*.prices'"))
    ran = prices(config, "import", config.parent / "map.json", "--into", config.parent / "new.prices", "-m", "free")
    assert ran.code == 0 and (config.parent / "new.prices").read_text().startswith("prices:\n  - {model: free,"), ran.err
    ran = prices(config, "import", config.parent / "map.json", "--into", config.parent / "else.yaml", "-m", "gpt-4o", "--as", "qwen")
    assert ran.code == 0 and "is not part of" in ran.err and "include" in ran.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nothing.json"], 1, "cannot be read"),
        (["more.yaml"], 78, "is not JSON"),
        (["map.json", "-m", "nope"], 2, "no model of"),
        (["map.json", "--as", "qwen"], 2, "--as names one model"),
        (["map.json", "-m", "dall-e-3"], 1, "nothing of it has a price"),
        (["map.json", "-m", "gpt-4o", "--into", "more.yaml"], 2, "the configuration has none of these models"),
    ],
)
def test_what_cannot_be_imported(args, code, said, config):
    args = [str(config.parent / arg) if arg.endswith((".json", ".yaml")) else arg for arg in args]
    ran = prices(config, "import", *args)
    assert ran.code == code and said in ran.err and not ran.out, ran.err
    assert (config.parent / "more.yaml").read_text() == PRICES
