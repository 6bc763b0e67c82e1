"""What would a reload change? The files on disk, read with control's own environment, against what is live. Nothing is swapped."""

import msgspec

from gateway.config.diff import diff
from gateway.config.load import load
from gateway.config.resolve import resolve
from gateway.config.resolved import Key, Resolved


def pending(path: str, running: tuple[Resolved, list[Key]]) -> list[str]:
    """One sentence for each change. Blocks while it reads; raises ConfigError when the files have mistakes."""
    config, keys = resolve(load(path))
    return [str(change) for change in diff(running, (_with_engines_of(running[0], config), keys))]


def _with_engines_of(live: Resolved, config: Resolved) -> Resolved:
    """`engine: auto` is what a probe found: that it has been found is no change of the files."""
    channels = {
        name: msgspec.structs.replace(channel, engine=before.engine)
        if channel.auto and (before := live.channels.get(name)) is not None and before.auto
        else channel
        for name, channel in config.channels.items()
    }
    return msgspec.structs.replace(config, channels=channels)
