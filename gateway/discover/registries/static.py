"""A registry of type `static`: the URLs that the configuration lists. Looks once."""

from gateway.discover.registries.known import Known, endpoint_at


async def watch(known: Known) -> None:
    """Errors: none; its URLs were checked with the configuration."""
    known.found([endpoint_at(url) for url in known.config.urls])
