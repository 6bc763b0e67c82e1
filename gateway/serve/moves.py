"""Where conversations went that hashing alone would have sent elsewhere: workers tell each other, through control."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.serve.snapshot import Snapshot


def tell(snapshot: Snapshot | None, say: Callable[[dict[str, Any]], bool]) -> None:
    """What happened here since it was last told."""
    if snapshot is not None and (moves := {place: found for place, policy in snapshot.affinities.items() if (found := policy.moves())}):
        say({"moves": moves})


def learn(snapshot: Snapshot | None, moves: Mapping[str, Any]) -> None:
    """What happened at another worker."""
    if snapshot is not None:
        for place, found in moves.items():
            policy = snapshot.affinities.get(place)
            if policy is not None:
                policy.learn(found)
