"""`pstn report`: what the warehouse says, as a table, a file or a picture."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.calendar import month_of
from pipeline.cli.failure import fail, load_settings, one_line, stderr
from pipeline.cli.reconcile import reconcile
from pipeline.cli.report_run import Format, Wish, run
from pipeline.cli.warehouse_options import FromOption, TenantOption, ToOption, WarehouseOption, opened, period
from pipeline.warehouse.chosen import Chosen, whole_months
from pipeline.warehouse.reports import REPORTS, Report

app = typer.Typer(no_args_is_help=True, help="Reports from the warehouse.")
_CHART_ENDINGS = (".svg", ".png")
_EXAMPLES = {
    "usage": "--tenant contoso --from 2026-03 --to 2026-03 --output usage.xlsx",
    "minute-pools": "--tenant contoso --from 2026-03 --to 2026-03",
    "dial-out-usage": "--from 2026-03 --to 2026-03 --format csv",
    "credit-statement": "--tenant contoso --output statement.xlsx",
    "daily-usage": "--from 2026-03-01 --to 2026-03-07 --chart days.svg",
    "unpaid-calls": "--from 2026-03 --chart leaks.png",
    "top-destinations": "--tenant contoso --country DE",
    "spend-by-user": "--tenant contoso --from 2026-03 --to 2026-03 --user anna@contoso.example",
    "reconciliation": "--from 2026-03 --format json",
}
_NOTES = {
    "credit-statement": "A charge stands in the month in which the ledger posted it, the usage report has a call in the"
    " month in which it began: a call that arrives after the end of its month makes the two differ.",
}


def _command(report: Report) -> None:
    def command(
        tenant: TenantOption = None,
        user: Annotated[str | None, typer.Option(help="a user's id or sign-in name", show_default="all")] = None,
        from_: FromOption = None,
        to: ToOption = None,
        capability: Annotated[
            str | None, typer.Option(help="code of the licence that paid, such as MCOPSTNPP", show_default="all")
        ] = None,
        country: Annotated[
            str | None, typer.Option(help="country that calls were rated in (User Location)", show_default="all")
        ] = None,
        format: Annotated[
            Format | None,
            typer.Option(help="table for a person, the others hold every row", show_default="by the file's name"),
        ] = None,
        output: Annotated[Path | None, typer.Option(help="file to write", show_default="the terminal")] = None,
        force: Annotated[bool, typer.Option("--force", help="replace a file that is there already")] = False,
        chart: Annotated[
            Path | None, typer.Option(help="also draw the chart into a file, .svg or .png", show_default="none")
        ] = None,
        limit: Annotated[int, typer.Option(min=1, help="rows shown in the table")] = 100,
        mask: Annotated[
            bool | None,
            typer.Option(
                "--mask/--no-mask",
                help="stars for the end of the other party's number, as the organisation's country asks;"
                " or PSTN_MASK_NUMBERS",
                show_default="--mask",
            ),
        ] = None,
        zip_: Annotated[
            bool, typer.Option("--zip", help="the archive of calling plans that administrators know (usage only)")
        ] = False,
        warehouse: WarehouseOption = None,
    ) -> None:
        settings = load_settings(warehouse=warehouse, mask_numbers=mask)
        chosen = Chosen(
            tenant, *period(from_, to), user, capability and capability.upper(), country and country.upper()
        )
        _check_options(report, chosen, chart, is_archive=zip_, format=format)
        wish = Wish(format, output, chart, zip_, settings.mask_numbers, force, limit)
        shown = whole_months(chosen) if report.is_of_whole_months else chosen
        with one_line(), opened(settings.warehouse) as store:
            run(store, report, shown, wish)
        if shown != chosen:
            _say_months(report, shown)

    about = f"{report.about}\n\nIt reads while a worker runs. Times and days are UTC; sums are exact to the micro-unit."
    if report.is_of_whole_months:
        about += " It is of whole months: a period of days shows each month that it touches."
    if report.name in _NOTES:
        about += f"\n\n{_NOTES[report.name]}"
    example = f"Example: pstn report {report.name} {_EXAMPLES[report.name]}"
    app.command(report.name, help=f"{about}\n\n{example}")(command)


def _say_months(report: Report, shown: Chosen) -> None:
    first = "" if shown.from_ms is None else f" from {month_of(shown.from_ms)}"
    last = "" if shown.to_ms is None else f" to {month_of(shown.to_ms - 1)}"
    stderr.print(f"{report.name} is of whole months: it shows those{first}{last}")


def _check_options(
    report: Report, chosen: Chosen, chart: Path | None, *, is_archive: bool, format: Format | None
) -> None:
    for option in ("user", "capability", "country"):
        if getattr(chosen, option) is not None and option not in report.options:
            raise fail(f"{report.name} has no --{option}: its rows are not of single calls")
    if chart is not None and chart.suffix.lower() not in _CHART_ENDINGS:
        raise fail(f"--chart {chart}: the name must end in .svg or .png")
    if is_archive and report.name != "usage":
        raise fail("--zip is for `pstn report usage`: the archive that administrators know")
    if is_archive and format not in (None, "csv"):
        raise fail("--zip is an archive of the usage report as csv: leave the other format out")
    if chosen.country is not None and not re.fullmatch("[A-Z]{2}", chosen.country):
        raise fail(f"{chosen.country!r} is no country: two letters, such as DE")


for _report in REPORTS.values():
    _command(_report)
# The name it had first.
app.command(
    "reconcile", help=inspect.cleandoc(reconcile.__doc__ or "").replace("pstn reconcile", "pstn report reconcile")
)(reconcile)
