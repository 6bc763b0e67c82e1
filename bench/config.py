"""How long a large configuration takes to load: 2,000 channels, as many models, 10,000 keys. `python bench/config.py`."""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config import edit
from gateway.config.compose import no_collecting
from gateway.config.diff import diff
from gateway.config.keys import new_secret
from gateway.config.load import load
from gateway.config.read import Reading
from gateway.config.resolve import resolve
from gateway.config.revisions import Revisions


def write(folder: Path, channels: int, keys: int) -> Path:
    """A configuration of that size; its main file."""
    lines = ["version: 1", "include: [keys.yaml]", "channels:"]
    for n in range(channels):
        lines += [
            f"  channel-{n}:",
            "    engine: vllm",
            f'    endpoints: ["http://10.{n // 250}.{n % 250}.5:8000", "http://10.{n // 250}.{n % 250}.6:8000"]',
            f'    credential: "sk-{n:032x}"',
            "    timeouts: {connect: 2s, first_event: 90s}",
        ]
    lines.append("models:")
    lines += [f"  model-{n}: {{aliases: [m{n}], targets: [{{channel: channel-{n}, weight: 3}}]}}" for n in range(channels)]
    lines.append("tenants:")
    lines += [f"  tenant-{n}: {{projects: {{chat: {{}}, search: {{}}}}}}" for n in range(100)]
    main = folder / "gateway.yaml"
    main.write_text("\n".join(lines) + "\n")
    rows = ["keys:"]
    for n in range(keys):
        digest = hashlib.sha256(str(n).encode()).hexdigest()
        models = f'["model-{n % channels}", "model-1*"]'
        rows.append(f'  - {{id: k{n}, hash: "sha256:{digest}", tenant: tenant-{n % 100}, project: chat, models: {models}}}')
    (folder / "keys.yaml").write_text("\n".join(rows) + "\n")
    return main


def timed(name: str, work: Callable[[], Any], rounds: int) -> Any:
    """Runs `work` and prints the best wall and CPU time in milliseconds."""
    best, cpu, made = float("inf"), float("inf"), None
    for _ in range(rounds):
        start, busy = time.perf_counter(), time.process_time()
        made = work()
        best, cpu = min(best, time.perf_counter() - start), min(cpu, time.process_time() - busy)
    print(f"{name:<34} {best * 1000:8.1f} ms  {cpu * 1000:8.1f} ms CPU")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=2_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), said.channels, said.keys)
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        print(f"{said.channels} channels, {said.channels} models, {said.keys} keys: {size / 1024:.0f} KiB of YAML; best of {said.rounds}")
        with no_collecting():
            timed("read (YAML to data and marks)", lambda: Reading(path, os.environ).run(), said.rounds)
        loaded = timed("load (read, validate, check)", lambda: load(path), said.rounds)
        old = timed("resolve", lambda: resolve(loaded), said.rounds)
        timed("diff of equal revisions", lambda: diff(old, resolve(loaded)), said.rounds)
        revisions = Revisions(path.parent / "data")
        timed(
            "save a revision (fsync)",
            lambda: revisions.save(digest=loaded.digest, files=loaded.files, resolved=old[0], keys=old[1], by="bench", why="bench"),
            said.rounds,
        )
        revisions.commit(1)
        timed("read the current revision", revisions.current, said.rounds)

        def one_more() -> None:
            id, _, hash = new_secret()
            edit.add_keys(path.parent / "keys.yaml", [{"id": id, "hash": hash, "tenant": "tenant-1", "project": "chat", "models": ["*"]}])

        timed("edit: add one key", one_more, said.rounds)


if __name__ == "__main__":
    main()
