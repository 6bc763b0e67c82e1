"""May enough files be open, and does the kernel queue enough connections?"""

import resource
from pathlib import Path
from typing import Final

from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, wrong
from gatewayctl.doctor.host import number

FEW: Final = 1024
"""Descriptors that a worker needs before the first request."""
GOOD: Final = 65_536
BACKLOG: Final = 4096
PORTS: Final = 20_000
PLENTY: Final = 1_000_000


def look(case: Case) -> Findings:
    yield from _files(case)
    yield from _kernel("net.core.somaxconn", BACKLOG, "connections may wait to be accepted")
    yield from _kernel("net.ipv4.tcp_max_syn_backlog", 1024, "connections may be half open")
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
    try:
        low, high = map(int, ports.read_text().split())
    except (OSError, ValueError):
        return
    said = f"{high - low + 1} ports for connections to engines ({low} to {high})"
    few = "sudo sysctl -w net.ipv4.ip_local_port_range='10240 65535'"
    yield ok(said, "net.ipv4.ip_local_port_range") if high - low >= PORTS else note(said, "net.ipv4.ip_local_port_range", few)


def expected(case: Case) -> int:
    """Descriptors of one worker in the worst case: two for each request in flight, one for each that waits."""
    if case.config is None:
        return FEW
    total = FEW
    for channel in case.config.channels.values():
        most = channel.max_in_flight or channel.endpoint_in_flight * max(1, len(channel.endpoints))
        total += 2 * most + (channel.queue_length if most else 0)
    return total


def _files(case: Case) -> Findings:
    soft, hard, whose = _allowed(case)
    need = expected(case)
    remedy = "systemctl edit gateway: [Service] LimitNOFILE=1048576" if case.unit.get("LoadState") == "loaded" else "ulimit -n 1048576"
    said = f"{_amount(soft)} files may be open ({_amount(hard)} at most), {whose}"
    if soft < need:
        yield wrong(f"{said}; the limits of the channels alone need {need}", "nofile", remedy)
    elif soft < GOOD:
        yield note(f"{said}: about {soft // 2} requests at the same time", "nofile", remedy)
    else:
        yield ok(said, "nofile")


def _amount(number: int) -> str:
    return "any number of" if number == resource.RLIM_INFINITY else str(number)


def _allowed(case: Case) -> tuple[int, int, str]:
    """(soft, hard, whose limit that is): of the processes that run, of the unit, of this shell."""
    if case.status is not None:
        found = [pair for pid in case.pids if (pair := _of_process(pid))]
        if found:
            return (*min(found), "in the gateway that runs")
    if case.unit.get("LoadState") == "loaded" and case.unit.get("LimitNOFILE", "").isdigit():
        hard = int(case.unit["LimitNOFILE"])
        soft = case.unit.get("LimitNOFILESoft", "")
        return int(soft) if soft.isdigit() else hard, hard, "as the unit says"
    return (*resource.getrlimit(resource.RLIMIT_NOFILE), "when started from this shell")


def _of_process(pid: int) -> tuple[int, int] | None:
    try:
        line = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open files"))
    except (OSError, StopIteration):
        return None
    soft, hard = line.split()[3:5]
    return _number(soft), _number(hard)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else PLENTY


def _kernel(name: str, least: int, said: str) -> Findings:
    found = number("/proc/sys/" + name.replace(".", "/"))
    if found is None:
        return
    line = f"{found} {said}"
    yield (
        ok(line, name)
        if found >= least
        else note(line, name, f"sudo sysctl -w {name}={least}; for ever: a line in /etc/sysctl.d/gateway.conf")
    )
