"""`pstn tables import`: a published deck becomes a dated one, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.charge.tables_io import load_tables
from pipeline.cli.tables import app
from tests.table_folder import write_tables

UPSTREAM = """Destination Name,Destination Type,Country,Prefix,Price / min
"Germany, Berlin",landline,DE,4930,0.0105
Germany - Mobile,mobile,DE,4915,0.2
Kosovo,mixed,XK,383,0.32
Germany - Toll Free,non-geographic,DE,49800,0
"""
NORMALISED = """prefix,iso2,destination,number_class,rate_per_min,connection_fee,currency,published
4930,DE,"Germany, Berlin",landline,0.0105,,USD,2025-10-15
4915,DE,Germany - Mobile,mobile,0.2,0.05,USD,2025-10-15
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "tables")


def run(folder: Path, text: str, *options: str, tariff: str = "t_usd", date: str = "2026-01-01") -> Result:
    source = folder.parent / "source.csv"
    source.write_text(text, encoding="utf-8")
    arguments = ["import", str(source), "--tariff", tariff, "--date", date, "--out", str(folder)]
    return CliRunner().invoke(app, [*arguments, *options])


def deck_text(folder: Path, tariff: str = "t_usd", date: str = "2026-01-01") -> str:
    return (folder / "rates" / tariff / f"{date}.csv").read_text(encoding="utf-8")


def files_of(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_the_published_columns_become_a_deck_with_our_classes(folder: Path) -> None:
    """records.md section 4: landline is geographic, mixed and non-geographic are of any class."""
    result = run(folder, UPSTREAM)
    assert result.exit_code == 0, result.stderr
    assert deck_text(folder) == (
        "prefix,direction,number_class,destination,iso2,rate_per_minute,connection_fee\n"
        "383,outbound,,Kosovo,XK,0.3200,\n"
        "4915,outbound,mobile,Germany - Mobile,DE,0.2000,\n"
        '4930,outbound,geographic,"Germany, Berlin",DE,0.0105,\n'
        "49800,outbound,,Germany - Toll Free,DE,0.0000,\n"
        "44800,inbound,toll_free,United Kingdom toll-free,GB,0.0290,\n"
    )


def test_the_normalised_columns_do_too_and_keep_the_fee(folder: Path) -> None:
    """Both forms of the file are about."""
    assert run(folder, NORMALISED).exit_code == 0
    assert "4915,outbound,mobile,Germany - Mobile,DE,0.2000,0.0500\n" in deck_text(folder)


def test_the_order_of_columns_and_rows_changes_nothing(folder: Path) -> None:
    """Published versions differ in both; the digest of the deck must not."""
    run(folder, UPSTREAM)
    header, *rows = UPSTREAM.splitlines()
    turned = ["Price / min,Prefix,Country,Destination Type,Destination Name"]
    turned += [
        '0.0105,4930,DE,landline,"Germany, Berlin"',
        "0,49800,DE,non-geographic,Germany - Toll Free",
        "0.32,383,XK,mixed,Kosovo",
        "0.2,+4915,DE,Mobile,Germany - Mobile",
    ]
    assert len(turned) == len(rows) + 1
    run(folder, "\n".join(turned), date="2026-02-01")
    assert deck_text(folder) == deck_text(folder, date="2026-02-01")
    assert header != turned[0]


def test_inbound_rows_come_from_the_deck_before_that_date_not_after(folder: Path) -> None:
    """A published file has none, and a deck without them would give toll-free calls away."""
    result = run(folder, UPSTREAM, date="2024-06-01")
    assert "5 rows, 1 of them inbound and carried over" in result.stdout
    assert "against t_usd 2024-01-01" in result.stdout
    assert run(folder, UPSTREAM, date="2023-01-01").stdout.count("0 of them inbound") == 1


def test_the_imported_deck_is_in_force_from_its_date(folder: Path) -> None:
    """The folder stays usable, and the new prices wait for their day."""
    run(folder, UPSTREAM)
    decks = load_tables(folder).tariffs["t_usd"].decks
    assert [deck.table_version[1] for deck in decks] == ["2024-01-01", "2025-01-01", "2026-01-01"]


def test_a_new_tariff_is_written_into_tariffs_csv(folder: Path) -> None:
    """Else the folder could not be loaded any more."""
    result = run(folder, NORMALISED, "--description", "PROXY: not ours", tariff="n_usd")
    assert result.exit_code == 0, result.stderr
    tariff = load_tables(folder).tariffs["n_usd"]
    assert (tariff.currency, tariff.kind, tariff.description) == ("USD", "subscription", "PROXY: not ours")
    assert list(load_tables(folder).tariffs) == ["t_usd", "n_usd"]


def test_an_empty_folder_gets_its_first_tariff(tmp_path: Path) -> None:
    """The first deck of somebody who begins."""
    result = run(tmp_path / "new", NORMALISED, "--kind", "per_minute_conferencing", tariff="first")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "new" / "tariffs.csv").read_text().splitlines()[1] == (
        "first,USD,per_minute_conferencing,imported from source.csv,source.csv"
    )


