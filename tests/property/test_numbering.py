"""Kept answers against the library itself, on random and near-real numbers: exact, not nearly."""

from __future__ import annotations

import phonenumbers
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cdr.numbering import _number_type, ask_library, look_up

_KINDS = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)


def _examples() -> list[tuple[str, str]]:
    """(calling code, national number) of every kind of number in every region."""
    found = []
    for calling_code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(calling_code, region)
            for kind in _KINDS:
                description = getattr(metadata, kind)
                if description is not None and description.example_number:
                    found.append((str(calling_code), description.example_number))
    return found


EXAMPLES = _examples()
DIGITS = "0123456789"


@st.composite
def near_real(draw: st.DrawFn) -> str:
    """A real number's beginning, perhaps after a national prefix, with another rest of about the same size."""
    calling_code, national = draw(st.sampled_from(EXAMPLES))
    national = draw(st.sampled_from(["", "", "", "0", "1", "8", "06", "9"])) + national
    kept = draw(st.integers(0, len(national)))
    rest_size = max(0, len(national) - kept + draw(st.sampled_from([0, 0, 0, 0, -1, 1, 2])))
    rest = draw(st.text(DIGITS, min_size=rest_size, max_size=rest_size))
    return (calling_code + national[:kept] + rest)[:15]


@settings(max_examples=1_000, deadline=None)
@given(near_real() | st.text(DIGITS, max_size=15))
def test_the_type_of_a_number_in_its_region_is_the_librarys(digits: str) -> None:
    """Asked with the region that is known already: the library's own function works it out again."""
    try:
        parsed = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return
    region = phonenumbers.region_code_for_number(parsed)
    assert _number_type(parsed, region) == phonenumbers.number_type(parsed)


@settings(max_examples=1_000, deadline=None)
@given(near_real())
def test_near_real_numbers_are_what_the_library_says(digits: str) -> None:
    """The tree is filled by earlier examples, so most of these are answered by another number's answer."""
    assert look_up(digits) == ask_library(digits)


@settings(max_examples=500, deadline=None)
@given(st.text(DIGITS, max_size=15))
def test_any_digits_are_what_the_library_says(digits: str) -> None:
    """Whatever a switch sends."""
    assert look_up("+" + digits) == ask_library(digits)


@settings(max_examples=500, deadline=None)
@given(near_real(), st.integers(1, 6))
def test_masked_numbers_are_what_the_library_says_of_zeros(digits: str, masked_count: int) -> None:
    """The mask must not leak into the tree as if it were a digit."""
    known = digits[: max(0, len(digits) - masked_count)]
    masked = known + "*" * (len(digits) - len(known))
    assert look_up(masked) == ask_library(masked.replace("*", "0"))
