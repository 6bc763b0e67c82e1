"""How commands are declared: examples first in the help, and the shared options accepted before and after the command's name."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from gatewayctl.session import DEFAULT_CONFIG, Session

Output = Literal["table", "json", "yaml", "csv"]
Color = Literal["auto", "always", "never"]
SETTINGS: Final = {"help_option_names": ["-h", "--help"]}


def everywhere(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", readable=False, help=f"The configuration. [env: GATEWAY_CONFIG; default: {DEFAULT_CONFIG}]"
        ),
    ] = None,
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket", metavar="FILE", readable=False, help="Control's socket. [env: GATEWAY_SOCKET; default: <data_dir>/admin.sock]"
        ),
    ] = None,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="How data is printed. [default: table]")] = None,
    color: Annotated[Color | None, typer.Option("--color", help="[default: auto, so not into a pipe and not with NO_COLOR]")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out messages that are not errors.")] = False,
) -> dict[str, Any]:
    """The shared options, declared once."""
    return {"config": config, "socket": socket, "output": output, "color": color, "quiet": quiet}


SHARED: Final = inspect.signature(everywhere).parameters


class Command(TyperCommand):
    """A command whose help begins with examples (given as `epilog`) and ends with the shared options."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not ctx.resilient_parsing:
            _said_once(self, ctx, args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _format_help(self, ctx, formatter)

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _format_options(self, ctx, formatter)


def _said_once(self: Command, ctx: typer.Context, args: list[str]) -> None:
    """Refuses an option that takes one value and was given two: the parser takes the last in silence, so that `freeze --key a --key b`
    would leave `a` to those who were to be stopped. Of the shared options the last one wins, as is documented."""
    _, _, said = self.make_parser(ctx).parse_args(args=list(args))
    for option in said:
        single = not getattr(option, "multiple", True) and not getattr(option, "is_flag", True) and option.name not in SHARED
        if single and said.count(option) > 1:
            ctx.fail(f"{max(option.opts, key=len)} is said twice; this command takes one")


class Group(TyperGroup):
    """A noun. With a `default`, the noun alone means that verb: `gatewayctl channels` is `gatewayctl channels list`."""

    default: str | None = None

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args and self.default is None and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit()
        if self.default is not None and not ctx.resilient_parsing and self._names_no_verb(args):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def _names_no_verb(self, args: list[str]) -> bool:
        return not any(arg in self.commands or arg in ("-h", "--help") for arg in args) and all(arg.startswith("-") for arg in args[:1])

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _format_help(self, ctx, formatter)

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        self.format_commands(ctx, formatter)
        _format_options(self, ctx, formatter)


def noun(name: str, help: str, examples: str, default: str | None = None) -> typer.Typer:
    """A group of verbs. help: one sentence. examples: lines as one types them."""
    kind: type[Group] = type("Noun", (Group,), {"default": default})
    app = typer.Typer(
        name=name, cls=kind, help=help, epilog=examples, rich_markup_mode=None, add_completion=False, context_settings=SETTINGS
    )

    @app.callback()
    def shared(ctx: typer.Context, **given: Any) -> None:
        ctx.obj = [given, *(ctx.obj or [])]

    _declare(shared, [])
    return app


def alone() -> typer.Typer:
    """An app that holds one command."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=SETTINGS)


def command(app: typer.Typer, name: str, examples: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a verb. Its function gets a Session first; the docstring is the help, its first sentence the summary."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            shared = {option: given.pop(option) for option in SHARED}
            function(Session.of(shared, *(ctx.obj or [])), **given)

        _declare(run, list(inspect.signature(function).parameters.values())[1:])
        app.command(name, cls=Command, epilog=examples, **settings)(run)
        return function

    return declare


def _declare(run: Callable[..., Any], own: list[inspect.Parameter]) -> None:
    """Tell typer which options `run` takes: its own, then the shared ones."""
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    options = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *SHARED.values())]
    run.__signature__ = inspect.Signature([context, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (context, *options)}


def _format_help(self: TyperCommand | TyperGroup, ctx: typer.Context, formatter: Any) -> None:
    formatter.write("Examples:\n")
    for line in inspect.cleandoc(self.epilog or "").splitlines():
        formatter.write(f"  {line}\n" if line else "\n")
    formatter.write_paragraph()
    self.format_usage(ctx, formatter)
    self.format_help_text(ctx, formatter)
    self.format_options(ctx, formatter)


def _format_options(self: TyperCommand | TyperGroup, ctx: typer.Context, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Options of every command": []}
    for parameter in self.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            shared = parameter.name in SHARED or parameter.name == "help"
            own = "Arguments" if parameter.param_type_name == "argument" else "Options"
            sections["Options of every command" if shared else own].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
