"""Can this kernel do what the gateway asks of it, and are CPUs and memory enough for the configuration?"""

import os
import re
import socket
from pathlib import Path
from typing import Final

from gateway.config.resolve import cpus
from gatewayctl.doctor.case import Case
from gatewayctl.doctor.finding import Findings, note, ok, wrong
from gatewayctl.doctor.host import memory
from gatewayctl.words import plural, size

OLDEST: Final = (4, 18)
"""RHEL 8's and the oldest that is tested."""
PROCESS: Final = 150 << 20
"""Bytes that one of our processes takes, generously."""
UNLIMITED: Final = 1 << 60


def look(case: Case) -> Findings:
    yield from _kernel()
    yield from _cpus(case)
    yield from _memory(case)


def _kernel() -> Findings:
    release = os.uname().release
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < OLDEST:
        yield wrong(f"Linux {release} is older than {OLDEST[0]}.{OLDEST[1]}", "uname -r", "update the kernel")
    else:
        yield ok(f"Linux {release}, {os.uname().machine}", "uname -r")
    try:
        with socket.socket() as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        os.close(os.memfd_create("gateway-doctor"))
    except (OSError, AttributeError) as error:
        yield wrong(f"SO_REUSEPORT or memfd_create is refused: {error}", "", "look at the container's seccomp profile")
    else:
        yield ok("SO_REUSEPORT and memfd_create work")


def _cpus(case: Case) -> Findings:
    if case.config is None:
        return
    have, want = cpus(), case.config.workers
    said = f"{plural(want, 'worker')} on {plural(have, 'CPU')}"
    if want > have:
        yield note(f"{said}: more take turns, and serve no more", "workers", "workers: auto")
    else:
        yield ok(said, "workers")


def _memory(case: Case) -> Findings:
    if case.config is None:
        return
    facts = memory()
    need = (case.config.workers + 2) * PROCESS + case.config.http.body_memory
    limit, where = allowed(max(case.pids, default=os.getpid()) if case.status else os.getpid())
    have = min(facts.get("MemTotal", UNLIMITED), limit)
    said = f"{size(have)} of memory{f' by the cgroup {where}' if limit == have else ''}, {size(facts.get('MemAvailable', 0))} available"
    if need > have:
        remedy = "lower http.body_memory or workers, or raise MemoryMax"
        yield wrong(f"{said}; processes and http.body_memory may take {size(need)}", "memory", remedy)
    elif facts.get("MemAvailable", UNLIMITED) < (0 if case.status else need):
        yield note(f"{said}; processes and http.body_memory may take {size(need)}", "memory", "free -h")
    else:
        yield ok(f"{said}; at most {size(need)} are needed", "memory")


def allowed(pid: int) -> tuple[int, str]:
    """The lowest memory limit of a process's cgroup and those above it, in bytes, and whose it is."""
    best, whose = UNLIMITED, ""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return best, whose
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root, file = (Path("/sys/fs/cgroup"), "memory.max") if not controllers else (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")
        if controllers and "memory" not in controllers.split(","):
            continue
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            try:
                text = (place / file).read_text().strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < best:
                best, whose = int(text), str(place)
    return best, whose
