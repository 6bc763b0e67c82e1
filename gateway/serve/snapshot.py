"""One revision of the configuration, built whole (`builder`): what a request needs to be decided and sent.

The snapshot a request was accepted under serves it to its very end. Only what is found out at run time changes in it:
the endpoints of a registry's channel, and context lengths.
"""

import ssl
from collections.abc import Sequence
from typing import Any

from gateway.auth.addresses import Gate
from gateway.auth.keyring import Keyring, Visitor, standing
from gateway.auth.permit import Names, Permit, wrong_address
from gateway.auth.proxies import Proxies
from gateway.auth.systems import told_system
from gateway.config.resolved import Endpoint, Http, Journal, Resolved
from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.referee.terms import Table
from gateway.route.prefix_affinity import PrefixAffinity
from gateway.route.primary_backup import PrimaryBackup
from gateway.serve.live import ChannelLive, ModelLive, told


class Snapshot:
    """Everything a worker decides by. `rev` is the revision's number."""

    __slots__ = (
        "_named",
        "_prefixes",
        "affinities",
        "body_share",
        "channels",
        "cors",
        "data_dir",
        "gate",
        "http",
        "journal",
        "keyring",
        "limits",
        "listeners",
        "models",
        "names",
        "node",
        "proxies",
        "rev",
        "tiers",
        "tls",
    )

    def __init__(self, rev: int, config: Resolved) -> None:
        self.rev = rev
        self.node = config.node
        self.data_dir = config.data_dir
        self.http: Http = config.http
        self.body_share = max(config.http.body, config.http.body_memory // max(1, config.workers))
        self.proxies = Proxies(config.http.trusted_proxies) if config.http.trusted_proxies else None
        self.journal: Journal = config.journal
        self.listeners = config.listeners
        self.keyring = Keyring(config.auth, config.access)
        everybody = config.access.get("")
        self.gate = Gate(everybody.allow, everybody.deny) if everybody else None
        """Whose addresses may call at all; None: everybody's."""
        self.limits: Table | None = None
        """None: nothing is limited."""
        self.channels: dict[str, ChannelLive] = {}
        self.models: dict[str, ModelLive] = {}
        self.names: dict[str, ModelLive] = {}
        self.affinities: dict[str, PrefixAffinity] = {}
        """Policies that remember conversations, by their place: workers tell each other."""
        self.tiers: dict[str, PrimaryBackup] = {}
        """Policies that remember who was away, by their place."""
        self._prefixes: list[tuple[str, ModelLive]] = []
        self._named: list[tuple[str, Names]] = []
        self.cors: dict[str, bytes] = _cors_lines(config.http)
        self.tls: dict[str, ssl.SSLContext] = {}

    def add_model(self, model: ModelLive) -> None:
        self.models[model.name] = self.names[model.name] = model
        for alias in model.config.aliases:
            if alias.endswith("*"):
                self._prefixes.append((alias[:-1], model))
                self._prefixes.sort(key=lambda item: -len(item[0]))
            else:
                self.names[alias] = model
        self._named += [(name, model.names) for name in (model.name, *(alias for alias in model.config.aliases if alias[-1] != "*"))]

    def admit(self, x: Exchange, visitor: Visitor) -> None:
        """Who calls, and may they at all: sets `x.key`, `x.permit` and `x.system`. visitor: of the connection. Refuses with 401 or 403."""
        if self.gate is not None and not self.gate.lets_in(x.ip):
            raise wrong_address(x.ip, "this gateway")
        keyring = self.keyring
        key = x.key = keyring.identify(x.headers.get("Authorization"), visitor)
        if key.expires or not key.enabled:
            standing(key, x.ts)
        permit = x.permit = keyring.permit(key)
        if permit.checked:
            permit.check(x.ip, x.api)
        if key.systems:
            x.system = told_system(key.systems, x.headers.get("x-gateway-system"))

    def model(self, permit: Permit, name: str, now: float) -> ModelLive:
        """The virtual model that `name` means: exact before the longest prefix. now: seconds since 1970. Refuses with 404 or 403."""
        found = self.names.get(name)
        if found is None:
            found = next((model for prefix, model in self._prefixes if name.startswith(prefix)), None)
        if found is None:
            raise Refusal(
                404,
                "model_not_found",
                f"The model `{name[:200]}` does not exist or you do not have access to it.",
                param="model",
                phase="R",
            )
        if not permit.allows(name, found.names, now):
            raise Refusal(403, "model_not_allowed", f"Your API key may not use the model `{name[:200]}`.", param="model", phase="K")
        return found

    def set_endpoints(self, channel: str, endpoints: Sequence[Endpoint]) -> None:
        """A registry knows other endpoints of a channel now."""
        live = self.channels.get(channel)
        if live is not None:
            live.refill(endpoints)
            self.measured()

    def let_go(self) -> None:
        """Another one serves from now on. Unties what refers to itself, so that all of it goes with the last request that uses it: the
        collector that would find it comes after millions of objects, and a large configuration is megabytes."""
        for channel in self.channels.values():
            channel.let_go()

    def told(self, now: float) -> dict[str, Any]:
        """What a worker says in its health of endpoints, and of tiers that are not as at the start. now: monotonic seconds."""
        tiers = {place: news for place, policy in self.tiers.items() if (news := policy.news(now)) is not None}
        return {"endpoints": told(self.channels.values(), now), "tiers": tiers}

    def measured(self) -> None:
        """Some context length became known, or another one."""
        for model in self.models.values():
            model.route.measured()

    def usable(self, x: Exchange) -> frozenset[str]:
        """Model names (aliases too) that this caller may use now."""
        usable: frozenset[str] = x.permit.usable(self._named, x.ts)
        return usable


def _cors_lines(http: Http) -> dict[str, bytes]:
    """Per allowed origin, the header lines that let its pages read our answers. `*` stands under every origin asked for."""
    if http.cors is None:
        return {}
    limits = ", ".join(f"x-ratelimit-{word}-{sort}" for sort in ("requests", "tokens") for word in ("limit", "remaining", "reset"))
    shown = f"x-request-id, x-gateway-channel, x-gateway-attempts, retry-after, retry-after-ms, x-should-retry, {limits}"
    expose = f"Access-Control-Expose-Headers: {shown}\r\n"
    return {o: f"Access-Control-Allow-Origin: {o}\r\nVary: Origin\r\n{expose}".encode() for o in http.cors.origins}
