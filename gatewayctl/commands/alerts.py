"""`gatewayctl alerts`: what fires, who is told, and whom to leave in peace for a while."""

import time
from typing import Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands.done import well_done
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import FAILED, USAGE, Trouble
from gatewayctl.words import ago, moment, plural, since

app = noun(
    "alerts",
    "What fires, test messages, silences.",
    """
    gatewayctl alerts                                    what fires, is pending or was resolved
    gatewayctl alerts test --sink ops                    does a message arrive?
    gatewayctl alerts silence channel=gpu --for 2h --comment "new driver"
    """,
    default="list",
)
PATIENCE = 60.0
"""Seconds: a test waits for the services."""
ORDER = {"firing": 0, "silenced": 1, "pending": 2, "resolved": 3}


def state_of(alert: Any) -> str:
    return "silenced" if alert.get("silenced") and alert.get("state") == "firing" else str(alert.get("state"))


def labels_of(one: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in (one.get("labels") or {}).items())


def when(alert: Any) -> float | None:
    """Since when it is in its state, Unix seconds."""
    found: float | None = alert.get({"firing": "fired", "resolved": "resolved"}.get(str(alert.get("state")), "since"))
    return found


COLUMNS = [
    Column("state", state_of, colored=True),
    Column("when", lambda a: ago(when(a)), csv=lambda a: moment(when(a))),
    Column("severity", lambda a: a.get("severity")),
    Column("rule", lambda a: a.get("rule")),
    Column("about", labels_of),
    Column("text", lambda a: a.get("text")),
    Column("silence", lambda a: a.get("silenced") or None),
]
SILENCES = [
    Column("silence", lambda s: s.get("id")),
    Column("labels", labels_of),
    Column("until", lambda s: moment(s.get("until"))),
    Column("covers", lambda s: s.get("covers"), "right"),
    Column("by", lambda s: s.get("by")),
    Column("comment", lambda s: s.get("comment")),
]
RESULTS = [
    Column("sink", lambda r: r.get("sink")),
    Column("ok", lambda r: bool(r.get("ok")), colored=True),
    Column("said", lambda r: r.get("said") or None),
]


@command(
    app,
    "list",
    """
    gatewayctl alerts list
    gatewayctl alerts list --firing -o csv
    gatewayctl alerts list -o json            rules, sinks and silences too
    """,
)
def list_alerts(
    session: Session,
    firing: Annotated[bool, typer.Option("--firing", help="Only what fires and is not silenced.")] = False,
) -> None:
    """What fires, is silenced, is pending (it has not lasted for long enough), or was resolved in the last day; then the silences.

    JSON and YAML also have the sinks with what they last said, and the rules: `sure` is false where something they need is not known.
    """
    found = session.client().get("/v1/alerts")
    alerts = sorted(found["alerts"], key=lambda one: (ORDER.get(state_of(one), 9), -float(one.get("since") or 0)))
    alerts = [one for one in alerts if not firing or state_of(one) == "firing"]
    if session.output in ("json", "yaml"):
        show.data(session, {**found, "alerts": alerts})
        return
    show.items(session, alerts, COLUMNS, "nothing fires")
    if session.machine:
        return
    if found["silences"] and not firing:
        session.say("")
        show.items(session, found["silences"], SILENCES, "")
    for sink in found["sinks"]:
        if sink.get("trouble"):
            session.warn(f"gatewayctl: sink {sink['name']}: {sink['trouble']} ({plural(sink['waiting'], 'notice')} waiting)")
    if found.get("unwritten"):
        session.warn(f"gatewayctl: {found['unwritten']}")


@command(
    app,
    "test",
    """
    gatewayctl alerts test                       to every sink
    gatewayctl alerts test --sink ops
    gatewayctl alerts test --kind endpoint_down  to those that hear of endpoint_down
    """,
)
def test(
    session: Session,
    sink: Annotated[str | None, typer.Option("--sink", metavar="NAME", help="Only to this sink.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="As a rule on this would send it, to its sinks.")] = None,
) -> None:
    """Send a test message the way that real ones go, once, and say what came back. Exits with 1 when one did not arrive."""
    answer = session.client().post("/v1/alerts/test", {"sink": sink or "", "kind": kind or ""}, PATIENCE)
    results = answer["results"]
    show.items(session, results, RESULTS, "no sink hears of it: the message is in the gateway's log")
    bad = [one for one in results if not one.get("ok")]
    if bad:
        raise Trouble(f"{plural(len(bad), 'sink')} of {len(results)} did not take it", code=FAILED)
    well_done(answer)


@command(
    app,
    "silence",
    """
    gatewayctl alerts silence channel=gpu --for 2h --comment "new driver"
    gatewayctl alerts silence kind=key_expiry tenant='lab*' --for 30d
    gatewayctl alerts silence rule=endpoint_down endpoint='http://10.0.0.6*' --for 45m
    """,
)
def silence(
    session: Session,
    labels: Annotated[list[str], typer.Argument(metavar="LABEL=VALUE…", help="All must fit; `*` stands for anything.")],
    lasting: Annotated[str, typer.Option("--for", metavar="TIME", help="For so long: 45m, 2h, 7d.")],
    comment: Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="For colleagues.")] = None,
) -> None:
    """Tell nobody of alerts with these labels for a while. They are still listed; what still fires when it ends is told then.

    Labels: kind, rule, severity, and what `alerts list` has under ABOUT.
    """
    now = time.time()
    try:
        seconds = 0.0 if "-" in lasting else now - since(lasting, now)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise Trouble(f"--for wants a duration such as 45m, 2h or 7d, not {lasting!r}", code=USAGE)
    pairs: dict[str, str] = {}
    for label in labels:
        name, sign, value = label.partition("=")
        if not sign or not name or not value:
            raise Trouble(f"{label!r} is not LABEL=VALUE", "Say for example: channel=gpu", USAGE)
        pairs[name] = value
    found = session.client().post("/v1/alerts/silence", {"labels": pairs, "seconds": round(seconds, 3), "comment": comment or ""})[
        "silence"
    ]
    session.say(f"silence {found['id']} until {moment(found['until'])}; it covers {plural(found['covers'], 'alert')} now")
    if session.machine:
        show.data(session, found)
    well_done(found)


@command(
    app,
    "unsilence",
    """
    gatewayctl alerts unsilence a1b2c3
    """,
)
def unsilence(
    session: Session,
    id: Annotated[str, typer.Argument(metavar="ID", help="The silence, as `alerts list` shows it.")],
) -> None:
    """Take a silence back. What fires and was not told is told at once."""
    found = session.client().post("/v1/alerts/unsilence", {"id": id})["silence"]
    session.say(f"silence {found['id']} ({labels_of(found)}) is taken back")
    if session.machine:
        show.data(session, found)
    well_done(found)
