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
def showversion_of(session: Session) -> None:
    """Versions of the program, of Python and of the libraries. What a running gateway is: gatewayctl status."""
    found = {
        "version": version_of(PROGRAM),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libraries": {name: version_of(name) for name in LIBRARIES},
    }
    if session.machine:
        show.data(session, found)
    else:
        show.facts(session, [("gateway", found["version"]), ("python", found["python"]), ("system", found["system"])])
        print()
        show.facts(session, [(name, version_of(name)) for name in LIBRARIES])


def version_of(name: str) -> str | None:
    """Of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
