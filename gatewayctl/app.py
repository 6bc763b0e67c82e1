"""The entry point: the list of commands, and the one place where failures become messages and exit codes.

A command's module is imported when it is called, so that `--help` and completion stay quick.
"""

import contextlib
import errno
import importlib
import io
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from typer.core import TyperCommand
from typer.main import get_command

from gateway.config.streams import open_streams
from gatewayctl.command import SETTINGS, Command, Group, noun
from gatewayctl.session import Session
from gatewayctl.trouble import BAD_CONFIG, FAILED, FORBIDDEN, INTERRUPTED, READER_GONE, USAGE, Done, Trouble

COMMANDS: Final = {
    "serve": ("serve:app", "Run the gateway in the foreground."),
    "init": ("init:app", "Write a first configuration and a first key."),
    "demo": ("demonstration:app", "Show the gateway at work before simulated engines."),
    "simulate": ("simulate:app", "Run an engine without accelerators: vllm, sglang or mindie."),
    "status": ("status:app", "How the gateway is: revision, processes, listeners, journal."),
    "reload": ("reload:app", "Make the files on disk live, in all workers or in none."),
    "config": ("config:app", "Check, show, compare and roll back the configuration."),
    "freeze": ("freeze:app", "Stop a tenant, a key, a model or everything at once."),
    "unfreeze": ("freeze:thaw", "Take a freeze back."),
    "alerts": ("alerts:app", "What fires, test messages, silences."),
    "audit": ("audit:app", "Who changed what, and when."),
    "tenants": ("tenants:app", "List, create and change tenants and their projects."),
    "keys": ("keys:app", "Create, list, change and revoke API keys."),
    "channels": ("channels:app", "The channels, and what their engines say of themselves."),
    "models": ("models:app", "The virtual models, and where their requests go."),
    "routes": ("routes:app", "Where requests go, and why; the weights of targets."),
    "limits": ("limits:app", "What may be used, what is used, and by whom."),
    "prices": ("prices:app", "What models cost, and prices from LiteLLM's map."),
    "requests": ("requests:app", "What happened to requests."),
    "usage": ("usage:app", "Who used what: top, over time, in full; and whether the engines say the same."),
    "cost": ("cost:app", "What it cost: reports, budgets, forecasts, capacity, reprice; and what of it is unusual."),
    "ledger": ("ledger:app", "The database of all requests: is it right, exports, archives."),
    "health": ("health:app", "Which endpoints are up, and why the others are not."),
    "doctor": ("doctor:app", "What is wrong with this host, these files and these engines, and what to do."),
    "support-bundle": ("support:app", "Gather what support needs, without secrets and prompts."),
    "backup": ("backup:app", "Copy configuration, keys, journal and ledger, while the gateway serves."),
    "restore": ("restore:app", "Bring a backup back."),
    "upgrade": ("upgrade:app", "Become the installed version without a dropped request."),
    "install": ("install:app", "Install this program as a service."),
    "uninstall": ("uninstall:app", "Remove the program and its service."),
    "version": ("version:app", "Versions of the program and its libraries."),
    "completion": ("completion:app", "Print the completion script of a shell."),
}
"""name → (module under gatewayctl.commands : attribute, summary). A new noun is one file and one line here."""

COMPLETE: Final = "_GATEWAYCTL_COMPLETE"
"""Set by the completion scripts of gatewayctl/commands/completion.py when they ask."""

EXAMPLES: Final = """
    gatewayctl init --engine mindie=https://10.0.0.5:1025      write a first configuration
    gatewayctl config check                                    is it right?
    gatewayctl serve                                           run it
    gatewayctl status                                          how is it?
    gatewayctl keys create --tenant default --project default  let somebody in
    gatewayctl requests tail -f                                watch what happens
"""


class Root(Group):
    """Lists all commands without loading one of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: Command(name, help=summary) for name, (_, summary) in COMMANDS.items()}

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:  # type: ignore[override]
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else found, rest


def load(name: str) -> TyperCommand:
    """The command itself, its module imported."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    app = getattr(importlib.import_module(f"gatewayctl.commands.{module}"), attribute)
    found: Any = get_command(app)
    found.name = name
    return found  # type: ignore[no-any-return]


def root() -> Any:
    """The whole command line."""
    app = noun("gatewayctl", "The command line of the gateway: one OpenAI-compatible address before your own engines.", EXAMPLES)
    app.info.cls = Root
    app.info.context_settings = SETTINGS
    return get_command(app)


