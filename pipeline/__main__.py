"""The command line: `pstn …`. A command's module is imported when it is asked for: together they take seconds."""

from __future__ import annotations

from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

# In the order of the help page. The module `pipeline.cli.<name>` holds `app`, a group, or a function of that name.
COMMANDS = [
    "topics",
    "ledger",
    "demo",
    "sandbox",
    "worker",
    "status",
    "doctor",
    "simulate",
    "rate",
    "explain",
    "report",
    "warehouse",
    "rejected",
    "reconcile",
    "purge",
    "advise",
    "tables",
    "account",
    "fund",
    "licences",
    "user",
    "policy",
    "invoice",
    "notices",
    "refund",
    "api",
    "token",
    "audit",
    "tick",
]


class _Commands(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own context
        return COMMANDS

    def get_command(self, ctx: typer.Context, name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override]
        if name not in COMMANDS:
            return None
        module = import_module(f"pipeline.cli.{name}")
        command: TyperCommand | TyperGroup
        if hasattr(module, "app"):
            command = typer.main.get_group(module.app)
        else:
            app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            app.command()(getattr(module, name))
            found = typer.main.get_command(app)
            assert isinstance(found, TyperCommand)
            command = found
        command.name = name
        return command


cli = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A streaming rating pipeline for telephone calls. First time? `pstn demo` shows all of it on this machine.",
)


@cli.callback()
def pstn() -> None:
    pass


def main() -> None:
    """Entry point of the `pstn` command."""
    cli()


if __name__ == "__main__":
    main()
