"""What differs between two revisions, as the log and `config diff` say it."""

import pytest

from gateway.config.diff import diff
from gateway.config.load import load
from gateway.config.resolve import resolve

OLD = """\
version: 1
node: a
listeners: {api: {bind: ":8080"}}
http: {body: 64MiB, cors: {origins: ["https://a.example"]}}
channels:
  gpu:
    engine: vllm
    endpoints: ["http://h1:1", "http://h2:1"]
    credential: sk-old-canary
    headers: {X-A: old-canary, X-B: b}
    timeouts: {connect: 3s}
  cpu: {engine: auto, endpoints: ["http://h3:1"]}
models:
  qwen: {aliases: [q], targets: [{channel: gpu, weight: 3}, {channel: cpu}]}
  small: {targets: [{channel: cpu}]}
tenants: {t: {projects: {p: {}}}}
keys:
  - {id: k1, hash: "sha256:HASH1", tenant: t, project: p, models: [qwen]}
  - {id: k2, hash: "sha256:HASH2", tenant: t, project: p, models: ["*"]}
""".replace("HASH1", "0f" * 32).replace("HASH2", "1f" * 32)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# x", "", []),
        ("node: a", "node: b", ["node a -> b"]),
        (":8080", "127.0.0.1:8081", ["listeners.api.host 0.0.0.0 -> 127.0.0.1", "listeners.api.port 8080 -> 8081"]),
        (
            '":8080"}}\nhttp: {',
            '":8080", proxy_protocol: true}}\nhttp: {trusted_proxies: [10.0.0.1/32], ',
            ["http.trusted_proxies [] -> [10.0.0.1/32]", "listeners.api.proxy_protocol false -> true"],
        ),
        ("body: 64MiB", "body: 20MB", ["http.body 64MiB -> 20000000B"]),
        (', cors: {origins: ["https://a.example"]}', "", ["http.cors set -> none"]),
        ("https://a.example", "*", ["http.cors.origins [https://a.example] -> [*]"]),
        ("engine: vllm", "engine: sglang", ["channels.gpu.engine vllm -> sglang"]),
        ("http://h2:1", "http://h9:1", ["channels.gpu.endpoints[1] http://h2:1 -> http://h9:1"]),
        (', "http://h2:1"', "", ["channels.gpu.endpoints[1] - http://h2:1"]),
        ("sk-old-canary", "sk-new-canary", ["channels.gpu.credential changed"]),
        (
            "X-A: old-canary, X-B: b",
            "X-A: new-canary, X-C: c",
            ["channels.gpu.headers.X-A changed", "channels.gpu.headers - X-B", "channels.gpu.headers + X-C"],
        ),
        ("connect: 3s", "connect: 1m30s", ["channels.gpu.timeouts.connect 3s -> 1m30s"]),
        ("weight: 3", "weight: 1", ["models.qwen.targets[0].weight 3 -> 1"]),
        (", {channel: cpu}]", "]", ["models.qwen.targets[1] - cpu (weight 1)"]),
        ("aliases: [q]", 'aliases: [q, "gpt*"]', ["models.qwen.aliases [q] -> [q, gpt*]"]),
        ("  small: {targets: [{channel: cpu}]}\n", "", ["models - small"]),
        ("models:\n", "models:\n  new: {targets: [{channel: gpu}]}\n", ["models + new (gpu)"]),
        ("channels:\n", 'channels:\n  new: {engine: mindie, endpoints: ["http://n:1"]}\n', ["channels + new (mindie, 1 endpoint)"]),
        ("{p: {}}", "{p: {}, q: {}}", ["tenants.t [p] -> [p, q]"]),
        ("id: k1", "id: k9", ["keys - k1 (tenant t)", "keys + k9 (tenant t)"]),
        ("0f0f", "0e0e", ["keys.k1.hash changed"]),
        ("models: [qwen]", "models: [small]", ["keys.k1.models [qwen] -> [small]"]),
    ],
)
def test_each_difference_is_said_in_the_words_of_the_file(old, new, said, tmp_path):
    pairs = []
    for text in (OLD, OLD.replace(old, new)):
        (tmp_path / "gateway.yaml").write_text(text)
        pairs.append(resolve(load(tmp_path / "gateway.yaml", {})))
    assert [str(change) for change in diff(*pairs)] == said
    assert "canary" not in repr(diff(*pairs))


