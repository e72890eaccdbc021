"""What becomes SQL, and what becomes cells of a report."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.calendar import parse_time
from pipeline.warehouse.cells import csv_cell
from pipeline.warehouse.chosen import Chosen, PeriodError, parse_period
from pipeline.warehouse.migrations import MigrationError, parse_engine, parse_migration, pending
from pipeline.warehouse.native_io import native_block, native_header, rows_of
from pipeline.warehouse.privacy import retention_steps
from pipeline.warehouse.store import (
    ColumnType,
    FolderAddress,
    ServerAddress,
    StoreRefused,
    hide_password,
    literal,
    parse_address,
)
from pipeline.warehouse.usage import USAGE_COLUMNS, usage_sql, usage_totals_sql


@given(st.text())
def test_a_text_in_sql_ends_where_its_quote_ends(text: str) -> None:
    """A tenant called `' OR 1=1 --` sees his own calls only."""
    inside = literal(text)[1:-1]
    unescaped = inside.replace("\\\\", "").replace("\\'", "").replace("\\0", "")
    assert "'" not in unescaped
    assert "\\" not in unescaped
    assert "\x00" not in inside


CURRENT_ENGINE = parse_engine("26.9.2.1")


def test_both_queries_of_the_usage_report_carry_the_whole_filter() -> None:
    chosen = Chosen("o'tenant", parse_time("2026-03-01T00:00:00Z"), parse_time("2026-04-01T00:00:00Z"))
    for sql in (usage_sql(chosen), usage_totals_sql(chosen)):
        assert "tenant_id = 'o\\'tenant'" in sql
        assert "start_time_ms >= 1772323200000" in sql
        assert "start_time_ms < 1775001600000" in sql
        assert "outcome != 'duplicate'" in sql
        assert "rated_calls FINAL" in sql


@pytest.mark.parametrize(
    ("from_text", "to_text", "expected"),
    [
        ("2026-02", "2026-02", ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z")),
        ("2026-02-28", "2026-02-28", ("2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z")),
        ("2025-12", "2025-12-31", ("2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z")),
        ("2026-02-28T10:00:00.5Z", "2026-02-28T11:00:00Z", ("2026-02-28T10:00:00.500Z", "2026-02-28T11:00:00Z")),
        (None, None, (None, None)),
    ],
)
def test_days_and_months_are_included_at_both_ends_and_times_are_exact(
    from_text: str | None, to_text: str | None, expected: tuple[str | None, str | None]
) -> None:
    """`--from 2026-03 --to 2026-03` is March, whole: what a person means."""
    wanted = tuple(None if text is None else parse_time(text) for text in expected)
    assert parse_period(from_text, to_text) == wanted


@pytest.mark.parametrize(
    ("from_text", "to_text", "words"),
    [
        ("2026-03-02", "2026-03-01", "ends (2026-03-01) before it begins (2026-03-02)"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", "before it begins"),
        ("2026-13", None, "'2026-13' is no day"),
        ("yesterday", None, "'yesterday' is no day"),
        (None, "2026-03-01T10:00:00", "is no day"),
        (None, "9999-12", "is no day"),
        ("2026-02-30", None, "is no day"),
    ],
)
def test_a_period_that_cannot_be_meant_is_refused_in_one_line(
    from_text: str | None, to_text: str | None, words: str
) -> None:
    with pytest.raises(PeriodError) as caught:
        parse_period(from_text, to_text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


FORMULAS = [
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "+", "+49*3"),
    *("\t=1", "\r=1", "\n=1+1", "\0=1", "\ufeff=1", "\0\n=1"),
    *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", "\uff0b4930123456"),
]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(text: str) -> None:
    """A display name is the customer's own text, and finance opens the file in Excel."""
    assert csv_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["+4930123456", "+49301234***", "*****", "Anna", "", "1-2", "a=b", "O'Neil"])
def test_numbers_and_plain_text_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text


