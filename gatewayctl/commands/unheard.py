"""Names in a question about usage that the configuration does not have: said when nothing was found, since nothing may mean mistyped."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gatewayctl.commands.live import load_for_keys
from gatewayctl.session import Session


def unheard(config: Path, where: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A sentence for each. Patterns are no names; nothing is said when the files are wrong: a name may be of earlier times, too."""
    from gateway.config.wording import nearest

    exact = {word: [one for one in values if "*" not in one] for word, values in where.items()}
    if not any(exact.get(word) for word in ("tenant", "project", "key", "model", "channel")):
        return
    for word, names in _known(config).items():
        for one in exact.get(word, ()):
            if one not in names and not any(name.endswith("*") and one.startswith(name[:-1]) for name in names):
                near = nearest(one, [name for name in names if "*" not in name])
                yield f'the configuration has no {word} "{one}"{f"; {near}" if near else ""}'


def say_unheard(session: Session, where: Mapping[str, Sequence[str]]) -> None:
    for sentence in unheard(session.config, where):
        session.say(sentence)


def _known(path: Path) -> dict[str, set[str]]:
    from gateway.config.report import ConfigError

    try:
        config = load_for_keys(path).config
    except ConfigError:
        return {}
    projects = [(tenant, project) for tenant, one in config.tenants.items() for project in one.projects]
    return {
        "tenant": set(config.tenants),
        "project": {name for tenant, project in projects for name in (project, f"{tenant}/{project}")},
        "key": {key.id for key in config.keys},
        "model": {name for model, one in config.models.items() for name in (model, *one.aliases)},
        "channel": set(config.channels),
    }
