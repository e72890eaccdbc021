"""A table file as text -> rows of cells, with every fault as a value that names file, line and column.

Strict: the header must be exact, each row complete. Bad rows are reported and left out; the caller decides what that
means (a worker does not start, `pstn tables check` lists them all).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_DAY

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ISO2 = re.compile(r"[A-Z]{2}")
_LISTED = ";"


class Problem(NamedTuple):
    """What is wrong with a table, and where. `line` 0: the file as a whole; `column` empty: the row as a whole."""

    file: str
    line: int
    column: str
    what: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: column {self.column}: {self.what}" if self.column else f"{place}: {self.what}"


class Source(NamedTuple):
    """A table file: its name as a person would type it, its text, and the digest of its bytes (hex SHA-256).

    An empty digest: the file could not be read, which is reported already.
    """

    name: str
    text: str
    digest: str


def date_ms(text: str) -> int:
    """`2026-03-01` -> ms of its 00:00 UTC. ValueError on any other form and on a day that no calendar has."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is no date like 2026-03-01")
    try:
        return (date.fromisoformat(text).toordinal() - _EPOCH_ORDINAL) * MS_PER_DAY
    except ValueError:
        raise ValueError(f"{text!r} is no day of the calendar") from None


def is_iso2(text: str) -> bool:
    """Two capital letters; whether a country of that code exists is another question."""
    return _ISO2.fullmatch(text) is not None


def is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def rows_of(source: Source, columns: Sequence[str], problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """`(line, cells)` of each row under the exact header; a row of another length is a problem, an empty line none."""
    if not source.digest:
        return
    lines = csv.reader(io.StringIO(source.text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if header != list(columns):
            problems.append(Problem(source.name, 1, "", f"the header must be {','.join(columns)}"))
            return
        width = len(columns)
        for cells in lines:
            if len(cells) == width:
                yield lines.line_num, cells
            elif cells:
                problems.append(Problem(source.name, lines.line_num, "", f"{len(cells)} columns, must be {width}"))
    except csv.Error as error:
        problems.append(Problem(source.name, lines.line_num, "", f"no CSV: {error}"))


class Cells:
    """A row, read cell by cell. A cell of wrong form is reported: `is_good` turns False, a stand-in comes back."""

    __slots__ = ("_cells", "_file", "_problems", "is_good", "line")

    def __init__(
        self, file: str, line: int, columns: Sequence[str], cells: Sequence[str], problems: list[Problem]
    ) -> None:
        self._file = file
        self.line = line
        self._cells = dict(zip(columns, cells, strict=True))
        self._problems = problems
        self.is_good = True

    def wrong(self, column: str, what: str) -> None:
        """Report what is wrong with a cell of this row."""
        self.is_good = False
        self._problems.append(Problem(self._file, self.line, column, what))

    def text(self, column: str) -> str:
        """Any text, perhaps empty."""
        return self._cells[column]

    def trimmed(self, column: str) -> str:
        """Text with no space around it, perhaps empty."""
        text = self._cells[column]
        if text != text.strip():
            self.wrong(column, f"{text!r} must have no space around it")
        return text

    def name(self, column: str) -> str:
        """Text that is there and has no space around it."""
        text = self.trimmed(column)
        if not text:
            self.wrong(column, "must not be empty")
        return text

    def part_of_id(self, column: str) -> str:
        """A name that stands in pool ids, whose parts a colon divides."""
        text = self.name(column)
        if ":" in text:
            self.wrong(column, f"{text!r} has a colon, which divides the parts of a pool's id")
        return text

    def choice(self, column: str, choices: Iterable[str]) -> str:
        """One of a closed list."""
        text = self._cells[column]
        if text not in choices:
            self.wrong(column, f"{text!r} is none of {', '.join(repr(choice) for choice in choices)}")
        return text

    def listed(self, column: str) -> tuple[str, ...]:
        """Texts with `;` between them; an empty cell is no text."""
        text = self._cells[column]
        parts = tuple(text.split(_LISTED)) if text else ()
        if not all(parts) or any(part != part.strip() for part in parts) or len(set(parts)) != len(parts):
            self.wrong(column, f"{text!r} must be a list with ';', each once, without spaces")
        return parts

    def iso2(self, column: str) -> str:
        """An ISO 3166 alpha-2 code by its form."""
        text = self._cells[column]
        if not is_iso2(text):
            self.wrong(column, f"{text!r} must be two capital letters")
        return text

    def whole(self, column: str) -> int:
        """A whole number from 0."""
        text = self._cells[column]
        if not is_digits(text) or len(text) > 9:
            self.wrong(column, f"{text!r} must be a whole number from 0 to 999999999")
            return 0
        return int(text)

    def date_ms(self, column: str) -> int:
        """A date, as ms of its 00:00 UTC."""
        try:
            return date_ms(self._cells[column])
        except ValueError as error:
            self.wrong(column, str(error))
            return 0
