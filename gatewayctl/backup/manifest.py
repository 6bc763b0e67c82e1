"""The list that ends a backup: each file with size and SHA-256, and the sum of the list itself. A backup without it is a torn one."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from gatewayctl.trouble import Trouble

NAME: Final = "manifest.json"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the backup."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """created: Unix seconds. config: the main file. left_out: {"path", "why"} of what is not in it. version: of the gateway."""

    node: str
    version: str
    created: float
    config: str
    data_dir: str
    with_secrets: bool
    files: list[Entry]
    left_out: list[dict[str, str]]
    format: int = FORMAT

    def encoded(self) -> bytes:
        body = asdict(self)
        return json.dumps({"sha256": _sum(body), "backup": body}, indent=1, ensure_ascii=False).encode() + b"\n"


def decoded(data: bytes) -> Manifest:
    """Raises Trouble when it is damaged, or of a newer gateway."""
    try:
        found = json.loads(data)
        body = found["backup"]
        if found["sha256"] != _sum(body):
            raise ValueError("its sum is another one")
        if body["format"] != FORMAT:
            raise Trouble(f"this backup has format {body['format']}, and this gatewayctl reads {FORMAT}", "Use a newer one.")
        return Manifest(**{**body, "files": [Entry(**one) for one in body["files"]]})
    except (ValueError, KeyError, TypeError) as error:
        raise Trouble(f"the backup is damaged: its manifest cannot be read ({error})") from error


def _sum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
