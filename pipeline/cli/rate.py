"""`pstn rate`: rates files of calls and commands offline, with the very code that rates the stream."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.base.money import format_micros
from pipeline.charge.tables_io import TableError
from pipeline.cli.failure import fail, stderr
from pipeline.cli.rating_options import Rating, with_rating
from pipeline.cli.terminal import Terminal
from pipeline.debit.slices import Applied
from pipeline.offline_files_io import OutputFiles
from pipeline.offline_io import SLICE_LINES, Line, Offline, ScenarioError, read_scenario

_PROGRESS_AFTER_S = 2.0


@with_rating
def rate(
    *,
    scenario: Annotated[
        list[Path], typer.Argument(help="files of JSON lines, read one after the other; - is standard input")
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder for the five files of records", show_default="none, a summary instead")
    ] = None,
    format: Annotated[Literal["jsonl", "csv", "parquet"], typer.Option(help="of the five files")] = "jsonl",
    rating: Rating,
) -> None:
    """Price and debit calls from files of JSON lines, with the very code that rates the stream.

    A line is {"at": TIME, "command": {...}} or {"at": TIME, "cdr": {...}}, or "cdr_raw" with base64 of a message.
    Same input and settings, same bytes. A bad call is a reject; a line that is no record ends the run: exit code 2.

    Several files are one history. tests/golden/ has a scenario for each rule, with tables of its own.

    Example: pstn rate calls.jsonl --out rated --format csv
    """
    try:
        offline = rating.offline(rating.load_tables())
        applied = _applied(offline, scenario)
        if out is None:
            _show(_summary(offline, applied))
        else:
            _write(offline, applied, out, format)
    except (ScenarioError, TableError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or ''}: {error.strerror}") from None


def _applied(offline: Offline, scenario: Sequence[Path]) -> Iterator[Applied]:
    """What each line gave rise to, slice by slice; a progress bar on a terminal when it takes longer than 2 s."""
    sizes = [path.stat().st_size if path.is_file() else 0 for path in scenario]
    console = Terminal(stderr=True)
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
        for lines in _slices(_one_history(scenario)):
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


def _one_history(scenario: Sequence[Path]) -> Iterator[Line]:
    """All files as one; says so when one of them begins before another has ended, as histories of their own do."""
    until_ms: int | None = None
    back_count = 0
    for path in scenario:
        is_first = True
        for line in read_scenario(path):
            until_ms = line.now_ms if until_ms is None else until_ms
            back_count += is_first and line.now_ms < until_ms
            is_first = False
            until_ms = max(until_ms, line.now_ms)
            yield line
    if back_count:
        stderr.print(
            f"{back_count} of {len(scenario)} files begin before one ahead of them has ended: all were rated as one"
            " history; if each is its own, rate them one by one"
        )


def _slices(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while gathered := list(islice(lines, SLICE_LINES)):
        yield gathered


def _write(offline: Offline, applied: Iterator[Applied], folder: Path, file_format: str) -> None:
    with OutputFiles(folder, file_format) as files:
        for each in applied:
            if (rated := each.rated) is not None:
                files.write("rated_calls", (rated,))
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
        self.first_detail: dict[str, str] = {}
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
            summary.first_detail.setdefault(each.rejected.reason, each.rejected.detail)
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
    console = Terminal()
    calls = Table(title="Calls", title_justify="left")
    for name in ("outcome", "reason"):
        calls.add_column(name)
    for name in ("calls", "minutes", "paid"):
        calls.add_column(name, justify="right")
    for key, count in sorted(summary.outcomes.items()):
        calls.add_row(*key, f"{count:,}", f"{summary.minutes[key]:,}", _money(summary.paid_micros[key]))
    console.print(calls)
    if summary.reasons:
        rejected = Table("reason", title="Rejected", title_justify="left")
        rejected.add_column("count", justify="right")
        rejected.add_column("the first one", overflow="fold")
        for name, count in sorted(summary.reasons.items()):
            rejected.add_row(name, f"{count:,}", summary.first_detail[name])
        console.print(rejected)
    if summary.kinds:
        events = Table("", title="Events", title_justify="left", show_header=False)
        events.add_column("", justify="right")
        for name, count in sorted(summary.kinds.items()):
            events.add_row(name, f"{count:,}")
        console.print(events)
    console.print(
        f"{summary.account_count:,} accounts, {summary.suspended_count:,} suspended, "
        f"balances {_money(summary.balances) or '0'}. With --out DIR every record is written."
    )


def _money(micros_of: Counter[str]) -> str:
    return ", ".join(f"{format_micros(micros)} {name}" for name, micros in sorted(micros_of.items()) if micros)
