"""A route, and a decision that was explained, as people read them."""

from typing import Any, Final

from gatewayctl import show
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.words import moment

PLAN: Final = [
    Column("order", lambda way: way.get("place")),
    Column("channel", lambda way: way.get("channel")),
    Column("endpoint", lambda way: way.get("endpoint")),
    Column("model", lambda way: way.get("model")),
    Column("state", lambda way: way.get("state"), colored=True),
    Column("context", lambda way: way.get("context_length"), "right"),
    Column("in flight", lambda way: way.get("in_flight"), "right"),
    Column("remark", lambda way: way.get("why")),
]
STATES: Final = [
    Column("channel", lambda e: e.get("channel")),
    Column("endpoint", lambda e: e.get("endpoint")),
    Column("state", lambda e: e.get("state"), colored=True),
    Column("context", lambda e: e.get("context_length"), "right"),
    Column("in flight", lambda e: e.get("in_flight"), "right"),
    Column("why", lambda e: e.get("why")),
]


def print_route(session: Session, route: dict[str, Any]) -> None:
    """One model: its tree, rules, what follows, and its endpoints."""
    print(show.paint(session, route["name"], "bold"))
    show.facts(session, [("aliases", route["aliases"] or None), ("tokenizer", route["tokenizer"] or None)], 2)
    print()
    _tree(route, 2)
    if route["rules"]:
        print("\n" + show.paint(session, "rules, the first that matches decides", "bold"))
        for rule in route["rules"]:
            print(f"  {rule['name']}: when {_when(rule['when'])}")
            if "model" in rule["to"] and "channel" not in rule["to"]:
                print(f"    to model {rule['to']['model']}")
            else:
                _tree(rule["to"], 4)
    retry = route["retry"]
    pairs = [
        ("fallback", route["fallback"] or None),
        ("retry", f"{retry['attempts']} attempts within {retry['within']:g} s, on {', '.join(retry['on'])}"),
        ("continuation", route["continuation"]),
        ("defaults", _when(route["defaults"]) if route["defaults"] else None),
        ("caps", _when(route["caps"]) if route["caps"] else None),
    ]
    print()
    show.facts(session, pairs)
    print("\n" + show.table(session, route["endpoints"], STATES))


def _tree(node: dict[str, Any], indent: int) -> None:
    space = " " * indent
    if "channel" in node:
        print(f"{space}{node['channel']}:{node['model']}")
        return
    options = "".join(f", {word} {node[word]}" for word in ("sticky", "fail_back") if word in node)
    print(f"{space}{node['policy']}{options}")
    for number, below in enumerate(node["targets"], 1):
        mark = f"×{below['weight']}" if node["policy"] == "proportional" else f"{number}." if node["policy"] == "primary-backup" else "-"
        if "channel" in below:
            print(f"{space}  {mark} {below['channel']}:{below['model']}")
        else:
            print(f"{space}  {mark}")
            _tree(below, indent + 4)


def _when(when: dict[str, Any]) -> str:
    return ", ".join(f"{word} {_flow(value)}" for word, value in when.items()) or "always"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def print_explained(session: Session, found: dict[str, Any]) -> None:
    """Rule by rule, then the plan, then what would follow."""
    asked, prompt = found["asked"], found["prompt"]
    who = f"{asked['key']} (tenant {asked['tenant']}, project {asked['project']})" if asked["key"] else "any"
    length = f"{prompt['tokens']} tokens, {prompt['counted']}"
    if prompt["max_tokens"]:
        length += f"; {prompt['max_tokens']} for the answer"
    show.facts(
        session,
        [
            ("model", asked["model"] if asked["model"] == found["model"] else f"{asked['model']}, which means {found['model']}"),
            ("api", asked["api"]),
            ("key", who),
            ("time", moment(asked["at"])),
            ("prompt", length),
            *(("remark", remark) for remark in found.get("remarks") or ()),
            ("parameters", found["parameters"] or None),
        ],
    )
    _decision(session, found)
    _attempts(found)
    for other in found["fallback"]:
        print("\n" + show.paint(session, f"Then, when that failed: model {other['model']}", "bold"))
        _decision(session, other)
        _attempts(other)


def _attempts(found: dict[str, Any]) -> None:
    """Of what is refused before an engine is asked there are none."""
    retry, leaf = found["retry"], found
    while "leads_to" in leaf:
        leaf = leaf["leads_to"]
    if leaf["plan"]:
        whose = f" (by model {leaf['model']})" if leaf is not found else ""
        print(f"\nUp to {retry['attempts']} attempts within {retry['within']:g} s{whose}, when one fails with: {', '.join(retry['on'])}.")
        if found.get("continuation", "off") != "off":
            print("A stream whose engine dies in the middle goes on at another endpoint of the same engine model.")


def _decision(session: Session, found: dict[str, Any]) -> None:
    if found["rules"]:
        print("\n" + show.paint(session, "rules", "bold"))
    for rule in found["rules"]:
        if rule["matched"] is None:
            print(f"  - {rule['name']}: not asked")
            continue
        print(f"  {'✓' if rule['matched'] else '✗'} {rule['name']} → {rule['to']}")
        for one in rule["why"]:
            print(f"      {'✓' if one['holds'] else '✗'} {one['word']}: {one['told']}")
    if "leads_to" in found:
        print("\n" + show.paint(session, f"which leads to model {found['leads_to']['model']}", "bold"))
        _decision(session, found["leads_to"])
        return
    how = f", {found['how']}" if found["how"] and not found["how"].startswith(found["policy"]) else ""
    by = found["how"] if found["how"].startswith(found["policy"] or "-") else f"{found['policy'] or 'one channel'}{how}"
    print("\n" + show.paint(session, f"plan ({by})", "bold"))
    if found["refused"]:
        print(f"  refused: {found['refused']['status']} {found['refused']['code']}: {found['refused']['message']}")
    rows = [{**way, "place": f"{number}."} for number, way in enumerate(found["plan"], 1)]
    rows += [{**way, "place": "out"} for way in found["left_out"]]
    print(show.table(session, rows, PLAN) if rows else "  no endpoint")
