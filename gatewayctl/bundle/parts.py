"""The parts of a bundle. A new one is a function and a line in PARTS. Each may raise Missing or OSError: then it is said to be missing."""

import http.client
import json
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from gateway.config.load import load
from gateway.config.report import ConfigError, render
from gateway.config.show import effective
from gatewayctl import show
from gatewayctl.bundle.cover import COVERED
from gatewayctl.bundle.gather import Gather, Missing
from gatewayctl.bundle.log import cleaned
from gatewayctl.doctor.host import UNIT
from gatewayctl.doctor.rounds import findings

LINES: Final = 5000
"""Of the log."""
ACTS: Final = 200
FILES: Final = 20_000
SYSCTLS: Final = (
    "net.core.somaxconn net.ipv4.tcp_max_syn_backlog net.ipv4.ip_local_port_range net.ipv4.tcp_migrate_req fs.file-max "
    "fs.nr_open fs.inotify.max_user_watches vm.overcommit_memory kernel.pid_max"
).split()
FACTS: Final = "/etc/os-release /proc/meminfo /proc/loadavg /proc/pressure/memory /proc/self/mountinfo /proc/net/sockstat".split()
WORDS: Final = ("comment", "reason")
_KEY: Final = ("id", "tenant", "project", "enabled", "expires", "models")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _admin(path: str) -> Callable[[Gather], str]:
    return lambda gather: _json(gather.cover.tree(_wordless(gather.admin(path))))


