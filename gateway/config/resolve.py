"""A checked configuration in the compact form that workers take: defaults filled in, references followed. Decides nothing."""

import hashlib
import os
import re
from pathlib import Path

from gateway.config import resolved as form
from gateway.config.access import instant
from gateway.config.channel import Channel, EngineTls, Plane
from gateway.config.fields import address_of, url_of
from gateway.config.limits import Limit, millionths
from gateway.config.load import Loaded
from gateway.config.model import FAIL_BACK, Model, Rule, Target
from gateway.config.registries import registry_of, written
from gateway.config.registries import resolved as registry_form
from gateway.config.resolve_access import resolve_access, resolve_places
from gateway.config.resolve_alerts import resolve_alerts
from gateway.config.resolve_prices import resolve_budget, resolve_costs, resolve_currencies, resolve_discounts, resolve_prices
from gateway.config.resolve_when import resolve_schedules, resolve_when
from gateway.config.resolved_limits import Limit as LimitForm
from gateway.config.scalars import Duration
from gateway.config.schema import Config, Cors, Http, Key, ListenerTls, Project, Tenant
from gateway.config.tokenizers import BUNDLED, ENGINE, locate

USAGE = {"vllm": "continuous", "sglang": "continuous", "auto": "continuous", "openai": "final", "mindie": "final"}
"""Where token counts come from, by engine, when nothing is written."""


def resolve(loaded: Loaded) -> tuple[form.Resolved, list[form.Key]]:
    """The resolved form and the keys, which travel apart from it."""
    config, certificates = loaded.config, loaded.certificates
    listeners = []
    for name, listener in config.listeners.items():
        at = address_of(listener.bind)
        tls, proxied = _tls(listener.tls, certificates), listener.proxy_protocol
        listeners.append(form.Listener(name=name, host=at.host, port=at.port, serves=listener.serves, tls=tls, proxy_protocol=proxied))
    journal = config.journal
    found = form.Resolved(
        node=config.node or host_name(),
        workers=config.workers if isinstance(config.workers, int) else cpus(),
        auth=config.auth,
        data_dir=config.data_dir,
        http=_http(config.http),
        journal=form.Journal(
            segment=int(journal.segment),
            every=float(journal.every),
            sync=journal.sync,
            reserve=int(journal.reserve),
            on_failure=journal.on_failure,
        ),
        listeners=tuple(listeners),
        channels={name: _channel(name, channel, certificates) for name, channel in config.channels.items()},
        models={name: _model(name, model, config.channels, loaded.path.parent) for name, model in config.models.items()},
        tenants={name: tuple(tenant.projects) for name, tenant in config.tenants.items()},
        schedules=resolve_schedules(config.schedules),
        limits=_places(config),
        access=resolve_places(config),
        ledger=form.Ledger(
            url=config.ledger.url,
            memory=int(config.ledger.memory),
            keep=float(config.ledger.keep),
            size=int(config.ledger.size or 0),
        ),
        referee=form.Referee(url=config.referee.url, on_loss=config.referee.on_loss),
        prices=resolve_prices(config),
        currencies=resolve_currencies(config),
        discounts=resolve_discounts(config),
        costs=resolve_costs(config),
        alerts=resolve_alerts(config),
        registries={name: registry_form(name, registry, loaded.path.parent) for name, registry in config.registries.items()},
    )
    return found, [_key(key, config) for key in config.keys]


def _key(key: Key, config: Config) -> form.Key:
    previous = key.previous
    return form.Key(
        key.id,
        bytes.fromhex(key.hash[7:]),
        key.tenant,
        key.project,
        access=resolve_access(key),
        limits=_limits(key, config),
        enabled=key.enabled,
        expires=instant(key.expires) if key.expires else 0.0,
        previous=bytes.fromhex(previous.hash[7:]) if previous else b"",
        until=instant(previous.until) if previous else 0.0,
        systems=tuple(key.systems),
    )


def _places(config: Config) -> dict[str, tuple[LimitForm, ...]]:
    """The limits of each place that has some, but keys."""
    found = {"": _limits(config, config)}
    for name, tenant in config.tenants.items():
        found[f"tenants/{name}"] = _limits(tenant, config)
        found |= {f"tenants/{name}/projects/{project}": _limits(one, config) for project, one in tenant.projects.items()}
    found |= {f"models/{name}": _limits(model, config) for name, model in config.models.items()}
    return {place: limits for place, limits in found.items() if limits}


def _limits(part: Config | Tenant | Project | Key | Model, config: Config) -> tuple[LimitForm, ...]:
    """A budget is one of them."""
    budget = None if isinstance(part, Config) else part.budget
    if not part.limits and budget is None:
        return ()
    base = config.currencies.base if config.currencies else ""
    return (*(_limit(limit, base) for limit in part.limits), *resolve_budget(budget, base))


def _limit(limit: Limit, base: str) -> LimitForm:
    return LimitForm(
        count=limit.count,
        max=millionths(limit.max) if limit.count == "money" else int(limit.max),
        per=limit.per or "",
        name=limit.name or "",
        zone=limit.zone or "UTC",
        during=limit.during or "",
        outside=limit.outside or "",
        each=limit.each or "",
        models=tuple(limit.models),
        shadow=limit.shadow,
        currency=limit.currency or (base if limit.count == "money" else ""),
    )


