"""A rate deck's text -> `Deck` (records.md section 4). Pure, and quick enough for a million rows.

The loop takes each good row with a few look-ups; a row that is not plainly good goes to `_faults`, which says why.
"""

from __future__ import annotations

from pipeline.base.money import MICROS_PER_UNIT, parse_micros
from pipeline.charge.sheet import Cells, Problem, Source, date_ms, is_digits, is_iso2, rows_of
from pipeline.charge.tariff import DIRECTIONS, NUMBER_CLASSES, Deck, RateRow

DECK_COLUMNS = (
    "prefix",
    "direction",
    "number_class",
    "destination",
    "iso2",
    "rate_per_minute",
    "connection_fee",
)
PREFIX_DIGITS_MAX = 15  # E.164
PRICE_MICROS_MAX = 1_000_000 * MICROS_PER_UNIT
"""Of a minute or a connection, in any currency: a call of 30 days at it still fits into 64 bits."""
_DIGEST_DIGITS = 12


def parse_deck(
    source: Source, *, tariff: str, date: str, problems: list[Problem], row_lines: dict[RateRow, int] | None = None
) -> Deck:
    """The deck of `tariff` in force from `date` (a good date). Rows with a fault are reported and left out.

    `row_lines`, when given, is told where each row stands.
    """
    rates: dict[str, int] = {}
    fees: dict[str, int] = {"": 0}
    shared = {text: text for text in ("", *DIRECTIONS, *NUMBER_CLASSES)}
    closed = frozenset(("", *NUMBER_CLASSES))
    countries = {""}
    rows: list[RateRow] = []
    lines: list[int] = []
    for line, cells in rows_of(source, DECK_COLUMNS, problems):
        prefix, direction, number_class, destination, iso2, rate, fee = cells
        if (
            rate not in rates
            or fee not in fees
            or iso2 not in countries
            or number_class not in closed
            or direction not in DIRECTIONS
            or not 0 < len(prefix) <= PREFIX_DIGITS_MAX
            or not is_digits(prefix)
        ):
            if _faults(Cells(source.name, line, DECK_COLUMNS, cells, problems)):
                continue
            countries.add(shared.setdefault(iso2, iso2))
            rates[rate] = parse_micros(rate)
            if fee:
                fees[fee] = parse_micros(fee)
        rows.append(
            RateRow(
                prefix,
                shared[direction],
                shared[number_class],
                shared.setdefault(destination, destination),
                shared[iso2],
                rates[rate],
                fees[fee],
            )
        )
        lines.append(line)
    if row_lines is not None:
        row_lines.update(zip(rows, lines, strict=True))
    digest = source.digest[:_DIGEST_DIGITS]
    deck = Deck(tariff=tariff, valid_from_ms=date_ms(date), table_version=(tariff, date, digest), rows=rows)
    if deck.row_count != len(rows):
        _report_duplicates(source.name, rows, lines, problems)
    return deck


def _faults(cells: Cells) -> bool:
    """Report everything that is wrong with a row; False when nothing is."""
    prefix = cells.text("prefix")
    if not 0 < len(prefix) <= PREFIX_DIGITS_MAX or not is_digits(prefix):
        cells.wrong("prefix", f"{prefix!r} must be 1 to {PREFIX_DIGITS_MAX} digits")
    cells.choice("direction", DIRECTIONS)
    cells.choice("number_class", (*NUMBER_CLASSES, ""))
    iso2 = cells.text("iso2")
    if iso2 and not is_iso2(iso2):
        cells.wrong("iso2", f"{iso2!r} must be two capital letters or empty")
    _money(cells, "rate_per_minute", is_optional=False)
    _money(cells, "connection_fee", is_optional=True)
    return not cells.is_good


def _money(cells: Cells, column: str, *, is_optional: bool) -> None:
    text = cells.text(column)
    if is_optional and not text:
        return
    try:
        micros = parse_micros(text)
        if micros < 0:
            cells.wrong(column, f"{text!r} is negative")
        elif micros > PRICE_MICROS_MAX:
            cells.wrong(column, f"{text!r} is more than {PRICE_MICROS_MAX // MICROS_PER_UNIT:,}, which no call costs")
    except ValueError as error:
        cells.wrong(column, str(error))


def _report_duplicates(file: str, rows: list[RateRow], lines: list[int], problems: list[Problem]) -> None:
    first: dict[tuple[str, str, str], tuple[int, tuple[int, int]]] = {}
    for row, line in zip(rows, lines, strict=True):
        key = (row.prefix, row.direction, row.number_class)
        if key in first:
            first_line, price = first[key]
            word = "the same price" if price == row.price else "another price"
            what = f"{row.direction} {row.prefix} {row.number_class}".strip()
            problems.append(Problem(file, line, "prefix", f"{what} stands already in line {first_line}, at {word}"))
        else:
            first[key] = (line, row.price)
