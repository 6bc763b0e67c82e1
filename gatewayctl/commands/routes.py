"""`gatewayctl routes`: where requests go, why one would go where it would, and how much of them each target gets."""

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.client import segment
from gatewayctl.command import command, noun
from gatewayctl.commands.explained import print_explained, print_route
from gatewayctl.commands.live import changing, client_of_these_files
from gatewayctl.commands.reload import told
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import USAGE, Trouble

APIS = ("chat", "completions", "embeddings", "rerank", "score", "tokenize")

app = noun(
    "routes",
    "Where requests go, and why.",
    """
    gatewayctl routes                                            what is live
    gatewayctl routes show qwen                                  one model, with the states of its endpoints
    gatewayctl routes explain --model qwen --header x-env=prod   where such a request would go; nothing is sent
    gatewayctl routes set-weight qwen gpu 3                      edits the file and reloads
    """,
    default="list",
)


def tree_text(node: Any) -> str:
    """A target in one line: `primary-backup(proportional(ascend:qwen3 ×3, gpu:qwen3 ×1), gpu:small)`."""
    if node.get("channel"):
        return f"{node['channel']}:{node['model']}"
    inner = [
        f"{tree_text(below)} ×{below['weight']}" if node["policy"] == "proportional" and len(node["targets"]) > 1 else tree_text(below)
        for below in node["targets"]
    ]
    plain = len(inner) == 1 and node["policy"] == "proportional"
    return inner[0] if plain else f"{node['policy']}({', '.join(inner)})"


COLUMNS = [
    Column("model", lambda r: r.get("name")),
    Column("aliases", lambda r: r.get("aliases")),
    Column("goes to", tree_text),
    Column("rules", lambda r: [rule["name"] for rule in r.get("rules") or []]),
    Column("fallback", lambda r: r.get("fallback")),
]


@command(
    app,
    "list",
    """
    gatewayctl routes
    gatewayctl routes list -o yaml
    """,
)
def list_routes(session: Session) -> None:
    """Where each virtual model's requests go, as it is live."""
    show.items(session, session.client().get("/v1/routes")["routes"], COLUMNS, "no models")


@command(
    app,
    "show",
    """
    gatewayctl routes show qwen
    gatewayctl routes show qwen -o json
    """,
)
def show_route(session: Session, model: Annotated[str, typer.Argument(help="A virtual model's name or alias.")]) -> None:
    """One virtual model: its targets, rules and fallbacks, and the states of its endpoints."""
    route = session.client().get(f"/v1/routes/{segment(model)}")["route"]
    if session.machine:
        show.data(session, route)
        return
    print_route(session, route)


@command(
    app,
    "explain",
    """
    gatewayctl routes explain --model qwen
    gatewayctl routes explain --model qwen --key k7f3 --header x-env=prod --at "2026-12-24 22:00"
    gatewayctl routes explain --file request.json
    gatewayctl routes explain --model qwen --tokens 40000 -o json
    """,
)
def explain(
    session: Session,
    model: Annotated[str, typer.Option("--model", "-m", help="The model that the request names. Default: that of --file.")] = "",
    header: Annotated[list[str] | None, typer.Option("--header", help="A header of the request, name=value. May be repeated.")] = None,
    file: Annotated[str, typer.Option("--file", help="The request's JSON; - reads it from stdin.")] = "",
    key: Annotated[str, typer.Option("--key", help="The id of the key that it comes with. Default: one that may use everything.")] = "",
    at: Annotated[str, typer.Option("--at", help="When it comes: 2026-12-24 22:00 (this machine's zone). Default: now.")] = "",
    tokens: Annotated[int | None, typer.Option("--tokens", min=0, help="Its prompt's length, instead of counting.")] = None,
    api: Annotated[str, typer.Option("--api", help="Which API: chat, completions, embeddings, … Default: by the request.")] = "",
) -> None:
    """Where such a request would go, rule by rule, without sending anything.

    Shows which rules matched and why the others did not, the endpoints in the order they would be tried, and what would follow.
    """
    if api and api not in APIS:
        raise Trouble(f"there is no API {api!r}", f"Known are {', '.join(APIS)}.", USAGE)
    asked = {
        "model": model,
        "headers": dict(_pair(one) for one in reversed(header or [])),  # of one that is sent twice the first counts
        "body": _body(file),
        "key": key,
        "api": api,
        "at": _moment(at),
        "tokens": tokens,
    }
    found = session.client().post("/v1/explain", asked)["explained"]
    if session.machine:
        show.data(session, found)
    else:
        print_explained(session, found)


