"""`gatewayctl support-bundle`: everything that helps somebody far away to see what is wrong, without secrets and prompts."""

import time
from pathlib import Path
from typing import Annotated

import typer

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.session import Session
from gatewayctl.trouble import Trouble
from gatewayctl.words import plural, size

app = alone()
RECORDS, MOST = 200, 1000


@command(
    app,
    "support-bundle",
    """
    sudo gatewayctl support-bundle
    gatewayctl support-bundle -f /tmp/bundle.tar.gz --records 1000
    gatewayctl support-bundle --log /var/log/gateway.log
    tar xzOf gateway-support-gw-a-20261127T101500Z.tar.gz | less     look at it before you send it
    """,
)
def support_bundle(
    session: Session,
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE.tar.gz", readable=False, help="Where to.")] = None,
    records: Annotated[int, typer.Option("--records", min=0, max=MOST, help="How many of the newest records.")] = RECORDS,
    log: Annotated[Path | None, typer.Option("--log", metavar="FILE", readable=False, help="The log, when it is not in journald.")] = None,
) -> None:
    """Gather configuration, states, records, metrics, log, `doctor` and facts of the host into one file, mode 0600.

    Secrets are covered, prompts are nowhere in it, and what callers chose themselves becomes pseudonyms. Needs no running gateway.
    What cannot be had is said in missing.txt.
    """
    from gatewayctl.bundle.gather import Gather
    from gatewayctl.bundle.packing import pack
    from gatewayctl.doctor.case import Case

    case = Case.of(session)
    node = str((case.status or {}).get("node") or (case.config.node if case.config else "gateway"))
    target = file or Path(f"gateway-support-{node}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz")
    try:
        case.begin()
        missing = pack(Gather(session, case, records, log), target)
    except FileExistsError as error:
        raise Trouble(f"{target}: there already, and not overwritten", "-f says another name.") from error
    finally:
        case.end()
    if session.machine:
        show.data(session, {"file": str(target), "bytes": target.stat().st_size, "missing": missing})
    else:
        print(f"{target}: {size(target.stat().st_size)}")
    for name, why in missing.items():
        if "mistakes" not in name and "files.yaml" not in name:
            session.say(f"without {name}: {why}")
    session.say(f"{plural(len(missing), 'part')} missing. Look into it before you send it: tar xzOf {target} | less")
