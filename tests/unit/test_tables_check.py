"""`pstn tables check`: each thing that a bad table could do to money is found, and nothing in good ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.tables import app
from tests.table_folder import DECK, append, change, write_tables

ALLOWANCES, CONFERENCING, COUNTRIES = "allowances.csv", "conferencing_allowances.csv", "countries.csv"
OLD_DECK = "rates/t_usd/2024-01-01.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "tables")


def findings_of(folder: Path, *options: str) -> tuple[int, list[dict[str, object]]]:
    result = CliRunner().invoke(app, ["check", str(folder), "--format", "json", *options])
    found = json.loads(result.stdout)
    assert found["errors"] + found["warnings"] == len(found["findings"])
    return result.exit_code, found["findings"]


def only(findings: list[dict[str, object]], kind: str) -> dict[str, object]:
    assert [finding["kind"] for finding in findings] == [kind]
    return findings[0]


def test_good_tables_have_no_finding(folder: Path) -> None:
    """A check that always warns is not read."""
    assert findings_of(folder) == (0, [])


def test_every_bad_row_is_an_error_with_its_place(folder: Path) -> None:
    """All of them at once, not one for each run."""
    append(folder, DECK, "33,outbound,,France,FR,-0.1,")
    append(folder, DECK, "33,outbound,,France,FR,x,")
    append(folder, "licences.csv", "X,GHOST,,other,tenant,s")
    exit_code, findings = findings_of(folder)
    assert exit_code == 1
    assert {(f["kind"], f["severity"]) for f in findings} == {("bad_row", "error")}
    assert [(f["file"], f["line"], f["column"]) for f in findings] == [
        (str(folder / "licences.csv"), 7, "holds"),
        (str(folder / DECK), 6, "rate_per_minute"),
        (str(folder / DECK), 7, "rate_per_minute"),
    ]


def test_a_country_that_does_not_exist_is_an_error(folder: Path) -> None:
    """UK instead of GB makes every call to Britain foreign in Britain."""
    append(folder, DECK, "33,outbound,,France,UK,0.1,")
    append(folder, DECK, "331,outbound,,Paris,UK,0.1,")
    append(folder, ALLOWANCES, "INT,UK,domestic,5,2020-01-01,,s")
    change(folder, COUNTRIES, "DE,Germany,DE,DE", "DE,Germany,DE,DE;UK")
    change(folder, CONFERENCING, "zone:A;US", "zone:A;UK")
    exit_code, findings = findings_of(folder)
    assert exit_code == 1
    unknown = [f for f in findings if f["kind"] == "country_unknown"]
    assert {(Path(str(f["file"])).name, f["line"], f["row_count"]) for f in unknown} == {
        ("2025-01-01.csv", 6, 2),
        (ALLOWANCES, 0, 1),
        (COUNTRIES, 0, 1),
        (CONFERENCING, 0, 1),
    }


def test_rows_that_contradict_each_other_about_the_country_are_an_error(folder: Path) -> None:
    """The row's country decides domestic or international: which of two rows of one prefix is it?"""
    append(folder, DECK, "447,outbound,,Jersey,DE,0.1200,0.0100")
    exit_code, findings = findings_of(folder)
    assert exit_code == 1
    contradiction = next(f for f in findings if f["kind"] == "contradictory_rows")
    assert "country 'GB' here, 'DE' in line 6" in str(contradiction["what"])


def test_a_country_of_the_world_that_the_tables_do_not_list_is_a_warning(folder: Path) -> None:
    """It is rated, but as a country without zone, plan or credits."""
    append(folder, DECK, "81,outbound,,Japan,JP,0.1,")
    exit_code, findings = findings_of(folder)
    assert exit_code == 0
    assert (only(findings, "country_not_listed")["line"], findings[0]["severity"]) == (6, "warning")


@pytest.mark.parametrize("rate", ["0.1500", "0.0015", "0"])
def test_a_rate_of_another_order_of_magnitude_than_in_the_last_deck_is_a_warning(folder: Path, rate: str) -> None:
    """0.165 was once printed where 0.0165 was meant."""
    change(folder, DECK, "44,outbound,,United Kingdom,GB,0.0160", f"44,outbound,,United Kingdom,GB,{rate}")
    exit_code, findings = findings_of(folder)
    jump = only(findings, "rate_jump")
    assert exit_code == 0
    assert (jump["line"], jump["column"]) == (2, "rate_per_minute")
    assert "was 0.0150" in str(jump["what"])


def test_a_rate_nine_times_as_high_is_no_jump(folder: Path) -> None:
    """Prices do change; only a slipped decimal point is meant."""
    change(folder, DECK, "44,outbound,,United Kingdom,GB,0.0160", "44,outbound,,United Kingdom,GB,0.1499")
    assert findings_of(folder) == (0, [])


