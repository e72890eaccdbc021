"""`pstn tables diff`: what a new deck changes for a caller, the largest effect first."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.charge.diff import Change, count_kinds, diff_decks
from pipeline.charge.tariff import Deck, RateRow
from pipeline.cli.tables import app
from tests.table_folder import DECK, change, write_tables

OLD_DECK = "rates/t_usd/2024-01-01.csv"


def deck(*rows: RateRow) -> Deck:
    return Deck(tariff="t", valid_from_ms=0, table_version=("t", "1970-01-01", "0" * 12), rows=rows)


def row(prefix: str, rate: int, fee: int = 0, destination: str = "X", iso2: str = "GB") -> RateRow:
    return RateRow(prefix, "outbound", "", destination, iso2, rate, fee)


def told(changes: list[Change]) -> list[tuple[str, str, int, str]]:
    return [(change.kind, change.prefix, change.effect_micros, change.note) for change in changes]


def test_equal_decks_differ_in_nothing() -> None:
    """The order of rows in a file is no change."""
    assert diff_decks(deck(row("44", 1), row("49", 2)), deck(row("49", 2), row("44", 1))) == []


def test_changes_are_sorted_by_their_effect_on_a_minute() -> None:
    """The one line that matters stands first, not on page nine."""
    old = deck(row("1", 100), row("2", 100), row("3", 100), row("4", 100), row("5", 100))
    new = deck(row("1", 101), row("2", 50), row("3", 100, fee=900), row("4", 100, destination="Y"), row("5", 100))
    assert told(diff_decks(old, new)) == [
        ("dearer", "3", 900, ""),
        ("cheaper", "2", -50, ""),
        ("dearer", "1", 1, ""),
        ("relabelled", "4", 0, "was 'X'"),
    ]


def test_a_lost_row_is_compared_with_what_rates_its_prefix_now() -> None:
    """Harmless, free of charge, or eleven times dearer: the row alone does not say."""
    old = deck(row("44", 15), row("447500", 29), row("33", 20), row("443", 15))
    new = deck(row("44", 320))
    assert told(diff_decks(old, new)) == [
        ("dearer", "44", 305, ""),
        ("removed", "443", 305, "rated by 44 now"),
        ("removed", "447500", 291, "rated by 44 now"),
        ("removed", "33", -20, "no rate any more"),
    ]


def test_a_new_row_is_compared_with_what_rated_its_prefix_before() -> None:
    """A new row below an equal one changes nothing."""
    old = deck(row("44", 15))
    new = deck(row("44", 15), row("447", 320), row("4420", 15), row("33", 20))
    assert told(diff_decks(old, new)) == [
        ("added", "447", 305, "rated by 44 before"),
        ("added", "33", 20, "no rate before"),
        ("added", "4420", 0, "rated by 44 before"),
    ]


def test_a_change_of_country_is_told_even_at_the_same_price() -> None:
    """It moves calls between domestic and international."""
    changes = diff_decks(deck(row("441534", 15)), deck(row("441534", 15, iso2="JE")))
    assert told(changes) == [("relabelled", "441534", 0, "country was GB")]
    assert count_kinds(changes) == {"added": 0, "removed": 0, "dearer": 0, "cheaper": 0, "relabelled": 1}


def test_a_higher_rate_with_a_lower_fee_is_dearer_when_a_minute_costs_the_same() -> None:
    """Longer calls cost more."""
    assert diff_decks(deck(row("44", 10, fee=5)), deck(row("44", 12, fee=3)))[0].kind == "dearer"
    assert diff_decks(deck(row("44", 12, fee=3)), deck(row("44", 10, fee=5)))[0].kind == "cheaper"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "tables")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["diff", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_two_deck_files_can_be_compared_in_each_format(folder: Path) -> None:
    """A person reads the table, a script the rest: the same numbers."""
    files = folder / OLD_DECK, folder / DECK
    table = run(*files)
    assert "0 added, 0 removed, 1 dearer, 0 cheaper, 0 relabelled" in table
    assert "+0.0010" in table
    assert "\x1b" not in table
    [compared] = json.loads(run(*files, "--format", "json"))["decks"]
    assert compared["counts"]["dearer"] == 1
    [change_] = compared["changes"]
    assert (change_["prefix"], change_["old_price_micros"], change_["new_price_micros"]) == ("44", 15_000, 16_000)
    assert change_["effect_micros"] == 1_000
    [line] = csv.DictReader(io.StringIO(run(*files, "--format", "csv")))
    assert (line["tariff"], line["kind"], line["old_price"], line["effect"]) == ("t_usd", "dearer", "0.0150", "0.0010")


def test_two_folders_are_compared_by_the_last_deck_of_each_tariff(folder: Path, tmp_path: Path) -> None:
    """What will be in force, against what is."""
    other = write_tables(tmp_path / "other")
    change(other, DECK, "49,outbound,,Germany,DE,0.0110", "49,outbound,,Germany,DE,0.0100")
    [compared] = json.loads(run(folder, other, "--format", "json"))["decks"]
    assert [(c["kind"], c["prefix"]) for c in compared["changes"]] == [("cheaper", "49")]
    assert json.loads(run(folder, folder, "--format", "json"))["decks"][0]["changes"] == []


def test_a_long_table_is_cut_and_says_so(folder: Path) -> None:
    """Six thousand lines on a terminal are no answer."""
    change(folder, DECK, "49,outbound,,Germany,DE,0.0110", "49,outbound,,Germany,DE,0.0100")
    text = run(folder / OLD_DECK, folder / DECK, "--limit", 1)
    assert "... and 1 more with less effect" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nowhere", DECK, "must be two deck files or two folders of tables"),
        (".", DECK, "must be two deck files or two folders of tables"),
        ("tariffs.csv", DECK, "tariffs.csv:1: the header must be prefix,direction"),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line(folder: Path, old: str, new: str, message: str) -> None:
    """Exit code 2 and what to do, no traceback."""
    result = CliRunner().invoke(app, ["diff", str(folder / old), str(folder / new)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
