"""One report as somebody wishes to have it: on the terminal, on standard output, or in a file that appears whole."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.base.calendar import format_time
from pipeline.cli.failure import fail, stderr
from pipeline.cli.report_table import print_chart, print_rows, usage_total_line
from pipeline.cli.terminal import Terminal
from pipeline.warehouse.chart import Bar
from pipeline.warehouse.chosen import Chosen, calls_condition, direct_routing_condition
from pipeline.warehouse.export_io import write_archive, write_csv, write_json, write_parquet, written_beside
from pipeline.warehouse.reports import Report, chart_sql, report_sql, summed_columns, totals_sql
from pipeline.warehouse.store import Rows, Store, literal

Format = Literal["table", "csv", "json", "xlsx", "parquet"]
_FORMAT_OF_ENDING: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".txt": "table",
}
_ENDINGS = ", ".join(list(_FORMAT_OF_ENDING)[:-1]) + f" or {list(_FORMAT_OF_ENDING)[-1]}"
_PROGRESS_ROWS = 1_000


class Wish(NamedTuple):
    """What was asked for on the command line, but for the filter."""

    format: Format | None
    output: Path | None
    chart: Path | None
    is_archive: bool
    is_masking: bool
    is_forced: bool
    rows_max: int


def run(store: Store, report: Report, chosen: Chosen, wish: Wish) -> None:
    """Writes the report. One line and exit code 2 for what cannot be done, or not written."""
    if chosen.tenant_id is not None:
        check_tenant(store, chosen.tenant_id)
    output = wish.output
    if wish.is_archive and output is None:
        # The same wish, the same name, as an identifier in a name should be.
        identifier = uuid.uuid5(uuid.NAMESPACE_URL, repr((chosen, wish.is_masking)))
        output = Path(f"Export.callingplans.{identifier}.zip")
    chosen = chosen._replace(is_calling_plans=wish.is_archive)
    shape = _shape(wish, output)
    if shape in ("xlsx", "parquet") and output is None:
        raise fail(f"--format {shape} needs a file: --output {report.name}.{shape}")
    if output is not None and wish.chart is not None and os.path.realpath(output) == os.path.realpath(wish.chart):
        raise fail(f"--output and --chart are both {output}: name two files")
    for option, path in (("--output", output), ("--chart", wish.chart)):
        if path is not None:
            check_place(option, path, is_forced=wish.is_forced)
    if output is None:
        count = _to_stdout(store, report, chosen, wish, shape)
    else:
        count = _to_file(store, report, chosen, wish, shape, output)
        stderr.print(f"{count:,} rows in {output}")
    if wish.is_archive:
        _say_left_out(store, chosen)
    if count == 0:
        _say_nothing_found(store, report, chosen, is_table=shape == "table" and output is None)
    if wish.chart is not None:
        _draw(store, report, chosen, wish.chart)


def _shape(wish: Wish, output: Path | None) -> Format:
    if wish.format is not None:
        return wish.format
    if wish.is_archive or output is None:
        return "table"
    ending = output.suffix.lower()
    if ending not in _FORMAT_OF_ENDING:
        zip_too = "; --zip makes one" if ending == ".zip" else ""
        raise fail(f"{output}: the name must end in {_ENDINGS}, or say --format{zip_too}")
    return _FORMAT_OF_ENDING[ending]


def _to_stdout(store: Store, report: Report, chosen: Chosen, wish: Wish, shape: Format) -> int:
    if shape == "table":
        return _print(store, report, chosen, wish, Terminal(soft_wrap=False))
    answer = store.query(report_sql(report, chosen, is_masking=wish.is_masking))
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]  # \r\n must stay as it is
    return (write_csv if shape == "csv" else write_json)(answer, sys.stdout)


@contextmanager
def placed(file: Path) -> Iterator[Path]:
    """Where to write what becomes `file` when it is whole; one line when the disk does not take it."""
    try:
        with written_beside(file) as path:
            yield path
    except OSError as error:
        raise fail(f"{file}: {os.strerror(error.errno) if error.errno else error}: it was not written") from None


def _to_file(store: Store, report: Report, chosen: Chosen, wish: Wish, shape: Format, output: Path) -> int:
    if shape == "table" and not wish.is_archive:
        with placed(output) as path, path.open("w", encoding="utf-8") as out:
            return _print(store, report, chosen, wish, Terminal(file=out, width=160, no_color=True))
    answer = store.query(report_sql(report, chosen, is_masking=wish.is_masking))
    with placed(output) as path, _progress(store, report, chosen, answer) as shown:
        if wish.is_archive:
            today = datetime.now(UTC).date()
            return write_archive(shown, path, day=today, parameters=_parameters(chosen))
        if shape == "xlsx":
            from pipeline.warehouse.workbook_io import write_workbook

            return write_workbook(shown, report, report.columns, path, _summary(store, report, chosen, wish))
        if shape == "parquet":
            return write_parquet(shown, report.columns, path)
        with path.open("w", encoding="utf-8", newline="") as out:
            return (write_csv if shape == "csv" else write_json)(shown, out)


def _print(store: Store, report: Report, chosen: Chosen, wish: Wish, console: Console) -> int:
    sql = report_sql(report, chosen, is_masking=wish.is_masking)
    shown_count = print_rows(store.query(f"{sql}\nLIMIT {wish.rows_max}"), report, console, rows_max=wish.rows_max)
    if not shown_count:
        return 0
    bars = chart_bars(store, report, chosen)
    row_count = sum(bar.row_count for bar in bars)
    what = "calls" if report.name == "usage" else "rows"
    if row_count > shown_count:
        console.print(f"the first {shown_count:,} of {row_count:,} {what}; --format csv or json has them all")
    if report.name == "usage":
        totals: Iterator[Any] = store.query(totals_sql(report, chosen)).rows
        for total in totals:
            console.print(usage_total_line(*total))
    print_chart(bars, report, console)
    return shown_count


def chart_bars(store: Store, report: Report, chosen: Chosen) -> list[Bar]:
    """The data of the report's chart."""
    rows: Iterator[Any] = store.query(chart_sql(report, chosen)).rows
    return [Bar(str(label), str(unit), Decimal(total), count) for label, unit, total, count in rows]


