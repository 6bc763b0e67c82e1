"""The first configuration of a new installation, with comments, for `gatewayctl init`. Makes text; writes and asks nothing."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.config.fields import MODEL_NAME, url_of
from gateway.config.flow import scalar
from gateway.config.jsonschema import NAME as SCHEMA_NAME
from gateway.config.jsonschema import text as schema_text
from gateway.config.unfinished import PLACEHOLDER

Engine = tuple[str, str, Mapping[str, Any] | None]
"""Kind (`mindie`, …, `auto`), URL, and what a probe found (`models`, `version`, `tls`, `status`, `error`), None = it did not answer."""

MODELINE: Final = f"# yaml-language-server: $schema={SCHEMA_NAME}"
_HEAD: Final = """\
{modeline}
# The gateway's configuration. A change takes effect as soon as the file is saved; streams in flight are not disturbed.
#   gatewayctl config check              says what is wrong, with line and column
#   gatewayctl config explain http.body  says what a word means
#   gatewayctl config schema             is what editors use to complete and underline
version: 1

# This machine's name in records and metrics. Default: the host name.
# node: gw-a

# The journal of all requests, earlier revisions of this file, and the admin socket.
data_dir: {data_dir}

# Processes that serve requests: a number, or auto for one per CPU.
workers: auto

# Further files. Keys live in a file of their own, because `gatewayctl keys create` writes it.
include: [keys.yaml]

listeners:
  api: {{bind: "{bind}", serves: api}}
  metrics: {{bind: "127.0.0.1:{metrics}", serves: metrics}}
  # tls: {{bind: "0.0.0.0:8443", serves: api, tls: {{cert: tls.crt, key: tls.key}}}}

# Limits of the callers' side. What is written here are the defaults.
# http:
#   body: 64MiB               # the largest request
#   body_timeout: 30s         # in this time at least 4 KiB of it must arrive, or its end
#   drain_timeout: 10m        # how long streams may still run when the service stops
#   trusted_proxies: []       # whose X-Forwarded-For is believed: [10.0.0.1/32]

# sync: group writes records through to the disk: they then survive a power cut, not only a killed process.
# journal: {{sync: group, on_failure: serve}}

# What is worth a message, and to whom it goes (docs/alerts.md). Without this the most important things are lines in the log.
# alerts: {{sinks: {{ops: "json://10.0.0.8:8080/hook"}}}}

# Ways to reach engines. engine: vllm, sglang, mindie, openai (anything else that speaks its API), or auto.
"""
_NO_CHANNEL: Final = """\
channels: {}
  # gpu:
  #   engine: vllm
  #   endpoints: ["http://10.0.0.6:8000"]
  #   credential: "${env:GPU_KEY}"        # or "${file:/etc/gateway/gpu.key}"
  # ascend:
  #   engine: mindie
  #   endpoints: ["https://10.0.0.5:1025"]
  #   tls: {ca: ca.pem, cert: client.pem, key: client.key}

# Virtual models: the names that callers use, and the channels behind each. Weights share the load out.
models: {}
  # qwen:
  #   aliases: ["gpt-4o*"]
  #   targets:
  #     - {channel: ascend, model: qwen3-32b, weight: 3}
  #     - {channel: gpu, model: qwen3, weight: 1}
"""
_TENANTS: Final = """\

# Who uses the gateway. Each API key belongs to a project of a tenant.
tenants:
  default:
    projects: {default: {}}
