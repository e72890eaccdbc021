"""`pstn tables`: what is wrong with the rating tables, what a new deck changes, and how a published one gets in."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import pycountry
import typer

from pipeline.base.money import format_micros
from pipeline.base.resources_io import resource_path
from pipeline.charge.check import Folder, check
from pipeline.charge.diff import Change, count_kinds, diff_decks
from pipeline.charge.finding import Severity
from pipeline.charge.import_io import NewTariff, import_deck
from pipeline.charge.sheet import date_ms
from pipeline.charge.tables import TARIFF_KINDS, Tables
from pipeline.charge.tables_io import Lines, TableError, deck_file, load_deck, load_tables, read_tables
from pipeline.charge.tariff import Deck
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.tables_text import deck_name, print_changes, print_findings, print_tariffs
from pipeline.cli.terminal import Terminal

app = typer.Typer(
    no_args_is_help=True, help="Check the rating tables, compare two decks, take in a published one. Reads files only."
)

_WIDTH = 160  # of a table that goes into a file or a pipe

Output = Literal["table", "json"]


@app.command(name="check")
def check_command(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="folder of tables", show_default="PSTN_TABLES, else those shipped"),
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(metavar="DIR", help="the tables in use before: what got lost?")
    ] = None,
    output: Annotated[Output, typer.Option("--format", help="table for a person, json for a program")] = "table",
) -> None:
    """List everything that the tables could do to money. Errors: exit code 1. Warnings only: 0.

    Example: pstn tables check new_tables --previous rating_tables
    """
    folder = folder or load_settings().tables or resource_path("rating_tables")
    for place in (folder, previous):
        if place is not None and not place.is_dir():
            raise fail(f"{place} is no folder")
    lines: Lines = {}
    with one_line():
        tables, problems = read_tables(folder, lines)
        old = read_tables(previous)[0] if previous else None
    found = Folder(tables, lambda deck: str(deck_file(folder, deck)), lines, lambda name: str(folder / name))
    findings = check(found, problems, old, _is_country)
    error_count = sum(finding.severity is Severity.ERROR for finding in findings)
    if output == "json":
        typer.echo(
            json.dumps(
                {
                    "tables": str(folder),
                    "errors": error_count,
                    "warnings": len(findings) - error_count,
                    "findings": [{"severity": f.severity, **f._asdict()} for f in findings],
                },
                indent=1,
                ensure_ascii=False,
            )
        )
    else:
        console = Terminal(soft_wrap=True)
        print_tariffs(console, tables)
        print_findings(console, findings, str(folder))
    if error_count:
        raise typer.Exit(1)


@app.command(name="diff")
def diff_command(
    old: Annotated[Path, typer.Argument(help="a deck file, or a folder of tables (each tariff's last deck)")],
    new: Annotated[Path, typer.Argument(help="the same kind of thing")],
    output: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="json and csv have all rows")
    ] = "table",
    limit: Annotated[int, typer.Option(min=1, help="rows shown in the table")] = 40,
) -> None:
    """Show what a new deck changes for a call of one minute: the largest effect first.

    Example: pstn tables diff rating_tables new_tables --format csv
    """
    with one_line():
        pairs = _pairs(old, new)
    changes = [(before, after, diff_decks(before, after)) for before, after in pairs]
    if output == "json":
        decks = [
            {
                "tariff": after.tariff,
                "old": before.table_version,
                "new": after.table_version,
                "counts": count_kinds(found),
                "changes": [{**change._asdict(), "effect_micros": change.effect_micros} for change in found],
            }
            for before, after, found in changes
        ]
        typer.echo(json.dumps({"decks": decks}, indent=1, ensure_ascii=False))
    elif output == "csv":
        _write_csv((after.tariff, change) for _, after, found in changes for change in found)
    else:
        console = Terminal(width=None if sys.stdout.isatty() else _WIDTH)
        for before, after, found in changes:
            print_changes(console, before, after, found, limit)


@app.command(name="import")
def import_command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE.csv", help="a published deck")],
    tariff: Annotated[str, typer.Option(help="the tariff that it becomes a deck of")],
    date: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="in force from 00:00 UTC of that day")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="the folder of tables")],
    currency: Annotated[str | None, typer.Option(help="of a new tariff", show_default="what the source says")] = None,
    kind: Annotated[str, typer.Option(help=f"of a new tariff: {' or '.join(TARIFF_KINDS)}")] = TARIFF_KINDS[0],
    description: Annotated[str | None, typer.Option(help="of a new tariff: say so here if it is a proxy")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a deck of that date")] = False,
) -> None:
    """Turn a published deck into a dated one of a tariff.

    Columns are bound by name, in any order; two forms are known:

    Destination Name, Destination Type, Country, Prefix, Price / min;

    prefix, iso2, destination, number_class, rate_per_min, and perhaps connection_fee and currency.

    The inbound rows of the tariff's deck before it are carried over, because a deck is whole.

    Example: pstn tables import published.csv --tariff acs_proxy_usd --date 2026-04-01 --out rating_tables
    """
    try:
        date_ms(date)
    except ValueError as error:
        raise fail(f"--date: {error}") from None
    with one_line():
        made = import_deck(
            source, out, tariff=tariff, date=date, new=NewTariff(currency, kind, description), is_forced=force
        )
    typer.echo(f"{made.file}: {made.deck.row_count} rows, {made.inbound_count} of them inbound and carried over")
    if made.repeated_count:
        typer.echo(f"{made.repeated_count} rows stood there twice at one price and count once")
    if made.is_new_tariff:
        typer.echo(f"tariffs.csv: {tariff} added")
    if made.before is not None:
        counts = ", ".join(f"{count} {name}" for name, count in count_kinds(diff_decks(made.before, made.deck)).items())
        typer.echo(f"against {deck_name(made.before)}: {counts}")
    typer.echo(f"next: pstn tables check {out}")


def _pairs(old: Path, new: Path) -> list[tuple[Deck, Deck]]:
    if old.is_file() and new.is_file():
        return [(load_deck(old), load_deck(new))]
    if not (old.is_dir() and new.is_dir()):
        raise TableError(f"{old} and {new} must be two deck files or two folders of tables")
    before, after = _last_decks(load_tables(old)), _last_decks(load_tables(new))
    shared = [name for name in after if name in before]
    if not shared:
        raise TableError(f"{old} and {new} have no tariff in common")
    return [(before[name], after[name]) for name in shared]


def _last_decks(tables: Tables) -> dict[str, Deck]:
    return {name: tariff.decks[-1] for name, tariff in tables.tariffs.items()}


def _write_csv(rows: Iterable[tuple[str, Change]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("tariff", *Change._fields[:6], "old_price", "new_price", "effect", "note"))
    for tariff, change in rows:
        prices = ("" if micros is None else format_micros(micros, 4) for micros in change[6:8])
        writer.writerow((tariff, *change[:6], *prices, format_micros(change.effect_micros, 4), change.note))


@cache
def _is_country(iso2: str) -> bool:
    return pycountry.countries.get(alpha_2=iso2) is not None
