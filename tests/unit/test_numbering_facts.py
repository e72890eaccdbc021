"""Country and class of numbers as the contract names them, and which short numbers are never barred."""

from __future__ import annotations

import phonenumbers
import pytest

from pipeline.cdr import numbering
from pipeline.cdr.digit_pattern import DigitPattern, PatternUnknown, Verdict
from pipeline.cdr.number_plan import plan_of, split_calling_code
from pipeline.cdr.numbering import NUMBERING_VERSION, ask_library, is_emergency, look_up


@pytest.mark.parametrize(
    ("number", "country", "number_class"),
    [
        ("+12065550100", "US", "geographic"),
        ("+17875550100", "PR", "geographic"),
        ("+16045550100", "CA", "geographic"),
        ("+18769221234", "JM", "geographic"),
        ("+18005550100", "US", "toll_free"),
        ("+19005550100", "US", "premium"),
        ("+442079460123", "GB", "geographic"),
        ("+447400123456", "GB", "mobile"),
        ("+441534123456", "JE", "geographic"),
        ("+448432123456", "GB", "premium"),
        ("+491801234567", "DE", "shared_cost"),
        ("+449012345678", "GB", "premium"),
        ("+445612345678", "GB", "geographic"),
        ("+4915123456789", "DE", "mobile"),
        ("+493012345678", "DE", "geographic"),
        ("+390669812345", "VA", "geographic"),
        ("+77011234567", "KZ", "mobile"),
        ("+74951234567", "RU", "geographic"),
        ("+80012345678", None, "toll_free"),
        ("+870773111632", None, "mobile"),
        ("+447640123456", "GB", "unknown"),
        ("+999123456789", None, "unknown"),
        ("+0123456789", None, "unknown"),
        ("+1", None, "unknown"),
        ("", None, "unknown"),
    ],
)
def test_facts_are_the_librarys_in_the_contracts_words(number: str, country: str | None, number_class: str) -> None:
    """The country decides domestic or international, the class decides the row: both decide the price."""
    assert look_up(number) == (country, number_class)
    assert look_up(number.removeprefix("+")) == (country, number_class)


@pytest.mark.parametrize(
    ("masked", "zeros"),
    [("+4930123****", "+49301230000"), ("+1206555****", "+12065550000"), ("+3906698*", "+39066980")],
)
def test_a_masked_tail_is_looked_up_with_zeros(masked: str, zeros: str) -> None:
    """The same masked number must always be the same destination."""
    assert look_up(masked) == look_up(zeros)


def test_the_version_names_the_pinned_data() -> None:
    """It is part of every charge's `rules_version`: other data, other destinations."""
    assert f"phonenumbers-{phonenumbers.__version__}" == NUMBERING_VERSION


def test_what_is_no_number_is_unknown_and_not_kept() -> None:
    """Text that got past a check must neither raise nor fill the tree."""
    before = numbering._answer_count
    for text in ("+49 30 1234", "+49x301234", "+" + "4" * 16, "++4930", "٤٩٣٠١٢٣٤"):
        look_up(text)
    assert numbering._answer_count == before


def test_the_tree_of_answers_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up numbers must not fill a worker's memory; starting anew must not change an answer."""
    monkeypatch.setattr(numbering, "ANSWER_COUNT_MAX", 50)
    monkeypatch.setattr(numbering, "_answer_count", 0)
    monkeypatch.setattr(numbering, "_trees", [{} for _ in numbering._trees])
    for middle in range(300):
        number = f"{100 + middle}{middle:03d}456789"
        assert look_up(number) == ask_library(number)
        assert numbering._answer_count <= 50


def test_most_numbers_of_a_country_share_few_answers() -> None:
    """The point of the tree: a plan of eight million Berlin numbers is learnt from a handful."""
    before = numbering._answer_count
    for tail in range(10_000_000, 99_999_999, 45_678):
        look_up(f"+4930{tail}")
    assert numbering._answer_count - before <= 100


@pytest.mark.parametrize(
    ("short_number", "country", "expected"),
    [
        ("112", "DE", True),
        ("110", "DE", True),
        ("911", "US", True),
        ("933", "US", True),
        ("933", "CA", True),
        ("933", "DE", False),
        ("999", "GB", True),
        ("999", "US", False),
        ("411", "US", False),
        ("112", "ZZ", False),
        ("", "US", False),
    ],
)
def test_emergency_numbers_are_those_of_the_country_and_the_test_number(
    short_number: str, country: str, expected: bool
) -> None:
    """R66: never barred, never charged; 933 is how an American administrator tests that."""
    assert is_emergency(short_number, country) is expected


@pytest.mark.parametrize(
    ("pattern", "known", "unknown_count", "verdict"),
    [
        (r"30\d{5}", "", 7, Verdict.SOME),
        (r"30\d{5}", "3", 6, Verdict.SOME),
        (r"30\d{5}", "30", 5, Verdict.ALL),
        (r"30\d{5}", "30", 4, Verdict.NONE),
        (r"30\d{5}", "31", 5, Verdict.NONE),
        (r"3(?:0[2-9]|1\d)\d{2,3}", "31", 3, Verdict.ALL),
        (r"3(?:0[2-9]|1\d)\d{2,3}", "30", 3, Verdict.SOME),
        (r"3(?:0[2-9]|1\d)\d{2,3}", "302", 4, Verdict.NONE),
        (r"(?:12?)?3|[4-6][05]", "1", 1, Verdict.SOME),
        (r"(?:12?)?3|[4-6][05]", "12", 1, Verdict.SOME),
        (r"(?:12?)?3|[4-6][05]", "5", 1, Verdict.SOME),
        (r"(?:12?)?3|[4-6][05]", "55", 0, Verdict.ALL),
        (r"\d{3}|[0-4]\d{2}|5\d\d", "", 3, Verdict.ALL),
        (r"\d{4}", "", 3, Verdict.NONE),
    ],
)
def test_a_pattern_is_settled_exactly_when_no_later_digit_matters(
    pattern: str, known: str, unknown_count: int, verdict: Verdict
) -> None:
    """The proof behind each kept answer; one digit too early and a mobile number is billed as a landline."""
    automaton = DigitPattern(pattern)
    state = automaton.start
    for digit in known:
        state = automaton.step(state, digit)
    assert automaton.verdict(state, unknown_count) is verdict


@pytest.mark.parametrize("pattern", ["1+", "(?!1)2", "1{", "1{x}", "[a-z]", "a", "(1", "1)", "1$"])
def test_a_pattern_beyond_the_grammar_is_refused_not_misread(pattern: str) -> None:
    """Newer data may use more; then whole numbers are kept, slower and never wrong."""
    with pytest.raises(PatternUnknown):
        DigitPattern(pattern)


def test_every_plan_of_the_pinned_data_is_understood() -> None:
    """Else its numbers are looked up one by one, 50 microseconds each, and nobody notices why."""
    for calling_code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        assert plan_of(calling_code)._is_known, calling_code


def test_calling_codes_are_split_as_the_library_does() -> None:
    """1 is a code of its own, 12 is not; no code begins with 0."""
    assert split_calling_code("12065550100") == (1, "2065550100")
    assert split_calling_code("4930") == (49, "30")
    assert split_calling_code("37041234567") == (370, "41234567")
    assert split_calling_code("0123") is None
    assert split_calling_code("999123") is None
    assert split_calling_code("") is None
