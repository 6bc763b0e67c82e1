"""The list of what doctor looks at. A new family is one file with `look(case)` and one line here."""

from collections.abc import Mapping
from typing import Final

from gatewayctl.doctor import clock, configuration, disk, engines, files, kernel, leftovers, limits, names, ports, service, tls
from gatewayctl.doctor.finding import Look

FAMILIES: Final[Mapping[str, Look]] = {
    "configuration": configuration.look,
    "service": service.look,
    "ports": ports.look,
    "files": files.look,
    "disk": disk.look,
    "limits": limits.look,
    "kernel": kernel.look,
    "clock": clock.look,
    "tls": tls.look,
    "names": names.look,
    "engines": engines.look,
    "leftovers": leftovers.look,
}