def _say_left_out(store: Store, chosen: Chosen) -> None:
    sql = f"SELECT count() FROM rated_calls FINAL WHERE {direct_routing_condition(chosen)}"
    [(count,)] = store.query(sql).rows
    if int(str(count)):
        stderr.print(f"{count:,} calls of Direct Routing left out: the archive is of calling plans; a .csv has them")


def _draw(store: Store, report: Report, chosen: Chosen, path: Path) -> None:
    from pipeline.warehouse.chart_io import write_chart

    bars = chart_bars(store, report, chosen)
    title = report.title + (f", {chosen.tenant_id}" if chosen.tenant_id else "") + f": {report.chart.title}"
    with placed(path) as beside:
        write_chart(beside, title=title, bars=bars, is_timeline=report.chart.is_timeline, ending=path.suffix.lower())
    stderr.print(f"chart in {path}")


def _summary(store: Store, report: Report, chosen: Chosen, wish: Wish) -> Any:
    from pipeline.warehouse.workbook_io import Summary, Sums

    sums = []
    for unit, row_count, *amounts in store.query(totals_sql(report, chosen)).rows:
        if report.name == "usage":  # connected seconds, then the charge in micros
            named = {column.name: column for column in report.columns}
            seconds, micros = (int(str(amount)) for amount in amounts)
            pairs: Sequence[Any] = (
                (named["Duration Seconds"], seconds),
                (named["Charge"]._replace(kind="money"), Decimal(micros).scaleb(-6)),
            )
        else:
            pairs = list(zip(summed_columns(report), amounts, strict=True))
        sums.append(Sums(str(unit), int(str(row_count)), pairs))
    facts = [
        ("About", report.about),
        ("Tenant", chosen.tenant_id or "all"),
        ("From (UTC)", "the first call" if chosen.from_ms is None else format_time(chosen.from_ms)),
        ("To (UTC), not included", "the last call" if chosen.to_ms is None else format_time(chosen.to_ms)),
        *((name, value) for name, value in _filters(chosen).items() if value is not None),
        ("Warehouse", store.name),
        ("Written (UTC)", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"),
    ]
    if report.name == "usage":
        facts.append(("Numbers", "masked as the organisation's country asks" if wish.is_masking else "in full"))
    return Summary(facts, sums, chart_bars(store, report, chosen))


def _filters(chosen: Chosen) -> dict[str, str | None]:
    return {"User": chosen.user, "Capability": chosen.capability, "Country": chosen.country}


def _parameters(chosen: Chosen) -> dict[str, object]:
    """The export's `parameters.json`: the chosen range and capabilities, and what else was chosen."""
    return {
        "startDateTime": None if chosen.from_ms is None else format_time(chosen.from_ms),
        "endDateTime": None if chosen.to_ms is None else format_time(chosen.to_ms),
        "capabilities": [] if chosen.capability is None else [chosen.capability],
        "tenant": chosen.tenant_id,
        "user": chosen.user,
        "country": chosen.country,
    }


@contextmanager
def _progress(store: Store, report: Report, chosen: Chosen, answer: Rows) -> Iterator[Rows]:
    """The same rows, counted on the terminal as they pass."""
    if not stderr.is_terminal:
        yield answer
        return
    expected = sum(int(str(row[1])) for row in store.query(totals_sql(report, chosen)).rows)
    columns = (TextColumn(report.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        bar = progress.add_task("rows", total=expected)

        def counted() -> Iterator[tuple[object, ...]]:
            for index, row in enumerate(answer.rows):
                if index % _PROGRESS_ROWS == 0:
                    progress.update(bar, completed=index)
                yield row

        yield Rows(answer.names, counted())


def check_place(option: str, path: Path, *, is_forced: bool) -> None:
    """A file that is there is replaced only if somebody says so, and nothing else ever; a folder that is not there is
    said now, not later."""
    try:
        is_there, folder = path.exists(), Path(os.path.realpath(path)).parent
        if path.is_dir():
            raise fail(f"{option} {path} is a folder: name a file in it")
        if is_there and not path.is_file():
            instead = "leave --output out to write to standard output" if option == "--output" else "name another"
            raise fail(f"{option} {path} is no plain file: {instead}")
        if not is_there and not folder.is_dir():
            raise fail(f"{option} {path}: there is no folder {folder}")
    except OSError as error:
        raise fail(f"{option} {path}: {error.strerror}") from None
    if is_there and not is_forced:
        question = f"{path} is there already"
        if not sys.stdin.isatty():
            raise fail(f"{question}: --force replaces it")
        if not typer.confirm(f"{question}. Replace it?", err=True):
            raise fail("nothing was written")


def check_tenant(store: Store, tenant_id: str) -> None:
    """One line for a tenant of whom the warehouse knows nothing at all."""
    tenant = literal(tenant_id)
    tables = ("accounts", "rated_calls", "ledger_entries")
    known = " UNION ALL ".join(f"SELECT tenant_id FROM {table} WHERE tenant_id = {tenant} LIMIT 1" for table in tables)
    if any(True for _ in store.query(known).rows):
        return
    others = [str(row[0]) for row in store.query("SELECT DISTINCT tenant_id FROM accounts LIMIT 100000").rows]
    close = get_close_matches(tenant_id, others, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "names are written exactly as in the call records"
    raise fail(f"the warehouse knows no tenant {tenant_id!r}: {hint}")


def _option_of_no_call(store: Store, chosen: Chosen) -> str | None:
    """The option that would find nothing alone, in whatever period."""
    for option in ("user", "capability", "country"):
        value = getattr(chosen, option)
        if value is None:
            continue
        alone = Chosen(chosen.tenant_id)._replace(**{option: value})
        if not list(store.query(f"SELECT 1 FROM rated_calls WHERE {calls_condition(alone)} LIMIT 1").rows):
            return f"--{option} {value!r}" + (": ids are written as in the call records" if option == "user" else "")
    return None


def _say_nothing_found(store: Store, report: Report, chosen: Chosen, *, is_table: bool) -> None:
    """Where there is something, so that nobody has to guess."""
    mine = "1" if chosen.tenant_id is None else f"tenant_id = {literal(chosen.tenant_id)}"
    bounds = f"SELECT count(), min(start_time_ms), max(start_time_ms) FROM rated_calls WHERE {mine}"
    [(count, first_ms, last_ms)] = store.query(bounds).rows
    check = "; check the period and the other options"
    if not int(str(count)):
        where = "the warehouse has no calls at all" if chosen.tenant_id is None else "this tenant has no calls at all"
    elif foreign := _option_of_no_call(store, chosen):
        where, check = f"no call{' of this tenant' if chosen.tenant_id else ''} has {foreign}", ""
    else:
        where = f"calls began between {format_time(int(str(first_ms)))} and {format_time(int(str(last_ms)))}"
    line = f"no {'calls' if report.name == 'usage' else 'rows'}: {where}{check}"
    if is_table:
        typer.echo(line)
    else:
        stderr.print(line)
