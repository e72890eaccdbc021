"""`pstn advise funding`: which trigger and amount a tenant's auto-recharge should have, from its own past."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from pipeline.base.money import format_micros
from pipeline.base.plain import plain
from pipeline.cli.failure import fail, load_settings, one_line, stderr
from pipeline.cli.fitted import fitted
from pipeline.cli.report_run import check_place, check_tenant, placed
from pipeline.cli.terminal import Terminal
from pipeline.cli.warehouse_options import FromOption, TenantOption, ToOption, WarehouseOption, opened, period
from pipeline.warehouse.chosen import Chosen
from pipeline.warehouse.funding import HOURS_MIN, HOURS_PER_DAY, Advice, Setting, Trial, Wish, advise

_HEADINGS = ("tenant", "", "trigger", "amount", "recharges", "too late", "dry hours", "idle on average")

app = typer.Typer(no_args_is_help=True, help="Advice drawn from past usage.")


@app.callback()
def _several() -> None:
    """Keeps `funding` a command of its own."""


@app.command()
def funding(
    tenant: TenantOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    risk: Annotated[
        float, typer.Option(min=0, max=50, help="percent of recharges that may come after the balance is used up")
    ] = 1.0,
    days: Annotated[int, typer.Option(min=1, max=366, help="days that one recharge should last")] = 7,
    format: Annotated[Literal["table", "json"], typer.Option(help="table for a person, json for a program")] = "table",
    chart: Annotated[
        Path | None, typer.Option(help="also draw one tenant's balance, today and as advised; .svg or .png")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a picture that is there already")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Say what trigger and amount to set for each tenant, so that it runs dry less often than the risk you choose.

    How: demand is what calls took, and the price of those refused for want of money, by the hour. A recharge takes as
    long as 19 of 20 past ones took. The trigger is the most that such a delay used up, but for the share you risk; it
    is raised until, run over the past, no larger share of recharges came too late. The amount is the demand of the
    days that a recharge should last, and never below the trigger. A post-paid tenant whose auto-recharge is off is
    billed afterwards, and gets no advice.

    How good that would have been is measured on the last third of the past, with a setting worked out from the first
    two thirds alone, beside today's setting over the same hours.

    Example: pstn advise funding --tenant contoso --risk 1 --days 7 --chart contoso.svg
    """
    from pipeline.warehouse.funding_io import draw_past, pasts

    chosen = Chosen(tenant, *period(from_, to))
    wish = Wish(round(risk * 10), days)  # tenths of a percent are whole per mille
    if chart is not None:
        if tenant is None or chart.suffix.lower() not in (".svg", ".png"):
            raise fail("--chart draws one tenant: give --tenant too, and a name that ends in .svg or .png")
        check_place("--chart", chart, is_forced=force)
    advices: list[Advice] = []
    postpaid: list[str] = []
    silent = 0
    with one_line(), opened(load_settings(warehouse=warehouse).warehouse) as store:
        if tenant is not None:
            check_tenant(store, tenant)
        with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
            bar = progress.add_task("tenants", total=None)
            for past in pasts(store, chosen):
                progress.advance(bar)
                if past.is_postpaid:
                    postpaid.append(past.tenant_id)
                    continue
                found = advise(
                    past.tenant_id,
                    past.currency,
                    past.demand,
                    delay_hours=past.delay_hours,
                    today=past.today,
                    wish=wish,
                )
                if found is None:
                    silent += 1
                    continue
                advices.append(found)
                if chart is not None:
                    settings = [] if past.today is None else [("today", past.today)]
                    with placed(chart) as path:
                        drawn = [*settings, ("as advised", found.setting)]
                        draw_past(path, past, drawn, ending=chart.suffix.lower())
                    stderr.print(f"picture in {chart}")
    if format == "json":
        tenants = [_as_json(each) for each in advices]
        typer.echo(json.dumps({"tenants": tenants, "too_little_data": silent, "postpaid": postpaid}))
        return
    if advices:
        _print(advices, Terminal(), risk)
    if postpaid:
        Terminal().print(f"post-paid, billed afterwards, needs no recharge: {', '.join(postpaid)}", soft_wrap=True)
    if silent:
        typer.echo(f"{silent:,} tenants used credits for less than {HOURS_MIN // HOURS_PER_DAY} days: nothing to learn")
    elif not advices and not postpaid:
        typer.echo("no tenant used credits: check --tenant, --from and --to")


def _print(advices: list[Advice], console: Console, risk: float) -> None:
    rows = []
    for each in advices:
        if each.today is not None and each.tested_today is not None:
            rows.append([plain(each.tenant_id), "today", *_cells(each.today, each.tested_today)])
        else:
            rows.append([plain(each.tenant_id), "today: off", *[""] * 6])
        rows.append([f"  in {each.currency}", "advice", *_cells(each.setting, each.tested)])
    headings = [(heading, heading not in ("tenant", "")) for heading in _HEADINGS]
    console.print(fitted(f"auto-recharge for a risk of {risk:g} %", headings, rows, console.width))
    console.print(
        "The four columns at the right: run over the last third of the past, the advice as worked out from the rest."
        f" The past: {_days(advices)} of calls.",
        highlight=False,
    )


def _days(advices: list[Advice]) -> str:
    """How much there was to learn from."""
    days = sorted({each.hour_count // HOURS_PER_DAY for each in advices})
    return f"{days[0]:,} days" if len(days) == 1 else f"{days[0]:,} to {days[-1]:,} days"


def _cells(setting: Setting, trial: Trial) -> list[str]:
    return [
        format_micros(setting.trigger_micros),
        format_micros(setting.amount_micros),
        f"{trial.recharge_count:,}",
        f"{trial.late_count:,}",
        f"{trial.dry_hour_count:,} of {trial.hour_count:,}",
        format_micros(trial.idle_micros // 10_000 * 10_000),
    ]


def _as_json(advice: Advice) -> dict[str, object]:
    return {
        "tenant_id": advice.tenant_id,
        "currency": advice.currency,
        "hours": advice.hour_count,
        "delay_hours": advice.delay_hours,
        "demand_micros": advice.demand_micros,
        "advice": advice.setting._asdict(),
        "tested": advice.tested._asdict(),
        "today": None if advice.today is None else advice.today._asdict(),
        "tested_today": None if advice.tested_today is None else advice.tested_today._asdict(),
    }
