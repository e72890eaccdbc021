"""How the demo looks: a live view while it runs, a summary at its end. Pure: values in, renderables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.base.money import format_micros
from pipeline.embedded.audit import Audit
from pipeline.embedded.demo import Destination, Summary

_BAR_WIDTH = 28
_DESTINATIONS_SHOWN_MAX = 12
_NAMES_SHOWN_MAX = 6
_EIGHTHS = " ▏▎▍▌▋▊▉█"

RECONCILED = "reconciled: ledger = balances = warehouse"
OUTCOME_STYLES = {
    "included": "green",
    "charged": "cyan",
    "split": "blue",
    "postpaid": "magenta",
    "free": "bright_black",
    "free_call": "yellow",
    "unpaid": "red",
    "duplicate": "bright_black",
}


class Moment(NamedTuple):
    """Where a run stands. Counts are of call records; `loaded_count`: results that the warehouse has."""

    phase: str
    elapsed_s: float
    call_count: int
    sent_count: int
    loaded_count: int
    worker_kills: int


def live_view(moment: Moment, audit: Audit) -> RenderableType:
    """The whole screen of a running demo."""
    bars = Table.grid(padding=(0, 2))
    total = max(moment.call_count, moment.sent_count)
    for name, count in (
        ("sent by the switches", moment.sent_count),
        ("priced and debited", audit.decided_count),
        ("in the warehouse", moment.loaded_count),
    ):
        bars.add_row(name, ProgressBar(total=total, completed=min(count, total), width=_BAR_WIDTH), f"{count:,}")
    speed = audit.decided_count / moment.elapsed_s if moment.elapsed_s > 0 else 0.0
    kills = ", worker killed with -9 and started again" if moment.worker_kills else ""
    head = Text(f"{moment.phase}  ({moment.elapsed_s:.0f} s, {speed:,.0f} calls/s{kills})", style="bold")
    left = _counts("outcomes", audit.outcomes, OUTCOME_STYLES)
    right = _counts("notices", dict(audit.events.most_common(len(OUTCOME_STYLES))), {})
    return Panel(Group(head, "", bars, "", Columns([left, right, _news(audit)], padding=(0, 3))), title="pstn demo")


def summary_view(summary: Summary) -> RenderableType:
    """The end of a demo, for a person."""
    parts: list[RenderableType] = [
        Text(f"{summary.broker}", style="italic"),
        Text(f"rates: {summary.tariff}", style="italic"),
        "",
        _first_lines(summary),
        "",
        Columns([_counts("outcomes", summary.outcomes, OUTCOME_STYLES), _counts("rejected", summary.rejected, {})]),
        "",
        destinations_view(summary.destinations, summary.currency),
        "",
        _facts(summary),
        "",
    ]
    if summary.is_reconciled:
        parts.append(Text(RECONCILED, style="bold green"))
    else:
        parts.append(Text("NOT reconciled:", style="bold red"))
        parts += [Text(f"  {problem}", style="red") for problem in summary.problems]
    return Group(*parts)


def destinations_view(destinations: Sequence[Destination], currency: str) -> RenderableType:
    """Revenue and minutes by destination, the dearest first, as bars; the small ones together."""
    shown = list(destinations[:_DESTINATIONS_SHOWN_MAX])
    if rest := destinations[_DESTINATIONS_SHOWN_MAX:]:
        sums = [sum(column) for column in list(zip(*rest, strict=True))[1:]]
        shown.append(Destination(f"{len(rest)} others", *sums))
    table = Table(title="revenue by destination", title_justify="left", box=None, pad_edge=False)
    table.add_column("destination")
    table.add_column("calls", justify="right")
    table.add_column("minutes", justify="right")
    table.add_column(currency, justify="right")
    table.add_column("")
    most_micros = max((destination.revenue_micros for destination in shown), default=0)
    for destination in shown:
        table.add_row(
            Text(destination.name),
            f"{destination.call_count:,}",
            f"{destination.minutes:,}",
            money(destination.revenue_micros),
            Text(bar(destination.revenue_micros, most_micros), style="cyan"),
        )
    return table


def bar(value: int, most: int, width: int = _BAR_WIDTH) -> str:
    """A bar of `width` characters for `most`, in eighths of a character; at least a sliver for what is not zero."""
    if most <= 0 or value <= 0:
        return ""
    eighths = max(1, value * width * 8 // most)
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def money(micros: int) -> str:
    """Two decimals, halves away from zero, with separators: for the eye, not for the books."""
    cents = (abs(micros) + 5_000) // 10_000
    return f"{'-' if micros < 0 and cents else ''}{cents // 100:,}.{cents % 100:02d}"


def _counts(title: str, counts: Mapping[str, int], styles: Mapping[str, str]) -> RenderableType:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False, min_width=24)
    table.add_column()
    table.add_column(justify="right")
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(Text(name, style=styles.get(name, "")), f"{count:,}")
    return table


def _news(audit: Audit) -> RenderableType:
    table = Table(title="just now", title_justify="left", box=None, show_header=False, pad_edge=False)
    for event in reversed(audit.news):
        table.add_row(
            Text(event.tenant_id, style="bold"),
            event.kind.replace("_", " "),
            f"{format_micros(event.balance_micros)} {event.currency}",
        )
    return table


def _first_lines(summary: Summary) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    calls = sum(summary.outcomes.values()) - summary.outcomes.get("duplicate", 0)
    revenue = sum(destination.revenue_micros for destination in summary.destinations)
    table.add_row("calls rated", f"{calls:,} of {summary.tenant_count} tenants in {summary.seconds:.1f} s")
    table.add_row("revenue", f"{money(revenue)} {summary.currency}")
    table.add_row("balances", f"{money(summary.balance_micros)} {summary.currency} on all accounts")
    if summary.worker_kills:
        table.add_row("worker", "ended with kill -9 in the middle, and started again")
    return table


def _facts(summary: Summary) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    recharges = summary.recharges
    table.add_row(
        "recharges",
        f"{recharges.succeeded_count} succeeded ({money(recharges.amount_micros)} {summary.currency}), "
        f"{recharges.failed_count} failed",
    )
    if summary.unpaid:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in summary.unpaid.items())
        table.add_row("unpaid", Text(reasons))
    shown = [f"{tenant.tenant_id} ({money(tenant.balance_micros)})" for tenant in summary.suspended[:_NAMES_SHOWN_MAX]]
    more = len(summary.suspended) - len(shown)
    names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    table.add_row("suspended tenants", Text(f"{len(summary.suspended)}: {names}" if names else "none"))
    for name, path in summary.files.items():
        table.add_row(name, Text(path))
    return table
