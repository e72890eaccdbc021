"""The command line: `pstn …`. A command's module is imported when it is asked for: together they take seconds."""

from __future__ import annotations

import sys
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.cli.ending import OutputEnded, end_as_ctrl_c_does, standard_output

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
    """Entry point of the `pstn` command. Its output was not taken: one line, but for a reader who has enough."""
    end_as_ctrl_c_does()
    sys.stdout = standard_output()
    try:
        try:
            cli()
        finally:
            sys.stdout.flush()
    except OutputEnded as ended:
        if ended.is_readers_wish:
            raise SystemExit from None
        from pipeline.cli.failure import fail  # noqa: PLC0415  # it knows Kafka, which a help page need not wait for

        raise SystemExit(fail(str(ended)).exit_code) from None


if __name__ == "__main__":
    main()
