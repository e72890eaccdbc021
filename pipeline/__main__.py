"""The command line: `pstn …`."""

from __future__ import annotations

import typer

from pipeline.cli import ledger, report, tables, topics, warehouse
from pipeline.cli.demo import demo
from pipeline.cli.doctor import doctor
from pipeline.cli.explain import explain
from pipeline.cli.rate import rate
from pipeline.cli.simulate import simulate
from pipeline.cli.status import status
from pipeline.cli.worker import worker

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A streaming rating pipeline for telephone calls. First time? `pstn demo` shows all of it on this machine.",
)
cli.add_typer(topics.app, name="topics")
cli.add_typer(ledger.app, name="ledger")
cli.command()(demo)
cli.command()(worker)
cli.command()(status)
cli.command()(doctor)
cli.command()(simulate)
cli.command()(rate)
cli.command()(explain)
cli.add_typer(report.app, name="report")
cli.add_typer(warehouse.app, name="warehouse")
cli.add_typer(tables.app, name="tables")


def main() -> None:
    """Entry point of the `pstn` command."""
    cli()


if __name__ == "__main__":
    main()
