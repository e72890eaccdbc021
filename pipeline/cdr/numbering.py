"""Country and class of a telephone number, by the pinned numbering data (records.md section 4).

The library takes tens of microseconds, a call has ten. So its answers are kept in a tree of digits, each at the first
digit from which the data prove that no later one changes it (`number_plan.py`): exact, and few enough to keep. What the
library does not name stays unnamed: `country` is None unless it gives a region for the number itself, even where the
calling code belongs to one country only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, Union

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberType, shortnumberinfo
from phonenumbers.phonenumberutil import _number_type_helper
from phonenumbers.re_util import enable_pattern_cache

from pipeline.cdr.number_plan import plan_of, split_calling_code

NUMBERING_VERSION: Final = f"phonenumbers-{phonenumbers.__version__}"

ANSWER_COUNT_MAX: Final = 200_000
"""Then the tree starts anew: about 60 MB. Only numbers made up to fill it reach this."""

_CLASSES: Final = {
    PhoneNumberType.FIXED_LINE: "geographic",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "geographic",
    PhoneNumberType.VOIP: "geographic",
    PhoneNumberType.UAN: "geographic",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
}
_NO_COUNTRY: Final = "001"
_TEST_NUMBER: Final = "933"  # R66
_TEST_COUNTRIES: Final = ("US", "CA")
_LEAD_DIGITS: Final = 4
_SIZE_MAX: Final = 15  # E.164

enable_pattern_cache()  # else the library compiles most patterns anew each time


class NumberFacts(NamedTuple):
    """`country`: ISO 3166 alpha-2, None where the library names no region (or `001`)."""

    country: str | None
    number_class: str


_Tree = dict[str, Union["_Tree", NumberFacts]]
_trees: Final[list[_Tree]] = [{} for _ in range(_SIZE_MAX + 1)]  # by the number's size
_answer_count = 0


def look_up(number: str) -> NumberFacts:
    """Facts of an E.164 number, with or without `+`; a masked tail is looked up with zeros in its place."""
    return look_up_digits(number[1:] if number.startswith("+") else number)


def look_up_digits(digits: str) -> NumberFacts:
    """The same for a number without `+`."""
    if digits.endswith("*"):
        digits = digits.replace("*", "0")
    size = len(digits)
    if size > _SIZE_MAX:
        return ask_library(digits)
    node = _trees[size].get(digits[:_LEAD_DIGITS])
    place = _LEAD_DIGITS
    while isinstance(node, dict):
        node = node.get(digits[place : place + 1])
        place += 1
    return _learn(digits) if node is None else node


def _learn(digits: str) -> NumberFacts:
    global _answer_count  # noqa: PLW0603  # the tree is a cache of this module's one function
    facts = ask_library(digits)
    if not digits or not digits.isascii() or not digits.isdigit():
        return facts
    if _answer_count >= ANSWER_COUNT_MAX:
        for tree in _trees:
            tree.clear()
        _answer_count = 0
    _answer_count += 1
    settled = max(_settling_size(digits), min(_LEAD_DIGITS, len(digits)))
    node, step = _trees[len(digits)], digits[:_LEAD_DIGITS]
    for digit in digits[_LEAD_DIGITS:settled]:
        below = node.setdefault(step, {})
        assert isinstance(below, dict)  # a settled answer above would have been found
        node, step = below, digit
    node[step] = facts
    return facts


def _settling_size(digits: str) -> int:
    split = split_calling_code(digits)
    if split is None:
        return len(digits) if len(digits) <= _LEAD_DIGITS else _LEAD_DIGITS
    calling_code, national = split
    return len(digits) - len(national) + plan_of(calling_code).settling_size(national)


def ask_library(digits: str) -> NumberFacts:
    """What the library says of `+digits`; unknown when it is no number to it."""
    try:
        parsed = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return _facts(None, "unknown")
    region = phonenumbers.region_code_for_number(parsed)
    number_class = _CLASSES.get(_number_type(parsed, region), "unknown")
    return _facts(None if region == _NO_COUNTRY else region, number_class)


def _number_type(parsed: PhoneNumber, region: str | None) -> int:
    """The library's `number_type`, which would work the region out once more: half of the whole answer."""
    if region is None or parsed.country_code is None:
        return PhoneNumberType.UNKNOWN
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(parsed.country_code, region)
    if metadata is None:
        return PhoneNumberType.UNKNOWN
    return _number_type_helper(phonenumbers.national_significant_number(parsed), metadata)


@lru_cache(maxsize=4_096)
def _facts(country: str | None, number_class: str) -> NumberFacts:
    """One object for all numbers that are alike: few countries, seven classes."""
    return NumberFacts(country, number_class)


@lru_cache(maxsize=4_096)
def is_emergency(short_number: str, country: str) -> bool:
    """Whether a short number reaches an emergency service there; 933 tests that in the US and Canada (R66)."""
    if short_number == _TEST_NUMBER and country in _TEST_COUNTRIES:
        return True
    return bool(shortnumberinfo.is_emergency_number(short_number, country))
