"""The tables that ship: usable, labelled as a proxy, and saying what the public documents say."""

from __future__ import annotations

import json

import phonenumbers
import pycountry
import pytest
from typer.testing import CliRunner

from pipeline.base.calendar import parse_time
from pipeline.base.resources_io import resource_path
from pipeline.cdr.numbering import look_up
from pipeline.charge.sheet import date_ms
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.cli.tables import app

NOW_MS = parse_time("2026-03-01T00:00:00Z")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(resource_path("rating_tables"))


def rate_of(tables: Tables, tariff: str, number: str, direction: str = "outbound") -> tuple[str, int] | None:
    deck = tables.tariffs[tariff].deck_at(NOW_MS)
    assert deck is not None
    row = deck.find(direction, number, look_up(number).number_class).row
    return None if row is None else (row.prefix, row.rate_micros_per_minute)


def test_the_check_finds_no_error_in_them() -> None:
    """They are the default of every command; and the check's warnings are those that the README explains."""
    result = CliRunner().invoke(app, ["check", str(resource_path("rating_tables")), "--format", "json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["errors"]) == (0, 0)
    [missing] = [f for f in found["findings"] if f["kind"] == "destination_without_rate"]
    expected = "AN AS BF BJ BY CD CF CG CI DJ DZ FM GN GQ KM KN LS ML MS MW PM SN SS TG YT ZM"
    assert missing["what"].endswith(f"have no rate: {expected}")


def test_every_tariff_is_labelled_as_a_proxy_in_name_and_description(tables: Tables) -> None:
    """Nobody may take another product's prices for the real ones."""
    for tariff in tables.tariffs.values():
        assert "proxy" in tariff.name
        assert tariff.description.startswith("PROXY: ")
        assert tariff.currency == "USD"
    assert {tariff.kind for tariff in tables.tariffs.values()} == {"subscription", "per_minute_conferencing"}


@pytest.mark.parametrize(
    ("number", "prefix", "micros"),
    [
        ("441134960123", "44", 15_000),
        ("443001234567", "443", 320_000),
        ("447400123456", "447", 320_000),
        ("447500123456", "447500", 29_000),
        ("447509123456", "447509", 320_000),
        ("12065550100", "1206", 13_000),
        ("19075550100", "1907", 90_000),
        ("17875550100", "1787", 20_000),
    ],
)
def test_published_prices_come_out_as_published(tables: Tables, number: str, prefix: str, micros: int) -> None:
    """The examples of the fact sheet; the British ones differ by a factor of eleven from digit to digit."""
    assert rate_of(tables, "acs_proxy_usd", number) == (prefix, micros)
    assert rate_of(tables, "acs_proxy_conferencing_usd", number) == (prefix, micros)


def test_a_country_without_rows_has_its_defined_answer(tables: Tables) -> None:
    """No row is an outcome (a free call), not an error."""
    assert rate_of(tables, "acs_proxy_usd", "22912345678") is None


@pytest.mark.parametrize(
    ("number", "micros"), [("18005550100", 22_000), ("498001234567", 175_000), ("39800123456", 341_500)]
)
def test_toll_free_numbers_have_an_inbound_rate(tables: Tables, number: str, micros: int) -> None:
    """R1: such calls are always charged, so a missing row would be given away."""
    found = rate_of(tables, "acs_proxy_usd", number, "inbound")
    assert found is not None
    assert found[1] == micros
    assert rate_of(tables, "acs_proxy_conferencing_usd", number, "inbound") == found


def test_toll_dial_in_is_priced_at_the_per_minute_tariff_only(tables: Tables) -> None:
    """R9: a subscription's toll dial-in is free."""
    assert rate_of(tables, "acs_proxy_conferencing_usd", "12065550100", "inbound") == ("1", 8_500)
    assert rate_of(tables, "acs_proxy_usd", "12065550100", "inbound") is None


def test_there_is_a_deck_for_every_call_that_is_still_accepted(tables: Tables) -> None:
    """Late calls may start 400 days ago."""
    for tariff in tables.tariffs.values():
        assert [deck.table_version[1] for deck in tariff.decks] == ["2022-01-28", "2025-10-15"]


def test_the_plan_minutes_are_the_documented_ones(tables: Tables) -> None:
    """R14, R19-R27."""
    assert tables.allowance_minutes("MCOPSTN1", "US", "domestic", NOW_MS) == 3000
    assert tables.allowance_minutes("MCOPSTN2", "DE", "domestic", NOW_MS) == 1200
    assert tables.allowance_minutes("MCOPSTN2", "DE", "international", NOW_MS) == 600
    assert tables.allowance_minutes("MCOPSTN1", "DE", "international", NOW_MS) == 0
    assert tables.allowance_minutes("MCOPSTN5", "DE", "domestic", NOW_MS) == 120
    assert tables.allowance_minutes("MCOPSTN6", "DE", "domestic", NOW_MS) == 240
    assert tables.allowance_minutes("MCOPSTN8", "DE", "domestic", NOW_MS) == 120
    assert tables.allowance_minutes("MCOPSTN1MX", "MX", "domestic", NOW_MS) == 1200
    assert tables.allowance_minutes("MCOPSTN1", "MX", "domestic", NOW_MS) == 0
    assert tables.allowance_minutes("MCOPSTN1", "AU", "domestic", NOW_MS) == 0


@pytest.mark.parametrize("sku", ["MCOPSTN1", "MCOPSTN2"])
def test_britain_went_from_1200_to_3000_minutes_on_its_day(tables: Tables, sku: str) -> None:
    """R26."""
    day_ms = date_ms("2023-01-25")
    assert tables.allowance_minutes(sku, "GB", "domestic", day_ms - 1) == 1200
    assert tables.allowance_minutes(sku, "GB", "domestic", day_ms) == 3000


def test_the_dial_out_pool_is_60_minutes_in_44_countries(tables: Tables) -> None:
    """R32, R33, R35, R36: Latvia and Lithuania are not Zone A."""
    standard = tables.conferencing_allowance("MCOMEETADV", NOW_MS)
    select = tables.conferencing_allowance("Microsoft_Teams_Audio_Conferencing_select_dial_out", NOW_MS)
    complimentary = tables.conferencing_allowance("MCOMEETADV", date_ms("2019-12-01") - 1)
    assert standard is not None
    assert select is not None
    assert complimentary is not None
    assert (standard.minutes_per_licence, len(standard.destinations)) == (60, 44)
    assert not {"LV", "LT"} & standard.destinations
    assert (select.minutes_per_licence, select.destinations) == (60, {"US", "CA"})
    assert (complimentary.minutes_per_licence, len(complimentary.destinations)) == (900, 44)


def test_neighbours_are_at_home_as_documented(tables: Tables) -> None:
    """R21, R25: US and PR share a pool; US and CA rate each other as domestic, PR and CA do not."""
    us, pr, ca = (tables.country(iso2) for iso2 in ("US", "PR", "CA"))
    assert us.pool_group == pr.pool_group != ca.pool_group
    assert us.rates_as_domestic_to == {"US", "PR", "CA"}
    assert pr.rates_as_domestic_to == {"PR", "US"}
    assert ca.rates_as_domestic_to == {"CA", "US"}


def test_premium_numbers_are_allowed_where_documented(tables: Tables) -> None:
    """R10: France and Austria all, Britain six prefixes, nobody else."""
    allowed = {
        country.iso2: country.premium_outbound for country in tables.countries.values() if country.premium_outbound
    }
    assert allowed == {
        "AT": ("*",),
        "FR": ("*",),
        "GB": ("44843", "44844", "44845", "44870", "44871", "44872"),
    }


def test_the_international_plan_reaches_198_destinations(tables: Tables) -> None:
    """R7."""
    assert sum(country.international_plan for country in tables.countries.values()) == 198
    assert not tables.country("CU").international_plan


def test_credits_are_not_sold_in_eleven_countries(tables: Tables) -> None:
    """R56."""
    for iso2 in ("BH", "CN", "IN", "KZ", "KR", "MK", "NI", "PK", "RU", "TW", "UA"):
        assert not tables.country(iso2).credits_sold
    assert tables.country("GB").credits_sold


def test_every_country_that_can_occur_is_listed(tables: Tables) -> None:
    """A look-up may name any region of the numbering data, a user any country of ISO 3166."""
    occurring = set(phonenumbers.SUPPORTED_REGIONS) | {country.alpha_2 for country in pycountry.countries}
    for tariff in tables.tariffs.values():
        occurring |= {row.iso2 for deck in tariff.decks for row in deck.rows()}
    assert occurring <= set(tables.countries)


def test_the_licences_are_those_of_the_documents(tables: Tables) -> None:
    """R14, R15: what is assigned and what is reported are two lists."""
    kinds = {licence.sku: (licence.kind, licence.pooling) for licence in tables.licences.values()}
    assert kinds["MCOPSTN1"] == ("calling_domestic", "tenant")
    assert kinds["MCOPSTN8"] == ("calling_domestic", "user")
    assert kinds["MCOPSTN2"] == ("calling_international", "tenant")
    assert kinds["MCOPSTN_PAYG_1"][0] == kinds["MCOPSTN_PAYG_2"][0] == "calling_payg"
    assert kinds["MCOPSTNPP"][0] == kinds["MCOPSTNC"][0] == "credits"
    assert kinds["MCOMEETADV"][0] == "conferencing"
    assert kinds["MCOMEETACPEA"][0] == "conferencing_per_minute"
    assert kinds["MCOMEETADD_DIALOUT_US"][0] == "extended_dial_out"
    assert tables.licences["MCOMEETADV"].capability == "MCOMEETADD"
    assert tables.licences["MCOTEAMS_ESSENTIALS"].holds == ("MCOPSTN1", "MCOEV")