@pytest.mark.parametrize(("value", "text"), [(Decimal("0"), "0.00"), (Decimal("1.5"), "1.50"), (-3, "-3"), (None, "")])
def test_money_has_two_decimals_and_nothing_is_empty(value: object, text: str) -> None:
    """Engines show a Decimal of zero as 0."""
    assert csv_cell(value) == text


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_no_cell_of_a_csv_begins_like_a_formula(cells: list[str]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([csv_cell(cell) for cell in cells])
    [read] = [row for row in csv.reader(io.StringIO(out.getvalue(), newline="")) if row] or [[""]]
    for cell in read:
        assert cell[:1] not in tuple("=-@\t\r\n\0\ufeff\uff1d\uff0b\uff0d\uff20")
        assert cell[:1] != "+" or cell[1:].rstrip("*").isdigit()


def test_the_report_has_the_exports_25_columns_in_their_order() -> None:
    assert len(USAGE_COLUMNS) == 25
    assert USAGE_COLUMNS[:5] == ("UsageId", "Call ID", "Conference ID", "User Location", "Microsoft Entra ObjectId")
    assert USAGE_COLUMNS[-1] == "Administrative Units"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("chdb:data/warehouse", FolderAddress("data/warehouse")),
        ("clickhouse://h", ServerAddress("h", 9000, "default", "default", "", False)),
        ("clickhouse://u:p%40ss@h:1234/calls", ServerAddress("h", 1234, "calls", "u", "p@ss", False)),
        ("clickhouses://h/calls", ServerAddress("h", 9440, "calls", "default", "", True)),
    ],
)
def test_a_warehouse_is_a_server_or_a_folder(url: str, address: object) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url", ["", "chdb:", "warehouse", "http://h/x", "clickhouse://", "clickhouse://h:0/x", "clickhouse://h:99999/x"]
)
def test_what_is_neither_is_refused_with_what_to_type(url: str) -> None:
    with pytest.raises(StoreRefused, match="type clickhouse://HOST:PORT/DATABASE or chdb:FOLDER"):
        parse_address(url)


def test_no_message_shows_a_password() -> None:
    assert hide_password("clickhouse://u:secret@h/x/y") == "clickhouse://h/x/y"
    with pytest.raises(StoreRefused) as caught:
        parse_address("clickhouse://u:secret@h/x/y")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("character", ["a", "'", "\N{SATELLITE}", "\N{GRINNING FACE}"])
def test_a_mutation_that_names_thousands_of_users_fits_into_statements(character: str) -> None:
    """A server reads 256 KiB of one: from some day on it would refuse the daily purge, and names would stay."""
    users = [(f"{number:04d}".ljust(64, character), f"{number:04d}".rjust(64, character)) for number in range(2_500)]
    [step] = [step for step in retention_steps(parse_time("2026-03-01T00:00:00Z")) if step.table == "users"]
    statements = step.update_sqls(users)
    assert max(len(statement.encode()) for statement in statements) <= 256 * 1024
    assert "".join(statements).count("('") == len(users)


def test_rows_handed_to_the_driver_stay_as_they_are() -> None:
    """It puts 0 in the place of null in the very list it gets: the second try would insert other rows."""
    nulls: list[object] = [None, 1]
    columns = [ColumnType("a", "Nullable(Int64)"), ColumnType("b", "String")]
    first = native_block(columns, [nulls, ["x", "y"]])
    assert nulls == [None, 1]
    assert native_block(columns, [nulls, ["x", "y"]]) == first


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        native_block([ColumnType("a", "String"), ColumnType("b", "String")], [["x"], []])


def test_a_migration_is_its_statements_whatever_its_comments() -> None:
    text = "-- why; it is\nCREATE TABLE a (\n    x String COMMENT 'a; b'\n) ENGINE = Log;\n\nSELECT 1;\n"
    migration = parse_migration("0007_two_statements.sql", text)
    assert migration.version == 7
    assert migration.statements == ("CREATE TABLE a (\n    x String COMMENT 'a; b'\n) ENGINE = Log", "SELECT 1")
    assert parse_migration("0007_two_statements.sql", "-- other\n" + text).digest == migration.digest


