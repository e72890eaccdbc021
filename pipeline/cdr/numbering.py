"""Country and class of a telephone number, by the pinned numbering data (records.md section 4)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneNumberType, shortnumberinfo

NUMBERING_VERSION = f"phonenumbers-{phonenumbers.__version__}"

_CLASSES = {
    PhoneNumberType.FIXED_LINE: "geographic",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "geographic",
    PhoneNumberType.VOIP: "geographic",
    PhoneNumberType.UAN: "geographic",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
}
_NO_COUNTRY = "001"
_TEST_NUMBER = "933"  # R66
_TEST_COUNTRIES = ("US", "CA")


class NumberFacts(NamedTuple):
    """`country`: ISO 3166 alpha-2, None where the library names no region (or `001`)."""

    country: str | None
    number_class: str


@lru_cache(maxsize=200_000)
def look_up(number: str) -> NumberFacts:
    """Facts of an E.164 number, with or without `+`; a masked tail is looked up with zeros in its place."""
    digits = number.lstrip("+").replace("*", "0")
    try:
        parsed = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return NumberFacts(None, "unknown")
    region = phonenumbers.region_code_for_number(parsed)
    number_class = _CLASSES.get(phonenumbers.number_type(parsed), "unknown")
    return NumberFacts(None if region == _NO_COUNTRY else region, number_class)


@lru_cache(maxsize=4_096)
def is_emergency(short_number: str, country: str) -> bool:
    """Whether a short number reaches an emergency service there; 933 tests that in the US and Canada (R66)."""
    if short_number == _TEST_NUMBER and country in _TEST_COUNTRIES:
        return True
    return bool(shortnumberinfo.is_emergency_number(short_number, country))
