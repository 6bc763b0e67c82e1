"""`gatewayctl version`: versions of the program and its libraries."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from gatewayctl import show
from gatewayctl.command import alone, command
from gatewayctl.session import Session

app = alone()
PROGRAM: Final = "onprem-gateway"
LIBRARIES: Final = "aiohttp uvloop httptools msgspec pydantic PyYAML watchfiles prometheus-client typer rich".split()


@command(
    app,
    "version",
    """
    gatewayctl version
    gatewayctl version -o json
    """,
)
def show_version(session: Session) -> None:
    """Versions of the program, of Python and of the libraries. What a running gateway is: gatewayctl status."""
    found = {
        "version": _version(PROGRAM),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
    }
    if session.machine:
        show.data(session, found)
    else:
        show.facts(session, [("gateway", found["version"]), ("python", found["python"]), ("system", found["system"])])
        print()
        show.facts(session, [(name, _version(name)) for name in LIBRARIES])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
