"""`pstn rate`: rates files of calls and commands offline, with the very code that rates the stream."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.money import format_micros
from pipeline.base.resources_io import resource_path
from pipeline.base.rules import Rules
from pipeline.charge.tables_io import TableError, load_tables
from pipeline.debit.slices import Applied
from pipeline.offline_files_io import OutputFiles
from pipeline.offline_io import SLICE_LINES, Line, Offline, ScenarioError, read_scenario

_EXIT_WRONG = 2
_PROGRESS_AFTER_S = 2.0


def rate(
    scenario: Annotated[
        list[Path], typer.Argument(help="files of JSON lines, one after the other; - is standard input")
    ],
    tables: Annotated[Path | None, typer.Option(help="folder of the rating tables [default: those shipped]")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the five files [default: a summary here]")] = None,
    format: Annotated[Literal["jsonl", "csv", "parquet"], typer.Option(help="of the files")] = "jsonl",
    partitions: Annotated[int, typer.Option(min=1, max=10_000, envvar="PSTN_PARTITION_COUNT")] = 12,
    topic_prefix: Annotated[
        str, typer.Option(help="stands before topics in positions", envvar="PSTN_TOPIC_PREFIX")
    ] = "pstn.",
    duplicate_window_days: Annotated[int, typer.Option(min=1, envvar="PSTN_DUPLICATE_WINDOW_DAYS")] = 7,
    call_age_days_max: Annotated[int, typer.Option(min=1, envvar="PSTN_CALL_AGE_DAYS_MAX")] = 400,
    international_quota_closes_domestic: Annotated[
        bool,
        typer.Option(
            help="R23: the end of either quota closes both", envvar="PSTN_INTERNATIONAL_QUOTA_CLOSES_DOMESTIC"
        ),
    ] = False,
    overdraft_allowed: Annotated[
        bool, typer.Option(help="R61: calls that took place are charged below zero", envvar="PSTN_OVERDRAFT_ALLOWED")
    ] = True,
    toll_free_number_type: Annotated[
        list[str] | None, typer.Option(help="number_type that means toll-free; may be repeated [default: TollFree]")
    ] = None,
) -> None:
    """Price and debit calls from files: {"at": TIME, "command" or "cdr" or "cdr_raw": ...} a line.

    Same input, same bytes. A bad call is a reject; a line that is no record ends the run with exit code 2.
    """
    rules = Rules(
        duplicate_window_ms=duplicate_window_days * MS_PER_DAY,
        call_age_ms_max=call_age_days_max * MS_PER_DAY,
        international_quota_closes_domestic=international_quota_closes_domestic,
        overdraft_allowed=overdraft_allowed,
        toll_free_number_types=tuple(toll_free_number_type or Rules().toll_free_number_types),
    )
    try:
        loaded = load_tables(tables or resource_path("rating_tables"))
        offline = Offline(loaded, rules, partition_count=partitions, topic_prefix=topic_prefix)
        applied = _applied(offline, scenario)
        if out is None:
            _show(_summary(offline, applied))
        else:
            _write(offline, applied, out, format)
    except (ScenarioError, TableError) as error:
        raise _fail(str(error)) from None
    except OSError as error:
        raise _fail(f"{error.filename or ''}: {error.strerror}") from None


def _fail(line: str) -> typer.Exit:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
    return typer.Exit(_EXIT_WRONG)


def _applied(offline: Offline, scenario: Sequence[Path]) -> Iterator[Applied]:
    """What each line gave rise to, slice by slice; a progress bar on a terminal when it takes longer than 2 s."""
    sizes = [path.stat().st_size if path.is_file() else 0 for path in scenario]
    console = Console(stderr=True)
    columns = (
        TextColumn("rating"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[calls]:,} lines"),
    )
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    started_s, read_bytes, count, task = time.monotonic(), 0, 0, None
    try:
        for lines in _slices(chain.from_iterable(map(read_scenario, scenario))):
            yield from offline.apply(lines)
            read_bytes += sum(line.size for line in lines)
            count += len(lines)
            if task is not None:
                progress.update(task, completed=read_bytes, calls=count)
            elif time.monotonic() - started_s > _PROGRESS_AFTER_S:
                progress.start()
                task = progress.add_task("", total=sum(sizes) or None, completed=read_bytes, calls=count)
    finally:
        if task is not None:
            progress.stop()


def _slices(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while gathered := list(islice(lines, SLICE_LINES)):
        yield gathered


def _write(offline: Offline, applied: Iterator[Applied], folder: Path, file_format: str) -> None:
    with OutputFiles(folder, file_format) as files:
        for each in applied:
            if each.rated is not None:
                files.write("rated_calls", (each.rated,))
            if each.rejected is not None:
                files.write("rejected", (each.rejected,))
            files.write("account_events", each.events)
            files.write("ledger_entries", each.entries)
        for line in offline.accounts():
            files.write_account(line)


class _Summary:
    """Sums for a person at a terminal; money by currency."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.minutes: Counter[tuple[str, str]] = Counter()
        self.paid_micros: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.reasons: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.balances: Counter[str] = Counter()
        self.account_count = 0
        self.suspended_count = 0


def _summary(offline: Offline, applied: Iterator[Applied]) -> _Summary:
    summary = _Summary()
    for each in applied:
        call = each.rated
        if call is not None:
            key = (call.outcome, call.reason or "")
            summary.outcomes[key] += 1
            summary.minutes[key] += call.billable_minutes
            summary.paid_micros[key][call.currency] += call.debited_micros + call.postpaid_micros
        if each.rejected is not None:
            summary.reasons[each.rejected.reason] += 1
        for event in each.events:
            summary.kinds[event.kind] += 1
    for line in offline.accounts():
        balance_micros = line["balance_micros"]
        assert isinstance(balance_micros, int)
        summary.balances[str(line["currency"])] += balance_micros
        summary.account_count += 1
        summary.suspended_count += line["suspended"] is True
    return summary


def _show(summary: _Summary) -> None:
    console = Console(highlight=False)
    calls = Table(title="Calls", title_justify="left")
    for name in ("outcome", "reason"):
        calls.add_column(name)
    for name in ("calls", "minutes", "paid"):
        calls.add_column(name, justify="right")
    for key, count in sorted(summary.outcomes.items()):
        calls.add_row(*key, f"{count:,}", f"{summary.minutes[key]:,}", _money(summary.paid_micros[key]))
    console.print(calls)
    for title, counts in (("Rejected", summary.reasons), ("Events", summary.kinds)):
        if counts:
            table = Table("", title=title, title_justify="left", show_header=False)
            table.add_column("", justify="right")
            for name, count in sorted(counts.items()):
                table.add_row(name, f"{count:,}")
            console.print(table)
    console.print(
        f"{summary.account_count:,} accounts, {summary.suspended_count:,} suspended, "
        f"balances {_money(summary.balances) or '0'}. With --out DIR every record is written."
    )


def _money(micros_of: Counter[str]) -> str:
    return ", ".join(f"{format_micros(micros)} {name}" for name, micros in sorted(micros_of.items()) if micros)


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
app.command()(rate)

if __name__ == "__main__":
    app()