ROUTED = """version: 1
auth: none
channels:
  gpu: {engine: vllm, endpoints: ["http://h1:1"]}
  cpu: {engine: vllm, endpoints: ["http://h2:1"], max_in_flight: 5}
schedules:
  office: {zone: UTC, when: ["Mon-Fri 09:00-18:00", "Sat,Sun", "22:00-02:00"], holidays: [2027-01-01]}
models:
  qwen:
    targets: [{channel: gpu, weight: 3}, {policy: primary-backup, targets: [{channel: cpu}, {channel: gpu, model: z}]}]
    rules:
      - name: long
        when: {headers: {x-env: prod, authorization: Bearer old-canary}, share: {percent: 10, by: key}, content: {path: a.b, equals: 1}}
        to: {channel: gpu}
      - {name: away, when: {during: office}, to: {model: small}}
  small: {targets: [{channel: cpu}]}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '09:00-18:00", "Sat,Sun", "22:00-02:00"]',
            '09:30-24:00", "2027-05-01..2027-05-03"]',
            [
                "schedules.office.when [Mon-Fri 09:00-18:00, Sat,Sun, 22:00-02:00] -> "
                "[Mon-Fri 09:30-24:00, 2027-05-01..2027-05-03]"
            ],
        ),
        ("[2027-01-01]", "[2027-02-06..2027-02-12]", ["schedules.office.holidays [2027-01-01] -> [2027-02-06..2027-02-12]"]),
        ("x-env: prod", "x-env: [prod, {prefix: a}]", ["models.qwen.rules[long].when.headers.x-env [prod] -> [prod, {prefix: a}]"]),
        ("old-canary", "new-canary", ["models.qwen.rules[long].when.headers.authorization changed"]),
        (
            "headers: {x-env: prod, authorization: Bearer old-canary}, ",
            "",
            ["models.qwen.rules[long].when.headers.x-env [prod] -> none", "models.qwen.rules[long].when.headers.authorization changed"],
        ),
        ("by: key", "by: {header: x-user}", ["models.qwen.rules[long].when.share.by key -> {header: x-user}"]),
        ("share: {percent: 10, by: key}, ", "", ["models.qwen.rules[long].when.share {percent: 10, by: key} -> none"]),
        (
            "equals: 1}",
            "over: 5}",
            ["models.qwen.rules[long].when.content [{path: a.b, equals: [1]}] -> [{path: a.b, over: 5}]"],
        ),
        ("during: office", "outside: office", [
            "models.qwen.rules[away].when.during [office] -> none", "models.qwen.rules[away].when.outside none -> [office]",
        ]),
        ("to: {model: small}", "to: {channel: gpu}", ["models.qwen.rules[away].to model small -> gpu (weight 1)"]),
        (
            "{channel: gpu, weight: 3}, {policy",
            "{policy",
            [
                "models.qwen.targets[0] gpu (weight 3) -> primary-backup(cpu, gpu) (weight 1)",
                "models.qwen.targets[1] - primary-backup(cpu, gpu) (weight 1)",
            ],
        ),
        ("  qwen:\n", "  qwen:\n    sticky: key\n", ["models.qwen.sticky none -> key"]),
        (
            "max_in_flight: 5",
            "max_in_flight: {channel: 6, endpoint: 2}, queue: {length: 3}, breaker: {share: 40}",
            [
                "channels.cpu.max_in_flight 5 -> 6", "channels.cpu.max_in_flight.endpoint none -> 2", "channels.cpu.queue.length 100 -> 3",
                "channels.cpu.breaker.share 50 -> 40",
            ],
        ),
    ],
)  # fmt: skip
def test_routing_is_said_in_the_words_of_the_file(old, new, said, tmp_path):
    pairs = []
    assert ROUTED.count(old) == 1
    for text in (ROUTED, ROUTED.replace(old, new)):
        (tmp_path / "gateway.yaml").write_text(text)
        pairs.append(resolve(load(tmp_path / "gateway.yaml", {})))
    assert [str(change) for change in diff(*pairs)] == said
    assert "canary" not in repr(diff(*pairs))


def test_a_certificate_that_changed_is_said(tmp_path):
    import msgspec

    from gateway.config.resolved import Tls

    (tmp_path / "gateway.yaml").write_text(OLD)
    config, keys = resolve(load(tmp_path / "gateway.yaml", {}))
    made = [
        msgspec.structs.replace(
            config, listeners=(msgspec.structs.replace(config.listeners[0], tls=Tls(cert="c", key="k", digest=digest)),)
        )
        for digest in ("1", "2")
    ]
    assert [str(change) for change in diff((made[0], keys), (made[1], keys))] == ["listeners.api.tls file changed"]


def test_a_budget_that_did_not_change_is_not_said_beside_a_limit_that_did(tmp_path):
    prices = "prices: [{model: '*', currency: CNY, input: 1, output: 1}]\n"
    pairs = []
    for most in (5, 6):
        limits = f"limits: [{{count: requests, max: {most}, per: day}}], "
        limits += "budget: {amount: 10, currency: CNY, stop: 100}, projects: {p: {}}"
        (tmp_path / "gateway.yaml").write_text(OLD.replace("projects: {p: {}}", limits) + prices)
        pairs.append(resolve(load(tmp_path / "gateway.yaml", {})))
    assert [str(change) for change in diff(*pairs)] == ["tenants.t.limits[0].max 5 -> 6"]