def test_a_rate_far_from_the_others_of_its_country_is_a_warning(folder: Path) -> None:
    """In a new row there is no last deck to compare with."""
    for area in range(3):
        append(folder, DECK, f"4930{area},outbound,,Germany,DE,0.0110,")
    append(folder, DECK, "4989,outbound,,Germany,DE,0.1100,")
    far = only(findings_of(folder)[1], "rate_far_from_country")
    assert (far["line"], far["row_count"]) == (9, 1)
    assert "usual 0.0110: 4989 DE" in str(far["what"])


@pytest.mark.parametrize(("rate", "fee", "column"), [("10", "", "rate_per_minute"), ("0.1", "25.00", "connection_fee")])
def test_an_absurd_price_is_a_warning(folder: Path, rate: str, fee: str, column: str) -> None:
    """Cents taken for units."""
    append(folder, DECK, f"33,outbound,,France,FR,{rate},{fee}")
    absurd = only(findings_of(folder)[1], "rate_absurd")
    assert (absurd["line"], absurd["column"]) == (6, column)


def test_a_plan_destination_without_a_rate_is_a_warning(folder: Path) -> None:
    """Past the pool such calls are given away."""
    change(folder, COUNTRIES, "FR,France,FR,,,,", "FR,France,FR,,,yes,")
    findings = findings_of(folder)[1]
    assert [(f["kind"], f["row_count"]) for f in findings] == [("destination_without_rate", 1)] * 2
    assert str(findings[0]["what"]).endswith("have no rate: FR")


def test_a_prefix_of_another_countrys_calling_code_is_a_warning(folder: Path) -> None:
    """A row pasted one line too low."""
    append(folder, DECK, "49160,outbound,,France mobile,FR,0.1,")
    stranger = only(findings_of(folder)[1], "prefix_of_another_country")
    assert (stranger["line"], stranger["column"]) == (6, "iso2")


def test_a_prefix_without_a_calling_code_is_a_warning(folder: Path) -> None:
    """A national prefix left in front matches no number at all."""
    append(folder, DECK, "049,outbound,,Germany,DE,0.0110,")
    change(folder, COUNTRIES, "44843;44844", "0843")
    findings = findings_of(folder)[1]
    assert [f["kind"] for f in findings] == ["calling_code_unknown"] * 2
    assert {f["column"] for f in findings} == {"prefix", "premium_outbound"}


def test_rows_lost_since_the_last_deck_are_a_warning_that_says_which_are_free_now(folder: Path) -> None:
    """A published version once lacked 383 rows, all of them British mobiles."""
    change(folder, DECK, "447,outbound,mobile,United Kingdom mobile,GB,0.1200,0.0100\n", "")
    change(folder, DECK, "49,outbound,,Germany,DE,0.0110,\n", "")
    lost = next(f for f in findings_of(folder)[1] if f["kind"] == "rows_lost")
    assert lost["row_count"] == 2
    assert "rows gone since 2024-01-01: 2, without any rate now: 1" in str(lost["what"])
    assert "Germany outbound (1)" in str(lost["what"])


def test_rows_lost_against_the_tables_before_are_found_too(folder: Path, tmp_path: Path) -> None:
    """The deck in use was replaced by a newer one instead of joined by it."""
    before = tmp_path / "before"
    shutil.copytree(folder, before)
    (folder / DECK).rename(folder / "rates/t_usd/2025-02-01.csv")
    change(folder, "rates/t_usd/2025-02-01.csv", "49,outbound,,Germany,DE,0.0110,\n", "")
    findings = findings_of(folder, "--previous", str(before))[1]
    kinds = [f["kind"] for f in findings]
    assert kinds.count("rows_lost") == 2  # against 2024-01-01 in the folder, and against the last one before
    assert "deck_lost" in kinds
    assert any("since 2025-01-01 before" in str(f["what"]) for f in findings)


def test_a_deck_whose_rows_were_changed_under_its_date_is_a_warning(folder: Path, tmp_path: Path) -> None:
    """Calls rated with the old rows carry a digest that nobody can find any more."""
    before = tmp_path / "before"
    shutil.copytree(folder, before)
    change(folder, OLD_DECK, "0.0150", "0.0151")
    finding = only(findings_of(folder, "--previous", str(before))[1], "deck_changed")
    assert finding["file"] == str(folder / OLD_DECK)


def test_a_changed_currency_is_an_error(folder: Path, tmp_path: Path) -> None:
    """Balances in dollars would be charged pounds."""
    before = tmp_path / "before"
    shutil.copytree(folder, before)
    change(folder, "tariffs.csv", "USD", "GBP")
    exit_code, findings = findings_of(folder, "--previous", str(before))
    assert exit_code == 1
    assert only(findings, "currency_changed")["severity"] == "error"


