"""A table that fits its terminal: headings are broken before values are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table

# Values longer than the first of these that fits are broken: ids of users are 36 long.
_VALUE_CELLS = (1_000, 24, 16)
_SMALLEST = 5


def fitted(
    title: str, headings: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], console_width: int
) -> Table:
    """`headings`: each with whether its values are numbers. Texts must be `plain` already."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    widths = _widths([heading for heading, _ in headings], rows, console_width)
    for (heading, is_number), width in zip(headings, widths, strict=True):
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    return table


def cells_needed(columns: Sequence[tuple[str, Sequence[str]]]) -> int:
    """The width in which neither a value nor a word of a heading is broken. `columns`: heading and values."""
    widths = [max(_SMALLEST, _words(heading), *map(cell_len, values)) for heading, values in columns]
    return sum(widths) + len(widths) - 1


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]], console_width: int) -> Sequence[int | None]:
    """All None where even broken values do not fit: rich shares what there is."""
    longest = [max((cell_len(row[place]) for row in rows), default=0) for place in range(len(headings))]
    for limit in _VALUE_CELLS:
        widths = [max(_SMALLEST, min(limit, length)) for length in longest]
        room = console_width - sum(widths) - (len(widths) - 1)
        if room >= 0:
            for wished in (_words, _whole):
                needs = sorted((wished(heading) - widths[place], place) for place, heading in enumerate(headings))
                for need, place in needs:
                    if 0 < need <= room:
                        widths[place] += need
                        room -= need
            for need, place in sorted((length - widths[place], place) for place, length in enumerate(longest)):
                given = min(max(0, need), room)
                widths[place] += given
                room -= given
            return widths
    return [None] * len(headings)


def _words(heading: str) -> int:
    return max(map(len, heading.split()), default=0)


def _whole(heading: str) -> int:
    return len(heading)