def test_migrations_are_applied_in_order_and_only_once() -> None:
    second, first = (parse_migration(f"000{number}_x.sql", f"SELECT {number};") for number in (2, 1))
    assert pending([second, first], {}, CURRENT_ENGINE) == [first, second]
    assert pending([second, first], {1: first.digest}, CURRENT_ENGINE) == [second]
    assert pending([second, first], {1: first.digest, 2: second.digest}, CURRENT_ENGINE) == []


def test_a_migration_waits_for_the_engine_that_it_needs() -> None:
    """18.16 knows no such setting; when a newer server takes its place, the tables get it."""
    old = parse_migration("0001_x.sql", "SELECT 1;")
    new = parse_migration("0002_y.sql", "-- why\n-- Needs ClickHouse 23.3.\nSELECT 2;")
    assert pending([old, new], {}, parse_engine("18.16.1")) == [old]
    assert pending([old, new], {1: old.digest}, parse_engine("23.3.2.37")) == [new]
    assert pending([old, new], {1: old.digest}, parse_engine("26.9.2.1")) == [new]
    with pytest.raises(MigrationError, match="version is 'x'"):
        parse_engine("x")


def test_a_migration_edited_after_it_was_applied_is_refused() -> None:
    """The tables would differ between two installations that both say 0001."""
    migration = parse_migration("0001_x.sql", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0001_x\.sql was edited after it was applied"):
        pending([migration], {1: "another digest"}, CURRENT_ENGINE)


def test_two_migrations_with_one_number_are_refused() -> None:
    with pytest.raises(MigrationError, match="the same number"):
        pending(
            [parse_migration("0001_a.sql", "SELECT 1;"), parse_migration("0001_b.sql", "SELECT 2;")], {}, CURRENT_ENGINE
        )


@pytest.mark.parametrize(("name", "text"), [("1_a.sql", "SELECT 1;"), ("0001_a.sql", "-- nothing\n;")])
def test_a_file_that_is_no_migration_is_refused(name: str, text: str) -> None:
    with pytest.raises(MigrationError, match=name):
        parse_migration(name, text)


@given(
    st.lists(st.lists(st.tuples(st.text(), st.integers(0, 2**31), st.none() | st.integers(-9, 9)))), st.integers(1, 99)
)
def test_an_answer_is_the_same_wherever_its_stream_is_cut(blocks: list[list[Any]], size: int) -> None:
    """Loopback and disk cut it anywhere, inside a number too; the engine cuts it into blocks as it likes."""
    columns = [ColumnType("name", "String"), ColumnType("count", "Int64"), ColumnType("rate", "Nullable(Int64)")]
    names = tuple(column.name for column in columns)
    stream = native_header(names) + b"".join(
        native_block(columns, list(zip(*rows, strict=True)) or [[], [], []]) for rows in blocks
    )
    answer = rows_of(stream[at : at + size] for at in range(0, len(stream), size))
    assert answer.names == names
    assert list(answer.rows) == [row for rows in blocks for row in rows]


@given(st.lists(st.integers(-(10**18) + 1, 10**18 - 1)), st.sampled_from((0, 2, 6, 18)))
def test_money_is_read_exactly(units: list[int], scale: int) -> None:
    """To the last of eighteen digits, below zero too, and the same whether or not an amount came before."""
    amounts = [Decimal(unit).scaleb(-scale) for unit in [*units, *units]]
    columns = [ColumnType("a", f"Decimal(18, {scale})")]
    answer = rows_of(iter([native_block(columns, [list(amounts)]), native_block(columns, [list(amounts)])]))
    assert list(answer.rows) == [(amount,) for amount in [*amounts, *amounts]]


def test_an_answer_that_ends_inside_a_block_is_an_error_not_a_short_report() -> None:
    """The first rows of a block must not pass for all of them."""
    block = native_block([ColumnType("name", "String")], [["a", "b"]])
    with pytest.raises(EOFError):
        list(rows_of(iter([block, block[:-1]])).rows)
