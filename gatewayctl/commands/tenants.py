"""`gatewayctl tenants`: who uses the gateway. Edits the file that names them, comments kept, and returns when every worker knows."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatewayctl import show
from gatewayctl.command import command, noun
from gatewayctl.commands.done import well_done
from gatewayctl.commands.live import changing, client_of_these_files, load_for_keys
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import UNREACHABLE, USAGE, Trouble
from gatewayctl.words import plural

if TYPE_CHECKING:
    from gateway.config.schema import Config, Tenant

app = noun(
    "tenants",
    "List, create and change tenants and their projects.",
    """
    gatewayctl tenants                                          which there are
    gatewayctl tenants create retail --project chatbot          a new one, or another project of one
    gatewayctl tenants set retail 'models=[qwen*]' ip.allow=[10.0.0.0/8]
    """,
    default="list",
)
_word = re.compile(r"[a-z_]+")
Name = Annotated[str, typer.Argument(metavar="TENANT", help="Its name.")]

COLUMNS = [
    Column("tenant", lambda t: t["name"]),
    Column("projects", lambda t: [one["name"] for one in t["projects"]]),
    Column("keys", lambda t: t["keys"], "right"),
    Column("models", lambda t: _shown(t["settings"].get("models"))),
    Column("ip", lambda t: _shown(t["settings"].get("ip"))),
    Column("limits", lambda t: len(t["settings"].get("limits", [])), "right"),
    Column("frozen", lambda t: t["frozen"], colored=True),
]


def _shown(value: Any) -> str | None:
    from gateway.config.flow import flow

    return None if value is None else flow(value)


@command(
    app,
    "list",
    """
    gatewayctl tenants
    gatewayctl tenants list -o json
    """,
)
def list_tenants(session: Session) -> None:
    """The tenants in the files, with their projects and how many keys they have."""
    config = load_for_keys(session.config).config
    frozen = _frozen(session)
    found = [_told(name, tenant, config, frozen) for name, tenant in config.tenants.items()]
    show.items(session, found, COLUMNS, "no tenants; a new one: gatewayctl tenants create NAME --project …")


@command(app, "show", "gatewayctl tenants show retail\ngatewayctl tenants show retail -o yaml")
def show_tenant(session: Session, name: Name) -> None:
    """One tenant: what it says of models, addresses, limits and hours, its projects, and its keys."""
    config = load_for_keys(session.config).config
    found = _told(name, _tenant(session, config, name), config, _frozen(session))
    keys = [{"id": key.id, "project": key.project, "label": key.label} for key in config.keys if key.tenant == name]
    if session.machine:
        show.data(session, {**found, "keys": keys})
        return
    print(show.text_of(f"tenant {name}{': frozen' if found['frozen'] else ''}"))
    _print_settings(found["settings"], "  ")
    for project in found["projects"]:
        state = ": frozen" if project["frozen"] else ""
        print(show.text_of(f"  project {project['name']} ({plural(project['keys'], 'key')}){state}"))
        _print_settings(project["settings"], "    ")
    named = ", ".join(str(key["id"]) for key in keys[:20]) + (", …" if len(keys) > 20 else "")
    print(show.text_of(f"  {plural(len(keys), 'key')}{': ' if keys else ''}{named}"))


def _print_settings(settings: dict[str, Any], indent: str) -> None:
    from gateway.config.flow import flow

    for word, value in settings.items():
        print(show.text_of(f"{indent}{word}: {flow(value)}"))


def _told(name: str, tenant: "Tenant", config: "Config", frozen: set[str] | None) -> dict[str, Any]:
    keys = [key for key in config.keys if key.tenant == name]
    projects = [
        {
            "name": project,
            "keys": sum(key.project == project for key in keys),
            "settings": one.model_dump(mode="json", exclude_unset=True),
            "frozen": None if frozen is None else f"project {name}/{project}" in frozen,
        }
        for project, one in tenant.projects.items()
    ]
    return {
        "name": name,
        "keys": len(keys),
        "settings": tenant.model_dump(mode="json", exclude_unset=True, exclude={"projects"}),
        "frozen": None if frozen is None else f"tenant {name}" in frozen,
        "projects": projects,
    }


def _frozen(session: Session) -> set[str] | None:
    """What is frozen, `tenant retail`; None when no gateway can be asked."""
    try:
        return {f"{one['kind']} {one['name']}" for one in session.client().get("/v1/freezes")["freezes"]}
    except Trouble as trouble:
        if trouble.code != UNREACHABLE:
            session.say(f"gatewayctl: {trouble.message}, so it is not known what is frozen")
        return None


def _tenant(session: Session, config: "Config", name: str) -> "Tenant":
    from gateway.config.wording import nearest

    if name not in config.tenants:
        hint = nearest(name, config.tenants) or "Which there are: gatewayctl tenants"
        raise Trouble(f"there is no tenant {name!r} in {session.config} and its includes", hint)
    return config.tenants[name]


@command(
    app,
    "create",
    """
    gatewayctl tenants create retail --project chatbot --project search
    gatewayctl tenants create retail --project night-batch        another project of a tenant that is there
    """,
)
def create(
    session: Session,
    name: Name,
    projects: Annotated[list[str] | None, typer.Option("--project", metavar="NAME", help="A project of it. Repeat it.")] = None,
) -> None:
    """Add a tenant, or projects to one that is there. Returns when every worker knows."""
    from gateway.config import edit

    wanted = projects or []
    client = client_of_these_files(session)
    act = " ".join(["tenants create", name, *(f"--project {one}" for one in wanted)])
    with _told_as_it_would_be(session), changing(session.config, client, act) as change:
        known = load_for_keys(session.config).config.tenants.get(name)
        twice = [project for project in wanted if known and project in known.projects]
        if twice or (known and not wanted):
            with_it = f" with a project {twice[0]!r}" if twice else ""
            raise Trouble(f"there is a tenant {name!r} already{with_it}", f"gatewayctl tenants show {name}")
        words: dict[tuple[str, str], Any] = {(f"tenants.{name}.projects", project): {} for project in wanted}
        file = edit.file_of(session.config, "tenants", name if known else None) or session.config
        made = words if known else {("tenants", name): {"projects": {project: {} for project in wanted}}}
        change.undo.callback(edit.set_words(file, made).undo)
    if session.machine:
        show.data(session, {"name": name, "projects": wanted, "file": str(file), "live": client is not None})
    what = f"{plural(len(wanted), 'project')} of tenant {name}" if known else f"tenant {name}"
    session.say(f"{what} written to {file}" + (", live in every worker" if client else "; the gateway is not running"))
    well_done(change.answer)


@command(
    app,
    "set",
    """
    gatewayctl tenants set retail 'models={deny: [qwen-large]}' priority=7
    gatewayctl tenants set retail ip.allow=[10.0.0.0/8]
    gatewayctl tenants set retail projects.chatbot.apis=[chat]
    gatewayctl tenants set retail 'limits=[{count: requests, max: 600, per: minute}]'
    gatewayctl tenants set retail priority=                       back to what it is when nothing is written
    """,
)
def set_words(
    session: Session,
    name: Name,
    settings: Annotated[list[str], typer.Argument(metavar="WORD=VALUE...", help="A word of the tenant, its value as in the file.")],
) -> None:
    """Let a tenant's words say something else: models, apis, ip, priority, hours, limits, also those of a project.

    Returns when every worker knows. What does not fit changes nothing.
    """
    from gateway.config import edit

    tenant = _tenant(session, load_for_keys(session.config).config, name)
    said = [_setting(setting) for setting in settings]
    _known_projects(name, tenant, [word for word, value in said if value is not None])
    words = {_place(name, word): value for word, value in said}
    if len(words) < len(settings):
        raise Trouble("one word is set twice", "Say it once.", USAGE)
    client = client_of_these_files(session)
    with _told_as_it_would_be(session), changing(session.config, client, f"tenants set {name} {' '.join(settings)}") as change:
        file = edit.file_of(session.config, "tenants", name) or session.config
        edited = edit.set_words(file, words, fleeting=_fleeting(name, tenant, words))
        change.undo.callback(edited.undo)
    if session.machine:
        show.data(session, {"name": name, "set": settings, "file": str(file), "live": client is not None})
    done = "is as it was" if edited.before == edited.after else "is changed"
    session.say(f"tenant {name} {done} in {file}" + (", live in every worker" if client else "; the gateway is not running"))
    well_done(change.answer)


@contextlib.contextmanager
def _told_as_it_would_be(session: Session) -> Iterator[None]:
    """Mistakes are told with lines of a file that has been put back."""
    try:
        yield
    except Exception as error:
        if getattr(error, "mistakes", ()):
            session.warn("gatewayctl: nothing was changed; lines are those that the file would have had:")
        raise


def _known_projects(name: str, tenant: "Tenant", words: list[str]) -> None:
    """Raises Trouble when one of the words is of a project that is not there: a mistyped name would make one, for nobody."""
    from gateway.config.wording import nearest

    for word in words:
        head, _, rest = word.partition(".")
        if head == "projects" and rest and not any(f"{rest}.".startswith(f"{project}.") for project in tenant.projects):
            project = rest.partition(".")[0]
            hint = nearest(project, tenant.projects) or f"Add it first: gatewayctl tenants create {name} --project {project}"
            raise Trouble(f"tenant {name!r} has no project {project!r}", hint)


def _fleeting(name: str, tenant: "Tenant", words: Mapping[tuple[str, str], Any]) -> list[str]:
    """The groups that say nothing without what is taken out of them: `ip`. Of a tenant, its projects and each of them their being there
    is said."""
    there = f"tenants.{name}"
    lasting = {there, f"{there}.projects", *(f"{there}.projects.{project}" for project in tenant.projects)}
    return [*dict.fromkeys(group for (group, _), value in words.items() if value is None and group not in lasting)]


def _place(tenant: str, dotted: str) -> tuple[str, str]:
    """The group and the word of it that `projects.chatbot.ip.allow` is."""
    group, _, word = f"tenants.{tenant}.{dotted}".rpartition(".")
    return group, word


def _setting(text: str) -> tuple[str, Any]:
    """`ip.allow=[10.0.0.0/8]` → its word and its value, None for none. Raises Trouble."""
    from pathlib import Path

    from gateway.config.compose import BadFile, compose, data_of

    word, equals, value = text.partition("=")
    if not equals or not _word.match(word):
        raise Trouble(f"{text!r} is not WORD=VALUE", "gatewayctl config explain tenants says which words there are", USAGE)
    if not value.strip():
        return word, None
    try:
        return word, data_of(compose(Path(word), value))
    except BadFile as bad:
        raise Trouble(f"the value of {word} is no YAML: {bad.message}", bad.hint or "", USAGE) from None
