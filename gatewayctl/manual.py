"""`python -m gatewayctl.manual [DIR]`: man pages and completion scripts, made from the commands and the schema themselves.

Writes DIR/man (gatewayctl.1, a page for each noun, gateway.yaml.5) and DIR/completions (bash, zsh, fish). DIR: build.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from gatewayctl import app, roff
from gatewayctl.command import SHARED
from gatewayctl.commands.version import PROGRAM, version_of

EXIT: Final = {
    "0": "Done, all is well.",
    "1": "Failed. `config diff`: there are differences.",
    "2": "Wrong usage.",
    "3": "`config diff` failed.",
    "4": "You may not: the socket or a file is not for you.",
    "5": "The gateway is not running or cannot be reached.",
    "6": "Done or answered, but something is not well; it is said on stderr.",
    "65": "A newer version has written `data_dir`, in a format that this one cannot read.",
    "78": "The configuration has mistakes, or may not be read.",
    "130": "Ctrl-C, or no when asked.",
    "141": "The reader of stdout went away.",
}
FILES: Final = [
    ("/etc/gateway/gateway.yaml", "The configuration; see gateway.yaml(5)."),
    ("/etc/gateway/keys.yaml", "API keys, by their hashes."),
    ("/var/lib/gateway", "`data_dir`: journal, revisions, audit log, the admin socket."),
]
ENVIRONMENT: Final = [
    ("GATEWAY_CONFIG", "The configuration, when --config does not say it."),
    ("GATEWAY_SOCKET", "Control's socket, when --socket does not say it."),
    ("NO_COLOR", "No colours."),
]
SCRIPTS: Final = {"bash": "bash/gatewayctl", "zsh": "zsh/_gatewayctl", "fish": "fish/gatewayctl.fish"}
"""Shell → where its script goes, by the name that the shell looks for."""


def pages() -> Iterator[tuple[str, str]]:
    """File name and text of each page."""
    root = app.root()
    top = typer.Context(root, info_name="gatewayctl")
    yield "gatewayctl.1", _main_page(root, top)
    for name, (_, summary) in app.COMMANDS.items():
        ctx = typer.Context(app.load(name), parent=top, info_name=name)
        yield f"gatewayctl-{name}.1", _noun_page(ctx, name, summary)
    yield "gateway.yaml.5", _configuration()


def completions() -> Iterator[tuple[str, str]]:
    """File name and text of each script."""
    from typer._completion_shared import get_completion_script

    for shell, file in SCRIPTS.items():
        yield file, get_completion_script(prog_name="gatewayctl", complete_var=app.COMPLETE, shell=shell) + "\n"


def _page(name: str, section: int, summary: str) -> roff.Page:
    return roff.Page(name, section, summary, version_of(PROGRAM) or "")


def _main_page(root: Any, ctx: typer.Context) -> str:
    page = _page("gatewayctl", 1, "the command line of the AI gateway")
    page.section("SYNOPSIS", f"{roff.bold('gatewayctl')} [OPTIONS] NOUN [VERB] [ARGUMENTS]")
    page.section("DESCRIPTION", roff.prose(root.help or ""))
    page.section("EXAMPLES", roff.verbatim(root.epilog or ""))
    page.section("COMMANDS", roff.items([(f"gatewayctl-{name}(1)", summary) for name, (_, summary) in app.COMMANDS.items()]))
    page.section("OPTIONS OF EVERY COMMAND", roff.items(_records(ctx, shared=True)))
    page.section("EXIT STATUS", roff.items(list(EXIT.items())))
    page.section("ENVIRONMENT", roff.items(ENVIRONMENT))
    page.section("FILES", roff.items(FILES))
    page.section("SEE ALSO", roff.plain("gateway.yaml(5)"))
    return page.text()


def _noun_page(ctx: typer.Context, name: str, summary: str) -> str:
    command: Any = ctx.command
    page = _page(f"gatewayctl-{name}", 1, summary)
    below = [typer.Context(verb, parent=ctx, info_name=title) for title, verb in getattr(command, "commands", {}).items()]
    page.section("SYNOPSIS", "\n.br\n".join(_usage(one) for one in below or [ctx]))
    page.section("DESCRIPTION", roff.prose(command.help or summary))
    page.section("EXAMPLES", roff.verbatim(command.epilog or ""))
    page.section("OPTIONS", roff.items(_records(ctx, shared=False)))
    if below:
        page.section("COMMANDS", roff.prose(f"Without one: {_default(command)}."))
        for one in below:
            parts = [roff.prose(one.command.help or ""), roff.items(_records(one, shared=False)), roff.verbatim(one.command.epilog or "")]
            page.part(one.command_path, "\n".join(part for part in parts if part))
    page.section("SEE ALSO", roff.plain("gatewayctl(1), gateway.yaml(5). Options of every command and exit codes: gatewayctl(1)."))
    return page.text()


def _default(command: Any) -> str:
    return f"`{command.default}`" if getattr(command, "default", None) else "this help"


def _usage(ctx: typer.Context) -> str:
    return f"{roff.bold(ctx.command_path)} {roff.plain(' '.join(ctx.command.collect_usage_pieces(ctx)))}"


def _records(ctx: typer.Context, shared: bool) -> list[tuple[str, str]]:
    """Arguments and options with their meanings."""
    found = []
    for parameter in ctx.command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and (parameter.name in SHARED or parameter.name == "help") == shared:
            found.append(record)
    return found


def _configuration() -> str:
    """Every word, in the order of the schema."""
    from gateway.config.explain import explain
    from gateway.config.reference import flow
    from gateway.config.tree import words

    page = _page("gateway.yaml", 5, "the configuration of the AI gateway")
    about = """One YAML file, and those that it includes. It is read strictly: an unknown word is a mistake.
    `${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` stand for values from elsewhere. Durations are written `500ms`, `30s`, `10m`,
    sizes `64KiB`, `8MiB`.

    `gatewayctl config check` checks it, `gatewayctl config explain WORD` says what is said here, and a running gateway takes a changed file
    by itself."""
    page.section("DESCRIPTION", roff.prose(about))
    pairs = []
    for path in words():
        word = explain(path)
        default = "required" if word.required else f"default: {flow(word.default)}" if word.default is not None else ""
        pairs.append((path, f"{word.description}\n\n{'; '.join(part for part in (word.type, default) if part)}"))
    page.section("WORDS", roff.items(pairs).replace("\n.PP\n", "\n.br\n"))
    page.section("SEE ALSO", roff.plain("gatewayctl(1), gatewayctl-config(1)"))
    return page.text()


def main(folder: Path) -> None:
    """Writes all of it below `folder`."""
    written = [("man", name, text) for name, text in pages()] + [("completions", name, text) for name, text in completions()]
    for part, name, text in written:
        file = folder / part / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    print(f"{folder}: {len(written)} files")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