def _wordless(value: Any) -> Any:
    """JSON without what people wrote about a freeze or a silence."""
    if isinstance(value, list):
        return [_wordless(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {name: COVERED if name in WORDS and part else _wordless(part) for name, part in value.items()}


def configuration(gather: Gather) -> str:
    """With every default filled in, secrets and notes about people left out."""
    try:
        shown = effective(load(gather.session.config, gather.case.environ))
    except ConfigError as error:
        raise Missing("the configuration has mistakes: config/mistakes.txt and config/files.yaml have it") from error
    shown["keys"] = [{word: key[word] for word in _KEY if word in key} for key in shown.get("keys", [])]
    return show.as_yaml(gather.cover.tree(shown))


def mistakes(gather: Gather) -> str:
    if not gather.case.mistakes:
        raise Missing("the configuration has no mistakes")
    return render(gather.case.mistakes)


def files(gather: Gather) -> str:
    """The files as they are written, but for comments; only when they cannot be shown as configuration."""
    if not gather.case.mistakes:
        raise Missing("config/effective.yaml has it")
    return "\n".join(f"# {file}\n{gather.cover.yaml(text)}\n" for file, text in gather.named.texts.items())


def records(gather: Gather) -> str:
    if gather.case.status is not None:
        found = gather.admin(f"/v1/requests?limit={gather.records}")["requests"]
    else:
        lines = gather.program("records", str(gather.case.data_dir / "journal"), str(gather.records)).splitlines()
        found = [json.loads(line) for line in lines]
    return "".join(json.dumps(gather.clean.record(one), ensure_ascii=False) + "\n" for one in found)


def audit(gather: Gather) -> str:
    from gateway.config import audit_file

    found = audit_file.read(gather.case.data_dir / audit_file.NAME, last=ACTS)
    return "".join(json.dumps(gather.cover.tree(_wordless(one)), ensure_ascii=False) + "\n" for one in found)


def metrics(gather: Gather) -> str:
    """Asked as Prometheus would, on the first listener that serves them."""
    listener = next((one for one in gather.case.config.listeners if one.serves == "metrics"), None) if gather.case.config else None
    if gather.case.status is None or listener is None:
        raise Missing("no gateway runs, or no listener serves metrics")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    unchecked = ssl._create_unverified_context()  # our own address, and nothing is sent
    connection = (
        http.client.HTTPSConnection(host, listener.port, timeout=5, context=unchecked)
        if listener.tls
        else http.client.HTTPConnection(host, listener.port, timeout=5)
    )
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise Missing(f"{type(error).__name__} from the metrics listener") from error
    finally:
        connection.close()


def doctor(gather: Gather) -> str:
    return _json([gather.cover.tree(one.told()) for one in findings(gather.case)])


def versions(gather: Gather) -> str:
    libraries = sorted({f"{one.metadata['Name']} {one.version}" for one in distributions()}, key=str.lower)
    running = (gather.case.status or {}).get("version")
    return _json({"running": running, "libraries": libraries, "systemd": _first(gather, "systemctl", "--version")})


def _first(gather: Gather, *argv: str) -> str | None:
    try:
        return gather.said_by(*argv).splitlines()[0]
    except (Missing, IndexError):
        return None


def unit(gather: Gather) -> str:
    return gather.said_by("systemctl", "cat", "--no-pager", UNIT) + _json(gather.case.unit)


def log(gather: Gather) -> str:
    if gather.log is not None:
        with gather.log.open("rb") as file:
            file.seek(max(0, gather.log.stat().st_size - 200 * LINES))
            return cleaned(file.read().decode("utf-8", "replace"))
    found = gather.said_by("journalctl", "--unit", UNIT, "--no-pager", "--output", "short-iso", "--lines", str(LINES))
    if not found.strip() or "No entries" in found:
        raise Missing("journald shows nothing of our unit; sudo may see more, and --log FILE takes a file")
    return cleaned(found)


def listing(gather: Gather) -> str:
    """Names, modes, owners, sizes and times in data_dir; no contents."""
    lines = list(_listed(gather.case.data_dir))
    return "\n".join(lines[:FILES] + ([f"… and {len(lines) - FILES} more"] if len(lines) > FILES else [])) + "\n"


def _listed(folder: Path) -> Iterator[str]:
    paths = [folder, *(Path(above) / name for above, folders, names in os.walk(folder) for name in sorted((*folders, *names)))]
    for path in paths:
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(facts.st_mtime))
        yield f"{stat.filemode(facts.st_mode)} {facts.st_uid}:{facts.st_gid} {facts.st_size:>12} {when} {path}"


def kernel(gather: Gather) -> str:
    parts = [" ".join(os.uname())]
    for file in (
        "/etc/os-release",
        "/proc/meminfo",
        "/proc/loadavg",
        "/proc/pressure/memory",
        "/proc/self/mountinfo",
        "/proc/net/sockstat",
    ):
        parts.append(f"# {file}\n{_read(file)}")
    parts += [f"{name} = {_read('/proc/sys/' + name.replace('.', '/')).strip()}" for name in SYSCTLS]
    parts += [f"# limits of {pid}\n{_read(f'/proc/{pid}/limits')}" for pid in sorted(gather.case.pids)]
    return "\n".join(parts) + "\n"


def _read(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError as error:
        return f"({error.strerror})"


PARTS: Final[Mapping[str, Callable[[Gather], str]]] = {
    "config/effective.yaml": configuration,
    "config/mistakes.txt": mistakes,
    "config/files.yaml": files,
    "config/history.json": _admin("/v1/config/history"),
    "status.json": _admin("/v1/status"),
    "health.json": _admin("/v1/health"),
    "channels.json": _admin("/v1/channels"),
    "limits.json": _admin("/v1/limits"),
    "counters.json": _admin("/v1/limits/counters"),
    "freezes.json": _admin("/v1/freezes"),
    "ledger.json": _admin("/v1/ledger"),
    "alerts.json": _admin("/v1/alerts"),
    "records.ndjson": records,
    "audit.ndjson": audit,
    "metrics.txt": metrics,
    "doctor.json": doctor,
    "versions.json": versions,
    "unit.txt": unit,
    "log.txt": log,
    "data_dir.txt": listing,
    "kernel.txt": kernel,
}
"""Name in the bundle → what writes it."""
