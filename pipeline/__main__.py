"""The command line: `pstn …`."""

from __future__ import annotations

import typer

from pipeline.cli import (
    account,
    advise,
    fund,
    invoice,
    ledger,
    licences,
    notices,
    policy,
    rejected,
    report,
    tables,
    token,
    topics,
    user,
    warehouse,
)
from pipeline.cli.api import api
from pipeline.cli.audit import audit
from pipeline.cli.demo import demo
from pipeline.cli.doctor import doctor
from pipeline.cli.explain import explain
from pipeline.cli.purge import purge
from pipeline.cli.rate import rate
from pipeline.cli.reconcile import reconcile
from pipeline.cli.refund import refund
from pipeline.cli.sandbox import sandbox
from pipeline.cli.simulate import simulate
from pipeline.cli.status import status
from pipeline.cli.tick import tick
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
cli.command()(sandbox)
cli.command()(worker)
cli.command()(status)
cli.command()(doctor)
cli.command()(simulate)
cli.command()(rate)
cli.command()(explain)
cli.add_typer(report.app, name="report")
cli.add_typer(warehouse.app, name="warehouse")
cli.add_typer(rejected.app, name="rejected")
cli.command()(reconcile)
cli.command()(purge)
cli.add_typer(advise.app, name="advise")
cli.add_typer(tables.app, name="tables")
cli.add_typer(account.app, name="account")
cli.add_typer(fund.app, name="fund")
cli.add_typer(licences.app, name="licences")
cli.add_typer(user.app, name="user")
cli.add_typer(policy.app, name="policy")
cli.add_typer(invoice.app, name="invoice")
cli.add_typer(notices.app, name="notices")
cli.command()(refund)
cli.command()(api)
cli.add_typer(token.app, name="token")
cli.command()(audit)
cli.command()(tick)


def main() -> None:
    """Entry point of the `pstn` command."""
    cli()


if __name__ == "__main__":
    main()