def test_what_disappeared_from_the_small_tables_is_a_warning(folder: Path, tmp_path: Path) -> None:
    """A lost line takes a pool, a zone or a price list away from those who use it."""
    before = tmp_path / "before"
    shutil.copytree(folder, before)
    append(before, "licences.csv", "GONE,,,other,tenant,s")
    append(before, COUNTRIES, "IT,Italy,IT,IT,A,yes,no,yes,2")
    append(before, ALLOWANCES, "DOM,DE,domestic,500,2020-01-01,,s")
    append(before, "tariffs.csv", "t_eur,EUR,subscription,d,s")
    shutil.copytree(before / "rates/t_usd", before / "rates/t_eur")
    findings = findings_of(folder, "--previous", str(before))[1]
    assert [f["kind"] for f in findings] == ["deck_lost", "country_lost", "licence_lost", "allowance_changed"]
    assert "DOM DE domestic: 0 minutes from 2020-01-01, was 500" in str(findings[3]["what"])


def test_a_gap_between_two_periods_is_a_warning(folder: Path) -> None:
    """For those days every pool of that plan is empty."""
    change(folder, ALLOWANCES, "2020-01-01,2023-01-25", "2020-01-01,2023-01-20")
    change(folder, CONFERENCING, "2010-01-01,2019-12-01", "2010-01-01,2019-11-30")
    findings = findings_of(folder)[1]
    assert [f["kind"] for f in findings] == ["allowance_gap"] * 2
    assert str(findings[0]["what"]) == "DOM GB domestic: nothing from 2023-01-20 to 2023-01-25"
    assert str(findings[1]["what"]) == "CONF: nothing from 2019-11-30 to 2019-12-01"


def test_minutes_that_no_call_can_draw_are_a_warning(folder: Path) -> None:
    """A domestic plan has no international pool; conferencing minutes of a calling plan are nobody's."""
    append(folder, ALLOWANCES, "DOM,GB,international,5,2020-01-01,,s")
    append(folder, ALLOWANCES, "PAID,GB,domestic,5,2020-01-01,,s")
    append(folder, CONFERENCING, "DOM,US,5,2020-01-01,,s")
    assert [f["kind"] for f in findings_of(folder)[1]] == ["allowance_unused"] * 3


def test_a_plan_without_minutes_or_without_a_code_is_a_warning(folder: Path) -> None:
    """Its users pay from the first minute; its calls cannot say what paid."""
    append(folder, "licences.csv", "NEW,,,calling_domestic,tenant,s")
    findings = findings_of(folder)[1]
    assert [f["kind"] for f in findings] == ["licence_without_capability", "allowance_missing"]


def test_countries_that_share_a_pool_with_different_minutes_are_a_warning(folder: Path) -> None:
    """R21: whose minutes count then depends on where the caller stands."""
    append(folder, COUNTRIES, "JE,Jersey,GB,JE;GB,,,no,no,")
    append(folder, ALLOWANCES, "DOM,JE,domestic,1200,2020-01-01,,s")
    change(folder, ALLOWANCES, "INT,GB,domestic,1200,2020-01-01,,made up\n", "")
    change(folder, ALLOWANCES, "INT,GB,international,600,2020-01-01,,made up\n", "INT,DE,domestic,5,2020-01-01,,s\n")
    uneven = [f for f in findings_of(folder)[1] if f["kind"] == "pool_uneven"]
    assert [f["what"] for f in uneven] == ["DOM domestic: 3000 in GB, 1200 in JE, who share the pool GB"]


def test_the_text_names_the_tariff_and_says_whether_the_tables_are_usable(folder: Path) -> None:
    """Whoever sees a price list sees whose it is; no colour codes in a pipe."""
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 0
    assert "t_usd USD subscription: 2024-01-01 (4 rows), 2025-01-01 (4 rows)\n  MADE UP\n" in result.stdout
    assert result.stdout.endswith("usable; errors: 0, warnings: 0\n")
    append(folder, DECK, "33,outbound,,France,[red],0.1,")
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert result.exit_code == 1
    assert f"error {DECK}:6 bad_row\n  column iso2: '[red]' must be" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stdout.endswith("not usable; errors: 1, warnings: 0\n")


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--previous", "nowhere"]])
def test_a_folder_that_is_not_there_ends_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    """A person gets a line and exit code 2, never a traceback."""
    result = CliRunner().invoke(app, ["check", *arguments])
    assert result.exit_code == 2
    assert result.stderr == "pstn: nowhere is no folder\n"
