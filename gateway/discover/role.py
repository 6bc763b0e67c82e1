"""The role `probe`: `gateway probe --json URL…` asks addresses that no configuration names. Started by gatewayctl."""

import argparse
import asyncio
from collections.abc import Sequence

import msgspec

from gateway.discover.finding import Probe
from gateway.discover.probe import probe_url


def main(argv: Sequence[str]) -> int:
    """One line per URL, in their order. Returns 0 when every one of them answered as an engine, else 1."""
    parser = argparse.ArgumentParser(prog="gateway probe", description="Which engine answers at an address?")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("urls", nargs="+", metavar="URL")
    options = parser.parse_args(argv)
    found = asyncio.run(_all(options.urls))
    for one in found:
        print(msgspec.json.encode(one).decode() if options.json else _line(one), flush=True)
    return 0 if all(one.engine and not one.error for one in found) else 1


async def _all(urls: list[str]) -> list[Probe]:
    return await asyncio.gather(*(probe_url(url) for url in urls))


def _line(one: Probe) -> str:
    if one.error or not one.engine:
        return f"{one.url}: {one.error}"
    models = ", ".join(model.id for model in one.models) or "no models"
    return f"{one.url}: {one.engine}{' ' + one.version if one.version else ''} ({models})"