def main() -> NoReturn:
    """Run, and exit with a code of docs/cli.md."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no failure
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = READER_GONE
    if code == READER_GONE:
        with contextlib.suppress(OSError):  # the interpreter flushes once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of a command line."""
    try:
        return _invoke(arguments)
    except Done as done:
        return done.code
    except Trouble as trouble:
        return _tell(trouble.message, trouble.hint, trouble.code)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return READER_GONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else "" if _somewhere() else "the folder that this shell is in is gone: "
        code = FORBIDDEN if isinstance(error, PermissionError) else FAILED
        remedy = "Use sudo." if code == FORBIDDEN and os.geteuid() else _REMEDIES.get(error.errno or 0, "")
        return _tell(f"{where}{error.strerror or error}", remedy, code)
    except Exception as error:
        if _is_config_error(error):
            return _tell_mistakes(error, _color(arguments))
        if isinstance(error, UnicodeEncodeError) and (odd := next(filter(_no_text, arguments), None)) is not None:
            hint = "The terminal writes in another encoding than the locale says: `locale` shows which that is."
            return _tell(f"{odd!a} is no text in {sys.getfilesystemencoding()}", hint, USAGE)
        if os.environ.get("GATEWAY_DEBUG"):
            raise
        return _tell(f"{type(error).__name__}: {error}", "This is a bug of gatewayctl. GATEWAY_DEBUG=1 shows where.", FAILED)


def _no_text(argument: str) -> bool:
    """Whether bytes stand in it that are no characters. As a file's name they are right; whoever else gets them cannot take them."""
    return any("\udc80" <= character <= "\udcff" for character in argument)


_REMEDIES: Final = {
    errno.ENOSPC: "`df -h` and `df -i` show what is full.",
    errno.EDQUOT: "The quota of whoever runs this is used up: `quota` shows it.",
    errno.EROFS: "Nobody may write there: change the file where it comes from.",
}


def _somewhere() -> bool:
    """Whether there is a folder from which relative paths lead anywhere."""
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


def _invoke(arguments: list[str]) -> int:
    stdout = sys.stdout
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()  # typer's scripts ask in typer's own way
    try:
        found = root().main(arguments, prog_name="gatewayctl", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except SystemExit as end:
        if sys.stdout is not stdout:  # typer has met a broken pipe and replaced it
            sys.stdout = stdout
            return READER_GONE
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:
        show = getattr(error, "show", None)  # a wrong option or argument, as typer reports it
        if show is None or not hasattr(error, "exit_code"):
            raise
        error.message = _plainly(str(getattr(error, "message", "")))  # type: ignore[attr-defined]
        show()
        return int(error.exit_code)
    return found if isinstance(found, int) else 0


_TYPED: Final = (
    (r"Value error, ", ""),
    (r"Input should be a valid integer\b.*", "write a whole number"),
    (r"Input should be a valid number\b.*", "write a number"),
    (r"Input should be greater than or equal to (\S+)", r"write \1 or more"),
    (r"Input should be less than or equal to (\S+)", r"write \1 at most"),
)


def _plainly(message: str) -> str:
    """What whoever checks options says to programmers, as an operator's words."""
    for words, ours in _TYPED:
        message = re.sub(words, ours, message)
    return message


def _tell(message: str, hint: str, code: int) -> int:
    from gateway.config.report import clean

    print(f"gatewayctl: {clean(message)}", file=sys.stderr)
    for line in hint.splitlines():
        print(f"  {clean(line)}", file=sys.stderr)
    return code


def _is_config_error(error: Exception) -> bool:
    """By name first, so that nothing of the configuration is loaded for other failures."""
    return type(error).__name__ == "ConfigError" and hasattr(error, "mistakes")


def _color(arguments: list[str]) -> str:
    """What --color was given: the last one wins, as after the command it does."""
    said = "auto"
    for option, following in pairwise([*arguments, ""]):
        name, sign, value = option.partition("=")
        if name == "--color":
            said = value if sign else following
    return said


def _tell_mistakes(error: Any, color: str) -> int:
    from gateway.config.report import render

    print(render(error.mistakes, color=Session(Path(), color=color).colored(sys.stderr)), end="", file=sys.stderr)
    return BAD_CONFIG