def host_name() -> str:
    """The host's name, as far as it can be a node's."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename).lstrip("._-")[:64] or "gateway"


def cpus() -> int:
    """CPUs that this process may use, at most 64: what `workers: auto` means."""
    return max(1, min(64, len(os.sched_getaffinity(0))))


def _http(http: Http) -> form.Http:
    return form.Http(
        body=int(http.body),
        body_memory=int(http.body_memory),
        header=int(http.header),
        body_timeout=float(http.body_timeout),
        write_idle=float(http.write_idle),
        sse_keepalive=float(http.sse_keepalive),
        keepalive=float(http.keepalive),
        drain_timeout=float(http.drain_timeout),
        trusted_proxies=tuple(http.trusted_proxies),
        cors=_cors(http.cors),
    )


def _cors(cors: Cors | None) -> form.Cors | None:
    return None if cors is None else form.Cors(origins=tuple(cors.origins), max_age=int(cors.max_age))


def _tls(tls: ListenerTls | EngineTls | None, certificates: dict[str, str]) -> form.Tls | None:
    if tls is None:
        return None
    files = [file for file in (getattr(tls, "ca", None), tls.cert, tls.key) if file]
    digest = hashlib.sha256("".join(certificates.get(file, "") for file in files).encode()).hexdigest()[:16] if files else ""
    if isinstance(tls, ListenerTls):
        return form.Tls(cert=tls.cert, key=tls.key, min_version=tls.min_version, digest=digest)
    return form.Tls(
        cert=tls.cert,
        key=tls.key or (tls.cert if tls.cert else None),
        ca=tls.ca,
        verify=tls.verify,
        server_name=tls.server_name,
        min_version=tls.min_version,
        digest=digest,
    )


def _endpoint(url: str) -> form.Endpoint:
    scheme, host, port, base = url_of(url)
    return form.Endpoint(url=url, scheme=scheme, host=host, port=port, base=base)


def _channel(name: str, channel: Channel, certificates: dict[str, str]) -> form.Channel:
    planes: dict[str, Plane] = {
        plane: at for plane, at in (("management", channel.planes.management), ("metrics", channel.planes.metrics)) if at
    }
    plane_tls = {plane: _tls(at.tls or channel.tls, certificates) for plane, at in planes.items() if at.url.startswith("https")}
    times, breaker = channel.timeouts, channel.breaker
    return form.Channel(
        name=name,
        engine="openai" if channel.engine == "auto" else channel.engine,
        auto=channel.engine == "auto",
        model=channel.model,
        endpoints=tuple(_endpoint(url) for url in written(channel.endpoints)),
        registry=registry_of(channel.endpoints),
        credential=channel.credential and str(channel.credential),
        headers={name: str(value) for name, value in channel.headers.items()},
        tls=_tls(channel.tls, certificates),
        usage=channel.usage or USAGE[channel.engine],
        reasoning=channel.reasoning,
        timeouts=form.Timeouts(
            connect=float(times.connect), first_event=float(times.first_event), idle=float(times.idle), total=float(times.total)
        ),
        keepalive=float(channel.keepalive),
        planes={plane: at.url for plane, at in planes.items()},
        plane_tls={plane: tls for plane, tls in plane_tls.items() if tls},
        context_length=channel.context_length or 0,
        max_in_flight=(channel.max_in_flight and channel.max_in_flight.channel) or 0,
        endpoint_in_flight=(channel.max_in_flight and channel.max_in_flight.endpoint) or 0,
        queue_length=channel.queue.length,
        queue_wait=float(channel.queue.wait),
        breaker=form.Breaker(
            failures=breaker.failures,
            share=breaker.share / 100,
            cooldown=float(breaker.cooldown),
            slow_start=float(breaker.slow_start),
        ),
        wedged_after=float(channel.health.wedged_after),
    )


def _tokenizer(written: str | None, folder: Path) -> str:
    """A bundled vocabulary's name, `engine`, or a file's absolute path."""
    if not written or written == ENGINE or written in BUNDLED:
        return written or ""
    return str(locate(written, folder).resolve())


def _model(name: str, model: Model, channels: dict[str, Channel], folder: Path) -> form.Model:
    retry = form.Retry(on=tuple(model.retry.on), attempts=model.retry.attempts, within=float(model.retry.within))
    return form.Model(
        name=name,
        aliases=tuple(model.aliases),
        policy=model.policy,
        targets=tuple(_target(target, name, channels) for target in model.targets),
        retry=retry,
        sticky=model.sticky or "",
        fail_back=_fail_back(model.fail_back),
        rules=tuple(_rule(rule, name, channels) for rule in model.rules),
        fallback=tuple(model.fallback),
        defaults=dict(model.defaults),
        caps={word: int(most) if most.is_integer() else most for word, most in model.caps.items()},
        tokenizer=_tokenizer(model.tokenizer, folder),
        continuation=model.continuation,
    )


def _target(target: Target, model: str, channels: dict[str, Channel]) -> form.Target:
    """model: the virtual model's name, which an engine is asked for when nothing else is written."""
    if target.targets is not None:
        return form.Target(
            weight=_weight(target),
            policy=target.policy or "proportional",
            targets=tuple(_target(below, model, channels) for below in target.targets),
            sticky=target.sticky or "",
            fail_back=_fail_back(target.fail_back),
        )
    assert target.channel is not None
    return form.Target(channel=target.channel, model=target.model or channels[target.channel].model or model, weight=_weight(target))


def _weight(target: Target) -> int:
    return 1 if target.weight is None else target.weight


def _fail_back(written: Duration | None) -> float:
    return float(FAIL_BACK if written is None else written)


def _rule(rule: Rule, model: str, channels: dict[str, Channel]) -> form.Rule:
    when = resolve_when(rule.when)
    to = rule.to
    if to.channel is None and to.targets is None:
        return form.Rule(name=rule.name, when=when, model=to.model or "")
    return form.Rule(name=rule.name, when=when, target=_target(to, model, channels))