def _pair(text: str) -> tuple[str, str]:
    found = re.match(r"\s*([^=:\s]+)\s*[=:](.*)", text, re.S)
    if not found:
        raise Trouble(f"this is no header: {text!r}", "Write --header x-env=prod", USAGE)
    return found[1].lower(), found[2].strip()


def _body(file: str) -> str:
    if not file:
        return ""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not text.strip():
        raise Trouble(f"{'stdin' if file == '-' else file} is empty: such a request is refused with 400 invalid_json")
    return text


def _moment(text: str) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Trouble(f"this is no time: {text!r}", 'Write --at "2026-12-24 22:00"', USAGE) from error


@command(
    app,
    "set-weight",
    """
    gatewayctl routes set-weight qwen gpu 3
    gatewayctl routes set-weight qwen gpu:qwen3 1      when two targets are of the same channel
    gatewayctl routes set-weight qwen 0.1 5            by place: the second target inside the first
    gatewayctl routes set-weight qwen long/gpu 5       of the rule `long`
    """,
)
def set_weight(
    session: Session,
    model: Annotated[str, typer.Argument(help="A virtual model's name.")],
    target: Annotated[str, typer.Argument(metavar="[RULE/]CHANNEL[:MODEL]|PLACE", help="Which of its targets.")],
    weight: Annotated[int, typer.Argument(min=0, max=10_000, help="Its new weight. 0 = only when others fail.")],
) -> None:
    """Change a target's weight in the YAML file, keeping its comments, and reload.

    A change that the gateway refuses is taken back: the file is then as it was.
    """
    from gateway.config import edit
    from gateway.config.load import load

    name, place = _place(load(session.config).config, model, target)
    file = edit.file_of(session.config, "models", name) or session.config
    client = client_of_these_files(session)
    with changing(session.config, client, f"routes set-weight {model} {target} {weight}") as change:
        change.undo.callback(edit.set_scalar(file, f"{place}.weight", weight).undo)
    session.say(f"gatewayctl: {file}: {place}.weight is {weight} now")
    if client is None:
        session.say("gatewayctl: the gateway is not running; it will begin with this")
    else:
        told(session, client, change.answer)


def _place(config: Any, model: str, target: str) -> tuple[str, str]:
    """The model's own name, and the dotted place of one of its targets. Errors: Trouble."""
    from gateway.config.wording import nearest

    model = next((name for name, one in config.models.items() if model == name or model in one.aliases), model)
    found = config.models.get(model)
    if found is None:
        raise Trouble(f"there is no model {model!r}", nearest(model, config.models) or "`gatewayctl routes list` shows them.")
    places = {place: ("", steps, one) for place, (steps, one) in _targets(found, f"models.{model}", ())}
    for number, rule in enumerate(found.rules):
        below = _targets(rule.to, f"models.{model}.rules[{number}].to", ())
        places |= {place: (f"{rule.name}/", steps, one) for place, (steps, one) in below}
    rule_name, slash, which = target.rpartition("/")
    if not any(prefix == rule_name + slash for prefix, _, _ in places.values()):
        rule_name, slash, which = "", "", target  # a model's name may hold a slash
    here = {place: (steps, one) for place, (prefix, steps, one) in places.items() if prefix == rule_name + slash}
    channel, _, name = which.partition(":")
    if which.replace(".", "").isdigit():
        fits = [place for place, (steps, _) in here.items() if ".".join(map(str, steps)) == which]
    else:
        fits = [
            p for p, (_, t) in here.items() if t.channel == channel and name in ("", t.model or config.channels[channel].model or model)
        ]
    if len(fits) == 1:
        return model, fits[0]
    shown = ", ".join(
        f"{prefix}{'.'.join(map(str, steps))} ({t.channel or t.policy}{':' + t.model if t.model else ''})"
        for prefix, steps, t in places.values()
    )
    said = f"{model} has no target {target!r}" if not fits else f"{target!r} may be several targets of {model}"
    raise Trouble(said, f"Its targets by place: {shown}", USAGE)


def _targets(where: Any, path: str, steps: tuple[int, ...]) -> list[tuple[str, tuple[tuple[int, ...], Any]]]:
    found = []
    for number, target in enumerate(where.targets or []):
        here = f"{path}.targets[{number}]"
        found.append((here, ((*steps, number), target)))
        found += _targets(target, here, (*steps, number))
    return found
