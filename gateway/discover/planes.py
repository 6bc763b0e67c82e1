"""Where an endpoint's planes (business, management, metrics) are, and the connections to them. Asks nothing by itself."""

from typing import Final

from gateway.config.fields import url_of
from gateway.config.resolved import Channel, Endpoint, Tls
from gateway.discover.ask import Asker
from gateway.discover.probe import context_of

BUSINESS: Final = "business"


def address(channel: Channel, endpoint: Endpoint, plane: str) -> tuple[Endpoint, Tls | None] | None:
    """Where a plane of this endpoint answers; None: nobody can tell.

    A plane without an address of its own is looked for at the business one. A channel has one address per plane, and may have
    several endpoints: then it stands for the same port at each of their hosts, as long as no two of them share a host.
    """
    url = channel.planes.get(plane) if plane != BUSINESS else None
    if url is None:
        return endpoint, channel.tls
    scheme, host, port, base = url_of(url)
    if len(channel.endpoints) > 1:
        hosts = [one.host for one in channel.endpoints]
        if host not in hosts or hosts.count(endpoint.host) > 1:
            return None
        host = endpoint.host
    name = f"[{host}]" if ":" in host else host
    return Endpoint(url=f"{scheme}://{name}:{port}{base}", scheme=scheme, host=host, port=port, base=base), channel.plane_tls.get(plane)


class Lines:
    """The connections to one endpoint's planes, made when they are first needed. Must be closed."""

    def __init__(self, total: float) -> None:
        """total: seconds for one question."""
        self._total = total
        self._askers: dict[Endpoint, Asker] = {}

    async def to(self, channel: Channel, endpoint: Endpoint, plane: str) -> Asker | None:
        """None: it has no address. Errors: OSError and ValueError when a file of its TLS cannot be used."""
        found = address(channel, endpoint, plane)
        if found is None:
            return None
        at, tls = found
        asker = self._askers.get(at)
        if asker is None:
            context = await context_of(at, tls)
            name = tls.server_name if tls else None
            headers = _headers(channel) if at is endpoint else {}  # they are for the business plane
            asker = self._askers[at] = Asker(at, context, server_name=name, headers=headers, total=self._total)
        return asker

    async def close(self) -> None:
        askers, self._askers = self._askers, {}
        for asker in askers.values():
            await asker.__aexit__(None, None, None)


def _headers(channel: Channel) -> dict[str, str]:
    return {**channel.headers, **({"Authorization": f"Bearer {channel.credential}"} if channel.credential else {})}
