"""What would a reload change? The files on disk, read with control's own environment, against what is live. Nothing is swapped."""

import msgspec

from gateway.config.diff import diff
from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Channel, Key, Resolved


def pending(path: str, running: tuple[Resolved, list[Key]]) -> list[str]:
    """One sentence for each change. Blocks while it reads; raises ConfigError when the files have mistakes."""
    config, keys = resolve(load(path))
    return [str(change) for change in diff(running, (_as_found(running[0], config), keys))]


def _as_found(live: Resolved, config: Resolved) -> Resolved:
    """`engine: auto` and the endpoints of registries are what was found: that it has been found is no change of the files."""
    channels = {name: _channel(channel, live.channels.get(name)) for name, channel in config.channels.items()}
    return msgspec.structs.replace(config, channels=channels)


def _channel(channel: Channel, live: Channel | None) -> Channel:
    if live is not None and channel.auto and live.auto:
        channel = msgspec.structs.replace(channel, engine=live.engine)
    if live is not None and channel.registry and channel.registry == live.registry:
        channel = msgspec.structs.replace(channel, endpoints=live.endpoints)
    return channel
