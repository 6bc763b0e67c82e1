"""Are the listeners' addresses this host's, and free or ours? Reads the kernel's list of sockets; binds nothing that anybody could see."""

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config.resolved import Listener
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Finding, Findings, note, ok, wrong
from gatewayctl.doctor.host import number

LISTENS: Final = "0A"
ANY: Final = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Taken:
    """An address on which somebody listens."""

    host: str
    port: int
    inode: int


def look(case: Case) -> Findings:
    if case.config is None:
        return
    taken = [one for name in ("tcp", "tcp6") for one in listening(Path(f"/proc/net/{name}"))]
    for listener in case.config.listeners:
        yield from _of(case, listener, taken)


def _of(case: Case, listener: Listener, taken: list[Taken]) -> Findings:
    where, at = f"listeners.{listener.name}", f"{listener.host}:{listener.port}"
    others = [one for one in taken if one.port == listener.port and _meets(one.host, listener.host)]
    if others:
        holders = holders_of({one.inode for one in others})
        strangers = {pid: name for pid, name in holders.items() if pid not in case.pids}
        if not holders:
            yield _unknown(case, at, where)
        elif strangers:
            told = ", ".join(f"{name} (pid {pid})" for pid, name in strangers.items())
            yield wrong(f"{at} is taken by {told}", where, f"sudo ss -ltnp 'sport = :{listener.port}'")
        else:
            yield ok(f"the gateway listens on {at}", where)
        return
    if trouble := _not_ours(listener.host):
        yield wrong(f"{at} cannot be had: {trouble}", where, "ip addr")
    elif case.status is not None and _served(case, listener):
        yield wrong(f"nobody listens on {at}, although the gateway runs", where, "gatewayctl status")
    else:
        yield ok(f"{at} is free", where)
    lowest = number("/proc/sys/net/ipv4/ip_unprivileged_port_start") or 0
    if listener.port < lowest and case.user.uid != 0 and "cap_net_bind_service" not in case.unit.get("AmbientCapabilities", ""):
        said = f"{case.user.name} may not listen on a port below {lowest}"
        yield wrong(said, where, "systemctl edit gateway: [Service] AmbientCapabilities=CAP_NET_BIND_SERVICE")


def _unknown(case: Case, at: str, where: str) -> Finding:
    if case.status is not None and any(one.get("bind") == at for one in case.status.get("listeners") or []):
        return ok(f"somebody listens on {at}, and the gateway says that it is itself", where)
    return note(f"somebody listens on {at}; who, only root can see", where, "sudo gatewayctl doctor --only ports")


def _served(case: Case, listener: Listener) -> bool:
    return any(one.get("name") == listener.name for one in (case.status or {}).get("listeners") or [])


def _not_ours(host: str) -> str:
    """Why nothing here can listen on this address. Port 0 is any free one, for the moment of asking."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, proto) as asked:
            asked.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _meets(one: str, other: str) -> bool:
    """Whether two listeners on one port would be in each other's way."""
    with contextlib.suppress(ValueError):
        one, other = str(ipaddress.ip_address(one)), str(ipaddress.ip_address(other))
    return one == other or one in ANY or other in ANY


def listening(listed: Path) -> list[Taken]:
    """All listening sockets of /proc/net/tcp or tcp6."""
    found = []
    with contextlib.suppress(OSError):
        for line in listed.read_text().splitlines()[1:]:
            columns = line.split()
            if len(columns) > 9 and columns[3] == LISTENS:
                host, port = columns[1].split(":")
                found.append(Taken(_address(host), int(port, 16), int(columns[9])))
    return found


def _address(digits: str) -> str:
    """The kernel prints words of four bytes in the machine's own order."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def holders_of(inodes: set[int]) -> dict[int, str]:
    """pid → name of the processes that hold one of these sockets, as far as we may look."""
    wanted, found = {f"socket:[{inode}]" for inode in inodes}, {}
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            if any(_target(f"/proc/{pid}/fd/{fd}") in wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
