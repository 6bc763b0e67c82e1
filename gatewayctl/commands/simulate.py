"""`gatewayctl simulate`: becomes a simulated engine. Its options are the simulator's own, and pass through untouched."""

from typing import Any, Final

import typer
from typer._click.shell_completion import CompletionItem

from gatewayctl.command import Command, alone
from gatewayctl.programs import become

app = alone()
ENGINES: Final = ["vllm", "sglang", "mindie"]
OPTIONS: Final = [
    ("--port NUMBER", "Where it listens. 0: any free port. [default: vllm 8000, sglang 30000, mindie 1025]"),
    ("--model NAME", "The model that it serves; may be repeated. [default: qwen3]"),
    ("--tps NUMBER", "Tokens per second of one request. 0: as fast as possible."),
    ("--ttft TIME", "Time before the first token: 200ms, 1s."),
    ("--script FILE", "What goes wrong, and when (YAML, docs/simulators.md)."),
]


class PassThrough(Command):
    """Leaves all arguments to the simulator; only `simulate --help` is answered here."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if ctx.resilient_parsing:  # a shell completes; nothing may be printed
            return []
        if not args or args[0] in ("-h", "--help"):
            typer.echo(ctx.get_help())
            ctx.exit(0 if args else 2)
        ctx.args = list(args)
        return ctx.args

    def shell_complete(self, ctx: typer.Context, incomplete: str) -> list[CompletionItem]:  # type: ignore[override]
        words = [name.split()[0] for name, _ in OPTIONS] if incomplete.startswith("-") else ENGINES
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return ["vllm|sglang|mindie", "[OPTIONS]"]

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        with formatter.section("Options most used (gatewayctl simulate vllm --help shows all)"):
            formatter.write_dl(OPTIONS)


@app.command(
    "simulate",
    cls=PassThrough,
    epilog="""
    gatewayctl simulate vllm --port 8001 --model qwen3 --tps 50
    gatewayctl simulate mindie --ttft 200ms --script faults.yaml
    gatewayctl simulate sglang --port 0     any free port; it says which
    """,
)
def simulate(ctx: typer.Context) -> None:
    """Run an engine without accelerators, for drills and tests. Ctrl-C stops it."""
    become("simulate", *ctx.args)
