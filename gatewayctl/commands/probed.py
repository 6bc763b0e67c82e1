"""How the result of a probe is shown."""

from typing import Any

from gatewayctl import show
from gatewayctl.session import Session
from gatewayctl.show import Column

MODELS = [Column("model", lambda m: m.get("id")), Column("context length", lambda m: m.get("context_length"), "right")]


def print_probe(session: Session, found: dict[str, Any]) -> None:
    """What one endpoint said of itself, and what would be configured for it."""
    url = show.text_of(found.get("url"))
    if not found.get("reachable"):
        print(f"{show.paint(session, url, 'bold')}: {show.paint(session, 'unreachable', 'bold red')}")
    else:
        engine = " ".join(show.text_of(part) for part in (found.get("engine"), found.get("version")) if part)
        print(f"{show.paint(session, url, 'bold')}: {engine or 'something that is none of our engines'}")
    if found.get("error"):
        print(f"  {show.text_of(found['error'])}")
    for line in found.get("evidence") or []:
        print(f"  {show.text_of(line)}")
    if found.get("tls"):
        show.facts(session, [(f"tls {name.replace('_', ' ')}", value) for name, value in found["tls"].items()], indent=2)
    if found.get("models"):
        print("\n" + show.table(session, found["models"], MODELS))
    if found.get("would"):
        print("\n" + show.paint(session, "# would be configured as", "dim"))
        print(show.as_yaml(found["would"]), end="")