def test_a_row_that_stands_there_twice_at_one_price_counts_once(folder: Path) -> None:
    """Published decks repeat rows; that is no contradiction."""
    result = run(folder, UPSTREAM + "Germany,landline,DE,4930,0.0105\n")
    assert result.exit_code == 0
    assert "1 rows stood there twice" in result.stdout


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            UPSTREAM + "Germany,landline,DE,4930,0.0106\n",
            [],
            "source.csv:6: column prefix: '4930' stands already in line 2",
        ),
        (UPSTREAM + "X,landline,DE,49x,0.1\n", [], "source.csv:6: column prefix: '49x' must be 1 to 15 digits"),
        (UPSTREAM + "X,cosmic,DE,491,0.1\n", [], "source.csv:6: column number class: 'cosmic' is none of landline"),
        (UPSTREAM + "X,mobile,Germany,491,0.1\n", [], "source.csv:6: column country: 'Germany' must be two capital"),
        (UPSTREAM + "X,mobile,DE,491,\n", [], "source.csv:6: column rate: '' is no amount"),
        (UPSTREAM + 'X,mobile,DE,491,"0,1"\n', [], "source.csv:6: column rate: '0,1' is no amount"),
        (UPSTREAM + "X,mobile,DE,491,-1\n", [], "source.csv:6: column rate: '-1' is negative"),
        (UPSTREAM + "X,mobile\n", [], "source.csv:6: the row is too short"),
        (UPSTREAM + 'X,"a"b,DE,491,1\n', [], "source.csv:6: no CSV"),
        ("a,b\n1,2\n", [], "source.csv:1: the header has no column prefix, no column iso2 or country"),
        ("", [], "source.csv:1: the header has no column prefix"),
        (UPSTREAM.splitlines()[0], [], "source.csv: has no rows"),
        (NORMALISED.replace("USD", "EUR"), [], "source.csv: column currency: is EUR, the tariff t_usd is USD"),
        (NORMALISED.replace("USD", "EUR", 1), [], "source.csv:1: column currency: more than one: EUR, USD"),
        (UPSTREAM, ["--tariff", "new"], "names no currency, and new is a new tariff: give --currency"),
        (
            UPSTREAM,
            ["--tariff", "new", "--currency", "usd"],
            "the new tariff 'new': 'usd' must be three capital letters",
        ),
        (UPSTREAM, ["--tariff", "../x", "--currency", "USD"], "the new tariff '../x': '../x' must be letters"),
        (NORMALISED, ["--tariff", "new", "--kind", "lunar"], "the new tariff 'new': 'lunar' is none of"),
        (UPSTREAM, ["--date", "2025-01-01"], "2025-01-01.csv is there already: calls may have been rated with it"),
        (UPSTREAM, ["--date", "2025-02-30"], "--date: '2025-02-30' is no day of the calendar"),
    ],
)
def test_a_fault_ends_in_one_line_and_writes_nothing(folder: Path, text: str, options: list[str], message: str) -> None:
    """Half a deck in force is worse than none."""
    before = files_of(folder)
    result = run(folder, text, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert files_of(folder) == before


def test_force_replaces_a_deck_of_that_date(folder: Path) -> None:
    """Before any call was rated with it, a mistake may be put right."""
    assert run(folder, UPSTREAM, "--force", date="2025-01-01").exit_code == 0
    assert "4930" in deck_text(folder, date="2025-01-01")


def test_force_keeps_the_inbound_rows_of_the_deck_that_is_replaced(folder: Path) -> None:
    """Their price may be another than in the deck before it, or be there alone."""
    for date in ("2024-01-01", "2025-01-01"):
        deck = folder / "rates" / "t_usd" / f"{date}.csv"
        deck.write_text(deck.read_text() + "49800,inbound,toll_free,x,DE,0.17,\n")
        result = run(folder, UPSTREAM, "--force", date=date)
        assert "2 of them inbound and carried over" in result.stdout
        assert "49800,inbound,toll_free,x,DE,0.1700," in deck_text(folder, date=date)


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    """One line with the file's name."""
    arguments = ["import", str(tmp_path / "no.csv"), "--tariff", "t", "--date", "2026-01-01", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "no.csv: cannot be read: No such file or directory" in result.stderr
