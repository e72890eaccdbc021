"""How `pstn status` looks on a terminal. Pure: values in, renderables out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.base.calendar import format_time
from pipeline.base.plain import plain
from pipeline.ops.status import ROLE_TOPICS, PartitionLag, Status

# Wanted of a call is a second from the topic to the warehouse; a minute is worth a look, five are an alarm.
_SLOW_S, _LATE_S = 60, 300


def status_view(status: Status) -> RenderableType:
    """The whole screen."""
    return Lines(_head(status), "", _partitions(status), "", _totals(status), *_notes(status))


def _head(status: Status) -> Text:
    members = ", ".join(f"{group.role} {len(group.members)}" for group in status.groups)
    brokers = f"{status.broker_count} broker{'' if status.broker_count == 1 else 's'}"
    return Text(
        plain(f"{status.prefix}*  at {status.broker} ({brokers})  {format_time(status.at_ms)}  workers: {members}"),
        style="bold",
    )


def _partitions(status: Status) -> Table:
    table = Table(caption="lag: records waiting / age of the oldest; ?: no position is known", caption_justify="left")
    table.add_column("partition", justify="right")
    table.add_column("owner")
    table.add_column("records/s", justify="right")
    for role in ROLE_TOPICS:
        table.add_column(role, justify="right")
    numbers = sorted({lag.partition for lag in status.lags})
    for number in numbers:
        here = [lag for lag in status.lags if lag.partition == number]
        owners = {lag.owner for lag in here if lag.role == "ledger" and lag.owner}
        rate = status.rates.get(number)
        cells = [_cell([lag for lag in here if lag.role == role]) for role in ROLE_TOPICS]
        table.add_row(str(number), ", ".join(sorted(owners)) or "-", "" if rate is None else f"{rate:,.0f}", *cells)
    total_rate = f"{sum(status.rates.values()):,.0f}" if status.rates else ""
    table.add_section()
    cells = [_cell([lag for lag in status.lags if lag.role == role]) for role in ROLE_TOPICS]
    table.add_row("all", "", total_rate, *cells)
    return table


def _cell(lags: Sequence[PartitionLag]) -> Text:
    """Records of all topics, and the oldest of them."""
    if not lags:
        return Text("-")
    records, seconds = sum(lag.lag_records or 0 for lag in lags), max(lag.lag_seconds or 0.0 for lag in lags)
    is_known = all(lag.lag_records is not None for lag in lags)
    if not records:
        return Text("0", style="green") if is_known else Text("?", style="yellow")
    style = "bold red" if seconds >= _LATE_S else "yellow" if seconds >= _SLOW_S or not is_known else ""
    return Text(f"{records:,}{'' if is_known else ' and ?'} / {_age(seconds)}", style=style)


def _age(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _totals(status: Status) -> RenderableType:
    followed = status.followed
    lines = Table.grid(padding=(0, 2))
    reading = "" if followed.read_share >= 1 else f"  (read so far: {followed.read_share:.0%})"
    zero_style = "yellow" if followed.zero_count else ""
    lines.add_row(
        "balances at zero",
        Text(
            f"{followed.zero_count:,} of {followed.account_count:,} accounts, "
            f"{followed.suspended_count:,} suspended{reading}",
            style=zero_style,
        ),
    )
    reasons = sorted(followed.rejects.items(), key=lambda item: -item[1])
    more = "more than " if followed.is_more_rejects else ""
    told = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    total = sum(followed.rejects.values())
    lines.add_row(
        "rejects in an hour",
        Text(plain(f"{more}{total:,}{': ' + told if told else ''}"), style="yellow" if total else ""),
    )
    return lines


def _notes(status: Status) -> list[RenderableType]:
    return [Text(plain(f"! {note}"), style="yellow") for note in status.notes]
