"""How findings and changes of the rating tables look on a terminal. Colour only there: rich sees to that."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.base.money import format_micros
from pipeline.base.plain import plain
from pipeline.charge.diff import Change, count_kinds
from pipeline.charge.finding import Finding, Severity
from pipeline.charge.tables import Tables
from pipeline.charge.tariff import Deck

_COLOURS = {"added": "cyan", "removed": "magenta", "dearer": "red", "cheaper": "green", "relabelled": "yellow"}


def deck_name(deck: Deck) -> str:
    """`tariff 2025-10-15 (12 hex digits)`."""
    tariff, date, digest = deck.table_version
    return f"{tariff} {date} ({digest})"


def print_tariffs(console: Console, tables: Tables) -> None:
    """Which prices these are: name, currency, decks, and the description that says so when they are a proxy."""
    for tariff in tables.tariffs.values():
        decks = ", ".join(f"{deck.table_version[1]} ({deck.row_count:,} rows)" for deck in tariff.decks)
        console.print(Text(plain(tariff.name), style="bold"), f"{tariff.currency} {tariff.kind}: {decks or 'no deck'}")
        console.print(f"  {tariff.description}")


def print_findings(console: Console, findings: Sequence[Finding], folder: str) -> None:
    """Two lines each, errors first: where and which kind, then what. Places are relative to the folder checked."""
    for finding in findings:
        colour = "red" if finding.severity is Severity.ERROR else "yellow"
        place = finding.place.removeprefix(folder).lstrip("/")
        column = f"column {finding.column}: " if finding.column else ""
        console.print(Text(finding.severity, style=colour), place, Text(finding.kind, style="bold"))
        console.print(f"  {column}{finding.what}")
    error_count = sum(finding.severity is Severity.ERROR for finding in findings)
    verdict = "not usable" if error_count else "usable"
    console.print(f"{verdict}; errors: {error_count}, warnings: {len(findings) - error_count}")


def print_changes(console: Console, old: Deck, new: Deck, changes: Sequence[Change], limit: int) -> None:
    """The first `limit` changes of one tariff, and how many there are of each kind."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in count_kinds(changes).items())
    console.print(Text(plain(f"{deck_name(old)} -> {deck_name(new)}"), style="bold"), f": {counts}", sep="")
    if not changes:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "prefix", "class", "destination", "was", "is", "effect", ""):
        table.add_column(name, justify="right" if name in ("was", "is", "effect") else "left")
    for change in changes[:limit]:
        table.add_row(
            Text(change.kind, style=_COLOURS[change.kind]),
            f"{change.prefix} {change.direction[:-5]}",
            change.number_class,
            f"{change.destination} {change.iso2}",
            _price(change.old_price_micros),
            _price(change.new_price_micros),
            ("+" if change.effect_micros > 0 else "") + format_micros(change.effect_micros, 4),
            change.note,
        )
    console.print(table)
    if len(changes) > limit:
        console.print(
            f"... and {len(changes) - limit:,} more with less effect (--limit, --format csv)", highlight=False
        )


def _price(micros: int | None) -> str:
    return "-" if micros is None else format_micros(micros, 4)
