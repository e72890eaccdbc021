"""Reading the rating tables: all or nothing, and a fault names file, line and column."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.base.calendar import parse_time
from pipeline.charge.sheet import date_ms
from pipeline.charge.tables_io import TableError, load_deck, load_tables
from tests.table_folder import DECK, append, change, write_tables

NOW_MS = parse_time("2026-03-01T00:00:00Z")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "tables")


def test_good_tables_load_and_answer(folder: Path) -> None:
    """The base of every fault below: without a change nothing is wrong."""
    tables = load_tables(folder)
    assert list(tables.licences) == ["DOM", "INT", "CONF", "PAID", "BUNDLE"]
    assert [licence.rank for licence in tables.licences.values()] == [0, 1, 2, 3, 4]
    assert tables.licences["BUNDLE"].holds == ("DOM", "PAID")
    assert tables.country("GB").premium_outbound == ("44843", "44844")
    assert tables.country("FR").premium_outbound == ("*",)
    assert tables.country("DE").premium_outbound == tables.country("US").premium_outbound == ()
    assert tables.country("FR").rates_as_domestic_to == {"FR"}
    assert tables.tariffs["t_usd"].currency == "USD"


def test_a_country_that_is_not_listed_stands_alone(folder: Path) -> None:
    """A call to a country nobody thought of must have an answer, and no zone or plan by accident."""
    country = load_tables(folder).country("ZW")
    assert country.pool_group == "ZW"
    assert country.rates_as_domestic_to == {"ZW"}
    assert (country.zone, country.international_plan, country.premium_outbound) == ("", False, ())


def test_an_allowance_changes_at_midnight_of_its_date(folder: Path) -> None:
    """R26: the last call of the old period and the first of the new one differ by one millisecond."""
    tables = load_tables(folder)
    change_ms = date_ms("2023-01-25")
    assert tables.allowance_minutes("DOM", "GB", "domestic", change_ms - 1) == 1200
    assert tables.allowance_minutes("DOM", "GB", "domestic", change_ms) == 3000
    assert tables.allowance_minutes("DOM", "GB", "domestic", date_ms("2020-01-01") - 1) == 0
    assert tables.allowance_minutes("DOM", "DE", "domestic", change_ms) == 0
    assert tables.allowance_minutes("DOM", "GB", "international", change_ms) == 0


def test_the_dial_out_allowance_names_its_countries_and_changes_at_its_date(folder: Path) -> None:
    """R32, R33: 900 minutes until 2019-11-30, 60 since; `zone:A` means what countries.csv says."""
    tables = load_tables(folder)
    before = tables.conferencing_allowance("CONF", date_ms("2019-12-01") - 1)
    since = tables.conferencing_allowance("CONF", date_ms("2019-12-01"))
    assert before is not None
    assert (before.minutes_per_licence, before.destinations) == (900, {"GB", "DE"})
    assert since is not None
    assert (since.minutes_per_licence, since.destinations) == (60, {"GB", "DE", "US"})
    assert tables.conferencing_allowance("DOM", NOW_MS) is None


def test_a_deck_is_in_force_from_its_date_until_the_next_one(folder: Path) -> None:
    """D2: a call is priced by the deck of its start, to the millisecond."""
    tariff = load_tables(folder).tariffs["t_usd"]
    first, second = tariff.decks
    assert tariff.deck_at(date_ms("2024-01-01") - 1) is None
    assert tariff.deck_at(date_ms("2024-01-01")) is first
    assert tariff.deck_at(date_ms("2025-01-01") - 1) is first
    assert tariff.deck_at(date_ms("2025-01-01")) is second
    assert tariff.deck_at(NOW_MS) is second


def test_the_table_version_is_the_digest_of_the_file_as_it_lies_there(folder: Path) -> None:
    """A charge can only be recomputed when its table can be found again."""
    digest = hashlib.sha256((folder / DECK).read_bytes()).hexdigest()
    assert load_tables(folder).tariffs["t_usd"].decks[1].table_version == ("t_usd", "2025-01-01", digest[:12])


def test_a_bundle_in_a_bundle_is_spelled_out(folder: Path) -> None:
    """One look at `holds` must show every plan, else a user of the outer bundle has none."""
    append(folder, "licences.csv", "OUTER,BUNDLE;CONF,,other,tenant,made up")
    assert load_tables(folder).licences["OUTER"].holds == ("BUNDLE", "CONF", "DOM", "PAID")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder: Path) -> None:
    """Spreadsheets write both."""
    file = folder / DECK
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    match = load_tables(folder).tariffs["t_usd"].decks[1].find("outbound", "493012345", "geographic")
    assert match.row is not None
    assert match.row.rate_micros_per_minute == 11_000


LICENCES, ALLOWANCES, CONFERENCING = "licences.csv", "allowances.csv", "conferencing_allowances.csv"
COUNTRIES, TARIFFS = "countries.csv", "tariffs.csv"


@pytest.mark.parametrize(
    ("name", "line", "place", "what"),
    [
        (LICENCES, "DOM,,X,other,tenant,s", "7: column sku", "'DOM' stands already in line 2"),
        (LICENCES, ",,X,other,tenant,s", "7: column sku", "must not be empty"),
        (LICENCES, "X,,X,calling_lunar,tenant,s", "7: column kind", "'calling_lunar' is none of"),
        (LICENCES, "X,,X,other,planet,s", "7: column pooling", "'planet' is none of"),
        (LICENCES, "X,GHOST,X,other,tenant,s", "7: column holds", "'GHOST' is no SKU of this file"),
        (LICENCES, "X,X,X,other,tenant,s", "7: column holds", "holds itself"),
        (LICENCES, "X,,X,other,tenant", "7: 5 columns, must be 6", ""),
        (LICENCES, 'X,"a"b,X,other,tenant,s', "7: no CSV", ""),
        (ALLOWANCES, "GHOST,GB,domestic,1,2020-01-01,,s", "6: column sku", "'GHOST' is no SKU of licences.csv"),
        (ALLOWANCES, "DOM,gb,domestic,1,2020-01-01,,s", "6: column country", "two capital letters"),
        (ALLOWANCES, "DOM,DE,orbital,1,2020-01-01,,s", "6: column scope", "'orbital' is none of"),
        (ALLOWANCES, "DOM,DE,domestic,-1,2020-01-01,,s", "6: column minutes_per_user", "whole number"),
        (ALLOWANCES, "DOM,DE,domestic,1.5,2020-01-01,,s", "6: column minutes_per_user", "whole number"),
        (ALLOWANCES, "DOM,DE,domestic,1,2020-02-30,,s", "6: column valid_from", "no day of the calendar"),
        (ALLOWANCES, "DOM,DE,domestic,1,20-1-1,,s", "6: column valid_from", "no date like"),
        (ALLOWANCES, "DOM,DE,domestic,1,2020-01-01,2020-01-01,s", "6: column valid_to", "later than valid_from"),
        (
            ALLOWANCES,
            "DOM,GB,domestic,1,2022-12-31,2023-01-01,s",
            "6: column valid_from",
            "overlaps in time with line 2",
        ),
        (ALLOWANCES, "DOM,GB,domestic,1,2030-01-01,,s", "6: column valid_from", "overlaps in time with line 3"),
        (CONFERENCING, "GHOST,zone:A,1,2020-01-01,,s", "4: column sku", "'GHOST' is no SKU of licences.csv"),
        (CONFERENCING, "CONF,zone:B,1,2010-01-01,2010-02-01,s", "4: column destinations", "must be zone:A or two"),
        (CONFERENCING, "DOM,,1,2020-01-01,,s", "4: column destinations", "must name"),
        (CONFERENCING, "CONF,US,1,2025-01-01,,s", "4: column valid_from", "overlaps in time with line 3"),
        (COUNTRIES, "GB,Again,GB,GB,,,no,yes,", "6: column iso2", "GB stands already"),
        (COUNTRIES, "it,Italy,IT,IT,,,no,yes,", "6: column iso2", "two capital letters"),
        (COUNTRIES, "IT,,IT,IT,,,no,yes,", "6: column name", "must not be empty"),
        (COUNTRIES, "IT,Italy,,IT,,,no,yes,", "6: column pool_group", "must not be empty"),
        (COUNTRIES, "IT,Italy,I:T,IT,,,no,yes,", "6: column pool_group", "'I:T' has a colon"),
        (COUNTRIES, "IT,Italy,IT,IT;Italy,,,no,yes,", "6: column rates_as_domestic_to", "two capital letters"),
        (COUNTRIES, "IT,Italy,IT,IT,B,,no,yes,", "6: column zone", "'B' is none of"),
        (COUNTRIES, "IT,Italy,IT,IT,,perhaps,no,yes,", "6: column international_plan", "'perhaps' is none of"),
        (COUNTRIES, "IT,Italy,IT,IT,,,39x,yes,", "6: column premium_outbound", "prefixes of digits"),
        (COUNTRIES, "IT,Italy,IT,IT,,,no,,", "6: column credits_sold", "'' is none of"),
        (TARIFFS, "t_usd,USD,subscription,d,s", "3: column tariff", "'t_usd' stands already in line 2"),
        (TARIFFS, "a/b,USD,subscription,d,s", "3: column tariff", "name of a folder"),
        (TARIFFS, "x,usd,subscription,d,s", "3: column currency", "three capital letters"),
        (TARIFFS, "x,USD,lunar,d,s", "3: column kind", "'lunar' is none of"),
        (TARIFFS, "x,USD,subscription,d,s", "3: column tariff", "is missing"),
        (DECK, "44x,outbound,,n,GB,0.1,", "6: column prefix", "1 to 15 digits"),
        (DECK, ",outbound,,n,GB,0.1,", "6: column prefix", "1 to 15 digits"),
        (DECK, "1234567890123456,outbound,,n,GB,0.1,", "6: column prefix", "1 to 15 digits"),
        (DECK, "٤٤,outbound,,n,GB,0.1,", "6: column prefix", "1 to 15 digits"),
        (DECK, "33,sideways,,n,FR,0.1,", "6: column direction", "'sideways' is none of"),
        (DECK, "33,outbound,satellite,n,FR,0.1,", "6: column number_class", "'satellite' is none of"),
        (DECK, "33,outbound,,n,France,0.1,", "6: column iso2", "two capital letters"),
        (DECK, "33,outbound,,n,FR,-0.1,", "6: column rate_per_minute", "'-0.1' is negative"),
        (DECK, "33,outbound,,n,FR,0.0000001,", "6: column rate_per_minute", "at most 6 decimals"),
        (DECK, "33,outbound,,n,FR,,", "6: column rate_per_minute", "'' is no amount"),
        (DECK, "33,outbound,,n,FR,1e-2,", "6: column rate_per_minute", "is no amount"),
        (DECK, "33,outbound,,n,FR,1000000.000001,", "6: column rate_per_minute", "is more than 1,000,000, which no"),
        (DECK, "33,outbound,,n,FR,0.1,1000001", "6: column connection_fee", "is more than 1,000,000, which no"),
        (DECK, "33,outbound,,n,FR,0.1,-1", "6: column connection_fee", "'-1' is negative"),
        (DECK, "33,outbound,,n,FR,0.1,free", "6: column connection_fee", "is no amount"),
        (DECK, "44,outbound,,n,GB,0.0160,", "6: column prefix", "stands already in line 2, at the same price"),
        (DECK, "44,outbound,,n,GB,0.0161,", "6: column prefix", "stands already in line 2, at another price"),
        (DECK, "33,outbound,,n,FR,0.1", "6: 6 columns, must be 7", ""),
    ],
)
def test_a_bad_row_names_file_line_and_column(folder: Path, name: str, line: str, place: str, what: str) -> None:
    """A worker does not start on it, and whoever repairs it knows where to look."""
    append(folder, name, line)
    with pytest.raises(TableError) as raised:
        load_tables(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder / name}:{place}")
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize("name", [LICENCES, ALLOWANCES, CONFERENCING, COUNTRIES, TARIFFS, DECK])
def test_a_header_that_is_not_exact_is_refused(folder: Path, name: str) -> None:
    """A swapped or renamed column would put minutes where money belongs."""
    columns, rest = (folder / name).read_text().split("\n", 1)
    (folder / name).write_text(f"{columns},extra\n{rest}")
    with pytest.raises(TableError, match=rf"{name}:1: the header must be {columns}"):
        load_tables(folder)


@pytest.mark.parametrize("name", [LICENCES, ALLOWANCES, CONFERENCING, COUNTRIES, TARIFFS])
def test_a_missing_table_is_said_by_name(folder: Path, name: str) -> None:
    """Not the errors that follow from it, the missing file comes first."""
    (folder / name).unlink()
    with pytest.raises(TableError, match=r"No such file") as raised:
        load_tables(folder)
    assert str(raised.value).startswith(f"{folder / name}: cannot be read")


def test_bytes_that_are_no_text_name_their_line(folder: Path) -> None:
    """A table saved in another encoding must not be read with question marks in it."""
    with (folder / DECK).open("ab") as file:
        file.write(b"33,outbound,,C\xf4te,FR,0.1,\n")
    with pytest.raises(TableError, match=r"2025-01-01.csv:6: is no UTF-8 at byte \d+"):
        load_tables(folder)


def test_rates_without_a_tariff_are_refused(folder: Path) -> None:
    """A folder misspelt by one letter is a tariff without its newest deck."""
    (folder / "rates" / "t_eur").mkdir()
    with pytest.raises(TableError, match=r"'t_eur' is no tariff of tariffs\.csv"):
        load_tables(folder)


def test_a_tariff_without_a_deck_is_refused(folder: Path) -> None:
    """Every call of its accounts would be given away."""
    append(folder, TARIFFS, "x,USD,subscription,d,s")
    (folder / "rates" / "x").mkdir()
    with pytest.raises(TableError, match=r"tariffs.csv:3: column tariff: .* has no deck"):
        load_tables(folder)


@pytest.mark.parametrize("name", ["2025-13-01.csv", "2025-01-01.CSV", "latest.csv", "2025-02-01.txt", "2025-2-1.csv"])
def test_a_deck_whose_name_is_no_date_is_refused(folder: Path, name: str) -> None:
    """Silently left out, it would be a price change that never happens."""
    (folder / "rates" / "t_usd" / name).write_text("")
    with pytest.raises(TableError, match=r"a deck's name must be its date: YYYY-MM-DD.csv"):
        load_tables(folder)


def test_a_deck_beside_the_tariffs_folders_is_refused(folder: Path) -> None:
    """It belongs to no tariff, so nobody would be rated by it."""
    (folder / "rates" / "2026-01-01.csv").write_text("")
    with pytest.raises(TableError, match="a deck belongs in the folder of its tariff"):
        load_tables(folder)


def test_the_message_says_how_many_faults_there_are(folder: Path) -> None:
    """One line, but nobody repairs forty rows one start at a time."""
    for prefix in range(600, 640):
        append(folder, DECK, f"{prefix},outbound,,n,XX,nothing,")
    with pytest.raises(TableError, match=r"2025-01-01.csv:6: .* \(and 39 more: pstn tables check "):
        load_tables(folder)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A mistyped path must not look like empty tables."""
    with pytest.raises(TableError, match="nowhere: is no folder"):
        load_tables(tmp_path / "nowhere")


def test_an_empty_rate_is_refused_after_an_empty_fee_was_read(folder: Path) -> None:
    """An empty fee is 0, an empty rate is a fault: the two must not share what was learnt of the text."""
    change(folder, DECK, "49,outbound,,Germany,DE,0.0110,", "49,outbound,,Germany,DE,,")
    with pytest.raises(TableError, match=r"2025-01-01.csv:4: column rate_per_minute: '' is no amount"):
        load_tables(folder)


def test_a_deck_file_can_be_read_alone(folder: Path) -> None:
    """`pstn tables diff` compares files that lie anywhere under any name."""
    assert load_deck(folder / DECK).table_version[:2] == ("t_usd", "2025-01-01")
    elsewhere = folder / "new.csv"
    elsewhere.write_text((folder / DECK).read_text())
    assert load_deck(elsewhere).row_count == 4
    append(folder, "new.csv", "x")
    with pytest.raises(TableError, match=r"new.csv:6: 1 columns, must be 7"):
        load_deck(elsewhere)