"""
_KEYS: Final = """\
{modeline}
# API keys. Only the SHA-256 of each secret is here. Without a key every request is refused.
#   gatewayctl keys create --tenant default --project default    adds one and prints its secret, once
#   gatewayctl keys revoke ID                                    removes one
keys: []
"""


def starter(engines: Iterable[Engine] = (), *, data_dir: str = "/var/lib/gateway", bind: str = "0.0.0.0:8080") -> dict[str, str]:
    """File names and their texts: gateway.yaml, keys.yaml and the schema for editors. Loads without a mistake as it is."""
    engines = list(engines)
    metrics = 9091 if bind.endswith(":9090") else 9090  # two listeners cannot share an address
    head = _HEAD.format(modeline=MODELINE, data_dir=scalar(data_dir), bind=bind, metrics=metrics)
    middle = _filled(engines) if engines else _NO_CHANNEL
    return {"gateway.yaml": head + middle + _TENANTS, "keys.yaml": _KEYS.format(modeline=MODELINE), SCHEMA_NAME: schema_text()}


def _filled(engines: list[Engine]) -> str:
    channels, models = ["channels:"], dict[str, list[str]]()
    for name, (kind, url, facts) in zip(channel_names(engines), engines, strict=True):
        channels += _channel(name, kind, url, facts or {})
        for model in _models(facts or {}) or [PLACEHOLDER]:
            remark = f"  # {_comment(_untold(facts or {}))}" if model == PLACEHOLDER else ""
            models.setdefault(_model_name(model), []).append(f"      - {{channel: {name}, model: {scalar(model)}, weight: 1}}{remark}")
    lines = [
        *channels,
        "",
        "# Virtual models: the names that callers use, and the channels behind each. Weights share the load out.",
        "models:",
    ]
    for number, (model, targets) in enumerate(models.items()):
        if model == PLACEHOLDER:
            lines.append("  # An engine did not tell its models: write the name that callers use, and the engine's own name for it.")
            lines.append("  # `gatewayctl channels probe CHANNEL` asks the engine for its names, while the gateway runs.")
        lines.append(f"  {scalar(model)}:")
        lines += [] if number else ['    # aliases: ["gpt-4o*"]']
        lines += ["    targets:", *targets]
    return "\n".join(lines) + "\n"


def channel_names(engines: Iterable[Engine]) -> list[str]:
    """What the engines' channels are called, in their order."""
    names = set[str]()
    return [_free(kind if kind != "auto" else "engine", names) for kind, _, _ in engines]


def asks_for_a_key(facts: Mapping[str, Any]) -> bool:
    """Whether the engine answered that nobody may see its models."""
    return facts.get("status") in (401, 403)


def _untold(facts: Mapping[str, Any]) -> str:
    """Why the engine's models are not known."""
    if asks_for_a_key(facts):
        return f"not its name: the engine asks for a key ({facts['status']})"
    return (
        f"not its name: {facts.get('error') or 'it told no model'}" if facts.get("reachable") else "not its name: the engine did not answer"
    )


def _channel(name: str, kind: str, url: str, facts: Mapping[str, Any]) -> list[str]:
    at = url_of(url)
    about = " ".join(str(facts[word]) for word in ("engine", "version") if facts.get(word))
    said = f"it says it is {about}" if about else "it did not answer when this was written"
    if asks_for_a_key(facts):
        said = f"it asks for a key ({facts['status']}){f' and says it is {about}' if about else ''}"
    elif facts.get("reachable") and not about:
        said = "it answered, and did not say what it is"
    lines = [f"  {name}:  # {_comment(said)}", f"    engine: {kind}", f"    endpoints: [{json.dumps(url)}]"]
    if asks_for_a_key(facts):
        lines.append("    # Without its key every request is refused:")
    lines.append(f'    # credential: "${{env:{re.sub("[^A-Z0-9]", "_", name.upper())}_KEY}}"')
    if at.scheme == "https":
        if not (facts.get("tls") or {}).get("verified"):
            lines.append(
                "    # Its certificate is checked with the machine's CAs; name another CA, and our own certificate if it wants one:"
            )
        lines.append("    # tls: {ca: ca.pem, cert: client.pem, key: client.key}")
    if kind == "mindie":
        host = f"[{at.host}]" if ":" in at.host else at.host
        lines.append(f'    # planes: {{management: "{at.scheme}://{host}:1026", metrics: "{at.scheme}://{host}:1027"}}')
    return lines


def _models(facts: Mapping[str, Any]) -> list[str]:
    """The names of the models that an engine serves, as a probe told them: texts or `{id: …}`."""
    found = [model.get("id") if isinstance(model, Mapping) else model for model in facts.get("models") or ()]
    return [name for name in found if isinstance(name, str) and name and name.isprintable()][:20]


def _model_name(model: str) -> str:
    """A name for callers: the engine's own without its folders (`/models/Qwen3-32B` → `Qwen3-32B`)."""
    name = re.sub(r"[^A-Za-z0-9._:-]", "-", model.rstrip("/").rpartition("/")[2]).lstrip("._:-")[:128]
    return name if re.match(MODEL_NAME, name) else "model"


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free)
    return free


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:120]
