"""`gatewayctl doctor`: what is wrong with host, files, configuration and engines, and what to do. Exits with 6 when something is."""

from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import DEGRADED, USAGE, Done, Trouble
from gatewayctl.words import plural

app = alone()
COLUMNS = [
    Column("state", lambda f: f.get("state"), colored=True),
    Column("check", lambda f: f.get("check")),
    Column("what", lambda f: f.get("what")),
    Column("where", lambda f: f.get("where")),
    Column("remedy", lambda f: f.get("remedy")),
]


@command(
    app,
    "doctor",
    """
    gatewayctl doctor
    sudo gatewayctl doctor                     sees more: who holds a port, what others may read
    gatewayctl doctor --only disk --only clock
    gatewayctl doctor -o json
    """,
)
def doctor(
    session: Session,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Only this family of checks; repeat it. Which: the column CHECK.")
    ] = None,
    bad: Annotated[bool, typer.Option("--bad", help="Leave out what is well.")] = False,
) -> None:
    """Look at ports, permissions, limits, clock, disk, certificates, DNS and every engine; say what is wrong, and what to do about it.

    Changes nothing; runs with and without a gateway, and says what only root can see. The network is used for the configured
    engines and names alone, for 3 s each. Exits with 6 when something is wrong.
    """
    from gatewayctl.doctor.families import FAMILIES
    from gatewayctl.doctor.rounds import rounds

    if unknown := set(only or ()) - set(FAMILIES):
        raise Trouble(f"there is no check {', '.join(sorted(unknown))}", f"Checks: {', '.join(FAMILIES)}", USAGE)
    found = [one.told() for one in rounds(session, only or ()) if not (bad and one.state == "ok")]
    wrong = sum(one["state"] == "wrong" for one in found)
    notes = sum(one["state"] == "note" for one in found)
    if session.output == "csv":
        show.items(session, found, COLUMNS)
    elif session.machine:
        show.data(session, {"ok": not wrong, "findings": found})
    else:
        _print(session, found)
    session.say(
        f"{plural(wrong, 'thing is', 'things are')} wrong, {plural(notes, 'note')}"
        if wrong
        else f"nothing is wrong, {plural(notes, 'note')}"
    )
    if wrong:
        raise Done(DEGRADED)


def _print(session: Session, found: list[dict[str, Any]]) -> None:
    """One line for each finding, and one below it for what to do."""
    wide = max((len(one["check"]) for one in found), default=0)
    for one in found:
        state = show.paint(session, one["state"].ljust(5), show.style_of(one["state"]))
        where = f"  {show.paint(session, show.text_of(one['where']), 'dim')}" if one["where"] else ""
        print(f"{state}  {one['check'].ljust(wide)}  {show.text_of(one['what'])}{where}")
        if one["remedy"]:
            print(f"{' ' * (9 + wide)}→ {show.text_of(one['remedy'])}")
