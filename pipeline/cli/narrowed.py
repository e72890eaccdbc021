"""What a narrow terminal need not show: a table with fewer columns reads better than one of broken words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from pipeline.cli.fitted import cells_needed, fitted

_UUID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class TextColumn(NamedTuple):
    """A column as texts. `name` is the report's own."""

    name: str
    heading: str
    is_number: bool
    texts: Sequence[str]


class Narrowed(NamedTuple):
    """What is shown, and what is said below it instead."""

    columns: list[TextColumn]
    said_once: list[str]
    left_out: list[str]


def narrowed(
    columns: Sequence[TextColumn], width: int, *, said_once: frozenset[str], less_needed: Sequence[str]
) -> Narrowed:
    """Until no word is broken in `width` cells: empty columns go, then those of `said_once` that say the same in every
    row; ids that are UUIDs become their first eight digits; then `less_needed` go, one by one."""
    shown, once, left_out = list(columns), [], []
    for column in _steps(columns, said_once, less_needed):
        if cells_needed([(each.heading, each.texts) for each in shown]) <= width:
            break
        if column is None:
            shown = [_with_short_ids(each) for each in shown]
            continue
        if column.name not in [each.name for each in shown]:
            continue  # it went before, as an empty one
        shown = [each for each in shown if each.name != column.name]
        if not any(column.texts):
            left_out.append(f"{column.heading} (empty)")
        elif column.name in said_once:
            once.append(f"{column.heading} {column.texts[0]}")
        else:
            left_out.append(column.heading)
    return Narrowed(shown, once, left_out)


def table_of(title: str, columns: Sequence[TextColumn], width: int) -> Table:
    """`fitted`, of columns."""
    headings = [(column.heading, column.is_number) for column in columns]
    return fitted(title, headings, list(zip(*(column.texts for column in columns), strict=True)), width)


def _steps(
    columns: Sequence[TextColumn], said_once: frozenset[str], less_needed: Sequence[str]
) -> list[TextColumn | None]:
    """Which column goes, in turn; None: ids become short."""
    empty = [column for column in columns if not any(column.texts)]
    same = [column for column in columns if column.name in said_once and len(set(column.texts)) == 1]
    least = [column for name in less_needed for column in columns if column.name == name]
    return [*empty, *same, None, *least]


def _with_short_ids(column: TextColumn) -> TextColumn:
    return column._replace(texts=[_UUID.sub(r"\1…", text) for text in column.texts])
