"""A small folder of rating tables that is good as it stands; a test changes one thing and looks what is said."""

from __future__ import annotations

from pathlib import Path

GOOD = {
    "licences.csv": """sku,holds,capability,kind,pooling,source
DOM,,MCOPSTN1,calling_domestic,tenant,made up
INT,,MCOPSTN2,calling_international,tenant,made up
CONF,,MCOMEETADD,conferencing,tenant,made up
PAID,,MCOPSTNPP,credits,tenant,made up
BUNDLE,DOM;PAID,,other,tenant,made up
""",
    "allowances.csv": """sku,country,scope,minutes_per_user,valid_from,valid_to,source
DOM,GB,domestic,1200,2020-01-01,2023-01-25,made up
DOM,GB,domestic,3000,2023-01-25,,made up
INT,GB,domestic,1200,2020-01-01,,made up
INT,GB,international,600,2020-01-01,,made up
""",
    "conferencing_allowances.csv": """sku,destinations,minutes_per_licence,valid_from,valid_to,source
CONF,zone:A,900,2010-01-01,2019-12-01,made up
CONF,zone:A;US,60,2019-12-01,,made up
""",
    "countries.csv": """\
iso2,name,pool_group,rates_as_domestic_to,zone,international_plan,premium_outbound,credits_sold,payg_zone
GB,United Kingdom,GB,GB,A,yes,44843;44844,yes,1
DE,Germany,DE,DE,A,yes,no,yes,2
FR,France,FR,,,,all,yes,2
US,United States,US,US,,,,yes,1
""",
    "tariffs.csv": """tariff,currency,kind,description,source
t_usd,USD,subscription,MADE UP,made up
""",
    "rates/t_usd/2024-01-01.csv": """\
prefix,direction,number_class,destination,iso2,rate_per_minute,connection_fee
44,outbound,,United Kingdom,GB,0.0150,
447,outbound,mobile,United Kingdom mobile,GB,0.1200,0.0100
49,outbound,,Germany,DE,0.0110,
44800,inbound,toll_free,United Kingdom toll-free,GB,0.0290,
""",
    "rates/t_usd/2025-01-01.csv": """\
prefix,direction,number_class,destination,iso2,rate_per_minute,connection_fee
44,outbound,,United Kingdom,GB,0.0160,
447,outbound,mobile,United Kingdom mobile,GB,0.1200,0.0100
49,outbound,,Germany,DE,0.0110,
44800,inbound,toll_free,United Kingdom toll-free,GB,0.0290,
""",
}
DECK = "rates/t_usd/2025-01-01.csv"


def write_tables(folder: Path) -> Path:
    """The good tables in `folder`."""
    for name, text in GOOD.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def change(folder: Path, name: str, old: str, new: str) -> None:
    """Replace a piece of text that is there."""
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def append(folder: Path, name: str, line: str) -> None:
    """One more line at the end of a table."""
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
