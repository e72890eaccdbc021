"""Makes the tables of this folder from the gathered public facts: `python rating_tables/make.py FACTS_FOLDER`.

Needs there: acs_pstn_rates_proxy.csv, rates_sample.csv, country_allowances.csv, dial_out_zones.csv and
international_plan_destinations.csv. What it adds of its own is written down here and in README.md: the SKU list, the
start dates, and the prefixes of toll-free numbers (each checked against the numbering data while it runs).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import phonenumbers
import pycountry

from pipeline.base.money import parse_micros
from pipeline.charge.public_deck import deck_text, read_public_deck
from pipeline.charge.sheet import Problem
from pipeline.charge.table_rows import (
    ALLOWANCE_COLUMNS,
    CONFERENCING_COLUMNS,
    COUNTRY_COLUMNS,
    LICENCE_COLUMNS,
    TARIFF_COLUMNS,
)
from pipeline.charge.tables_io import read_source
from pipeline.charge.tariff import RateRow

HERE = Path(__file__).resolve().parent
SUBSCRIPTION = "acs_proxy_usd"
PER_MINUTE = "acs_proxy_conferencing_usd"
DECK_DATES = ("2022-01-28", "2025-10-15")
FROM = "2010-01-01"  # no start is published: from long before any call that is still accepted
GB_RAISED = "2023-01-25"  # R26
POOL_ENDS_2019 = "2019-12-01"  # R32, R33

PLANS = "calling-plans-for-office-365.md 2024-08-05"
R14 = "pstn-usage-report.md 2025-01-14 (R14)"
R15 = "assign-teams-add-on-licenses.md 2022 (R15)"
SCRIPTS = "public scripts (R15), low trust"
INFERRED = "the reported code taken as the SKU (R14): inferred"

LICENCES = (
    ("MCOPSTN1", "", "MCOPSTN1", "calling_domestic", "tenant", R15),
    ("MCOPSTN1BR", "", "MCOPSTN1BR", "calling_domestic", "tenant", INFERRED),
    ("MCOPSTN1MX", "", "MCOPSTN1MX", "calling_domestic", "tenant", INFERRED),
    ("MCOPSTN2", "", "MCOPSTN2", "calling_international", "tenant", R15),
    ("MCOPSTN2BR", "", "MCOPSTN2BR", "calling_international", "tenant", INFERRED),
    ("MCOPSTN2MX", "", "MCOPSTN2MX", "calling_international", "tenant", INFERRED),
    ("MCOPSTN5", "", "MCOPSTN5", "calling_domestic", "tenant", R15),
    ("MCOPSTN6", "", "MCOPSTN6", "calling_domestic", "tenant", R15),
    ("MCOPSTN8", "", "MCOPSTN8", "calling_domestic", "user", INFERRED),
    ("MCOPSTN9", "", "MCOPSTN9", "calling_international", "tenant", INFERRED),
    ("MCOPSTN_PAYG_1", "", "MCOPSTNPP", "calling_payg", "tenant", R15),
    ("MCOPSTN_PAYG_2", "", "MCOPSTNPP", "calling_payg", "tenant", R15),
    ("Microsoft_Teams_Calling_Plan_pay_as_you_go_(country_zone_1)", "", "MCOPSTNPP", "calling_payg", "tenant", SCRIPTS),
    (
        "Microsoft_Teams_Calling_Plan_pay_as_you_go_(country_zone_1_US)",
        "",
        "MCOPSTNPP",
        "calling_payg",
        "tenant",
        SCRIPTS,
    ),
    ("MCOPSTNPP", "", "MCOPSTNPP", "credits", "tenant", R15),
    ("MCOPSTNC", "", "MCOPSTNPP", "credits", "tenant", "older Skype article and public scripts (R15)"),
    ("MCOMEETADV", "", "MCOMEETADD", "conferencing", "tenant", R15),
    (
        "Microsoft_Teams_Audio_Conferencing_select_dial_out",
        "",
        "MCOMEETADD",
        "conferencing",
        "tenant",
        f"{SCRIPTS}; R35",
    ),
    ("MCOMEETACPEA", "", "MCOMEETACPEA", "conferencing_per_minute", "tenant", R15),
    (
        "MCOMEETADD_DIALOUT_US",
        "",
        "MCOMEETADD_DIALOUT_US",
        "extended_dial_out",
        "tenant",
        "dial-out-minutes-canada-us.md 2022-01 (R37)",
    ),
    (
        "MCOTEAMS_ESSENTIALS",
        "MCOPSTN1;MCOEV",
        "",
        "other",
        "tenant",
        "assign-teams-add-on-licenses.md 2022 (R15); what it holds is inferred from its name",
    ),
    ("MCOEV", "", "MCOEV", "other", "tenant", R15),
    ("PHONESYSTEM_VIRTUALUSER", "", "MCOEV_VIRTUALUSER", "other", "tenant", SCRIPTS),
    ("MCOPSTNEAU2", "", "", "other", "tenant", f"{SCRIPTS}; Telstra: no call records (R30)"),
)
OWN_PLANS = {"BR": ("MCOPSTN1BR", "MCOPSTN2BR"), "MX": ("MCOPSTN1MX", "MCOPSTN2MX")}

# National toll-free prefixes of the countries for which a toll-free inbound rate is known.
TOLL_FREE = {
    "US": ("1800", "1833", "1844", "1855", "1866", "1877", "1888"),  # shared with Canada, at the same rate
    "AT": ("43800",),
    "AU": ("611800",),
    "BE": ("32800",),
    "CH": ("41800",),
    "CN": ("8610800", "86800"),
    "DE": ("49800",),
    "DK": ("4580",),
    "ES": ("34800", "34900"),
    "FI": ("358800",),
    "GB": ("44800", "44808"),
    "HK": ("852800",),
    "IE": ("3531800",),
    "IL": ("9721800",),
    "IT": ("39800", "39803"),
    "LU": ("352800",),
    "NL": ("31800",),
    "NO": ("4780",),
    "NZ": ("64508", "64800"),
    "PL": ("48800",),
    "PT": ("351800",),
    "SE": ("4620",),
    "SG": ("651800", "65800"),
    "SK": ("421800",),
}
PREMIUM = {"yes": "all", "yes_with_credits": "all", "partial_with_credits": "44843;44844;44845;44870;44871;44872"}
WITHOUT_CREDITS = ("BH", "CN", "IN", "KZ", "KR", "MK", "NI", "PK", "RU", "TW", "UA")  # R56
NAMES = {"AC": "Ascension Island", "TA": "Tristan da Cunha", "XK": "Kosovo"}  # not in ISO 3166


def read(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def allowances(plans: list[dict[str, str]]) -> Iterator[Sequence[str]]:
    for row in plans:
        country, source = row["iso2"], f"{row['source_page']} {row['country_page_updated']}"
        domestic, international = OWN_PLANS.get(country, ("MCOPSTN1", "MCOPSTN2"))
        small = [*row["small_plan_minutes"].split(";"), ""]
        minutes = (
            (domestic, "domestic", row["domestic_plan_minutes"], source),
            (international, "domestic", row["intl_plan_domestic_minutes"], source),
            (international, "international", row["intl_plan_international_minutes"], source),
            ("MCOPSTN5", "domestic", small[0], source),
            ("MCOPSTN6", "domestic", small[1], source),
            ("MCOPSTN8", "domestic", small[0], f"{R14}; countries as for MCOPSTN5: inferred"),
        )
        for sku, scope, count, where in minutes:
            if country == "GB" and count == "3000":
                yield sku, country, scope, "1200", FROM, GB_RAISED, where
                yield sku, country, scope, count, GB_RAISED, "", "PR 9665 (R26)"
            elif count:
                yield sku, country, scope, count, FROM, "", where


def countries(folder: Path, deck: Iterable[RateRow]) -> Iterator[Sequence[str]]:
    plans = {row["iso2"]: row for row in read(folder, "country_allowances.csv")}
    zones = {row["iso2"]: row for row in read(folder, "dial_out_zones.csv")}
    listed = {row["iso2"]: row["name"] for row in read(folder, "international_plan_destinations.csv")}
    everywhere = {country.alpha_2 for country in pycountry.countries} | set(phonenumbers.SUPPORTED_REGIONS)
    everywhere |= {*plans, *zones, *listed, *(row.iso2 for row in deck)} - {""}
    for iso2 in sorted(everywhere):
        plan, zone = plans.get(iso2, {}), zones.get(iso2, {})
        found = pycountry.countries.get(alpha_2=iso2)
        iso_name = getattr(found, "common_name", None) or getattr(found, "name", None)
        name = plan.get("country") or zone.get("country") or listed.get(iso2) or NAMES.get(iso2) or iso_name or iso2
        sold = "yes" in (plan.get("communications_credits_sold_here"), zone.get("communications_credits_sold_here"))
        yield (
            iso2,
            str(name).partition(" (withdrawn")[0],
            plan.get("pool_country_group") or ("US+PR" if iso2 in ("US", "PR") else iso2),
            (plan.get("rates_as_domestic_to") or iso2).replace(" ", ";"),
            "A" if zone.get("zone") == "A" else "",
            "yes" if iso2 in listed else "",
            PREMIUM.get(plan.get("premium_outbound", ""), "no"),
            "yes" if sold and iso2 not in WITHOUT_CREDITS else "no",
            plan.get("payg_zone_2024_08", ""),
        )


def inbound(sample: list[dict[str, str]], number_class: str, names: dict[str, str]) -> Iterator[RateRow]:
    """The inbound rates of the proxy (not the blog's two pence figures), at the prefixes of each country's numbers."""
    for row in sample:
        country = row["iso2"]
        if row["confidence"] != "proxy" or row["direction"] != "inbound" or row["number_class"] != number_class:
            continue
        if country == "CA":
            continue  # +1 has one set of rates; US and CA are equal there
        calling_code = phonenumbers.country_code_for_region(country)
        prefixes = TOLL_FREE[country] if number_class == "toll_free" else (str(calling_code),)
        name = f"{names[country]} - {'Toll Free' if number_class == 'toll_free' else 'Toll'}"
        for prefix in prefixes:
            if number_class == "toll_free" and not reaches_toll_free(country, prefix):
                raise SystemExit(f"{prefix} is no toll-free prefix of {country} by the numbering data")
            rate = parse_micros(row["rate_per_min"])
            yield RateRow(prefix, "inbound", number_class, name, country, rate, 0)


def reaches_toll_free(country: str, prefix: str) -> bool:
    """Whether numbers with this prefix are toll-free: tried with every size and a few fillings."""
    for size in range(len(prefix) + 3, 15):
        for fill in "023456789":
            number = phonenumbers.parse("+" + prefix.ljust(size, fill))
            if phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.TOLL_FREE:
                return True
    return False


def main(folder: Path) -> None:
    problems: list[Problem] = []
    outbound = read_public_deck(read_source(folder / "acs_pstn_rates_proxy.csv", problems), problems).rows
    if problems:
        raise SystemExit("\n".join(map(str, problems)))
    sample = read(folder, "rates_sample.csv")
    places = list(countries(folder, outbound))
    names = {row[0]: row[1] for row in places}
    toll_free = list(inbound(sample, "toll_free", names))
    toll = list(inbound(sample, "geographic", names))
    write("licences.csv", LICENCE_COLUMNS, LICENCES)
    write("allowances.csv", ALLOWANCE_COLUMNS, allowances(read(folder, "country_allowances.csv")))
    subscription_page = "audio-conferencing-subscription-dial-out.md 2024-05-22"
    select = ("Microsoft_Teams_Audio_Conferencing_select_dial_out", "US;CA", "60", POOL_ENDS_2019, "")
    write(
        "conferencing_allowances.csv",
        CONFERENCING_COLUMNS,
        (
            ("MCOMEETADV", "zone:A", "900", FROM, POOL_ENDS_2019, "complimentary-dial-out-period.md 2024 (R33)"),
            ("MCOMEETADV", "zone:A", "60", POOL_ENDS_2019, "", f"{subscription_page} (R32)"),
            (*select, f"{subscription_page} (R35); its start is inferred"),
        ),
    )
    write("countries.csv", COUNTRY_COLUMNS, places)
    proxy = "PROXY: Azure Communication Services PSTN tariff, not Communications Credits rates"
    upstream = "Azure/Communication pricing/communication-services-pstn-rates.csv 2025-10-15 (MIT); pstn-pricing.md"
    write(
        "tariffs.csv",
        TARIFF_COLUMNS,
        (
            (SUBSCRIPTION, "USD", "subscription", proxy, f"{upstream} 2022-01-28"),
            (PER_MINUTE, "USD", "per_minute_conferencing", proxy, f"{upstream} 2022-01-28"),
        ),
    )
    for date in DECK_DATES:
        for tariff, rows in ((SUBSCRIPTION, toll_free), (PER_MINUTE, toll_free + toll)):
            place = HERE / "rates" / tariff
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{date}.csv").write_text(deck_text([*outbound, *rows]), encoding="utf-8", newline="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
