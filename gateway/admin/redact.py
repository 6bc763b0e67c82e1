"""The running configuration without its secrets: what may leave the process."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.config.resolved import Key, Resolved

HIDDEN: Final = "(hidden)"
DIGEST_SHOWN: Final = 8
"""Hex characters of a key's digest that are shown: enough to tell two apart, of no use to anybody else."""
_userinfo = re.compile(r"(?<=//)[^/@\s]*@")


def running(resolved: Resolved, keys: Iterable[Key]) -> dict[str, Any]:
    """{"config": {...}, "keys": [...]}: credentials and header values hidden, of key digests only the beginning."""
    config = msgspec.to_builtins(resolved)
    for channel in config["channels"].values():
        if channel["credential"]:
            channel["credential"] = HIDDEN
        channel["headers"] = dict.fromkeys(channel["headers"], HIDDEN)
        channel["planes"] = {plane: _without_userinfo(url) for plane, url in channel["planes"].items()}
        for endpoint in channel["endpoints"]:
            endpoint["url"] = _without_userinfo(endpoint["url"])
    for sink in config["alerts"]["sinks"].values():
        sink.update({word: HIDDEN for word in ("url", "alertmanager", "credential") if sink[word]})
    return {"config": config, "keys": [_key(key) for key in keys]}


def _key(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "digest": key.digest.hex()[:DIGEST_SHOWN],
        "tenant": key.tenant,
        "project": key.project,
        "models": list(key.access.models.allow),
    }


def _without_userinfo(url: str) -> str:
    return _userinfo.sub("", url)
