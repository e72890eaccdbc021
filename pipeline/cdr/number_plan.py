"""How many leading digits of a national number settle everything that the numbering library will say about it.

The library's answer is a function of the number's size and of which patterns of its calling code match it (after a
national prefix, if one is there, was taken off). So once every pattern's match is settled for the digits known so far,
all numbers that begin like this and are as long have the same answer.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

from pipeline.cdr.digit_pattern import DigitPattern, PatternUnknown, Verdict

CALLING_CODE_DIGITS_MAX: Final = 3
_KINDS: Final = (
    "general_desc",
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
_REST: Final = r"\d{0,17}"  # what may follow a pattern that is only matched at the front

_State = tuple[int, ...]


class NumberPlan:
    """All patterns of one calling code, walked together."""

    def __init__(self, calling_code: int) -> None:
        regions = COUNTRY_CODE_TO_REGION_CODE[calling_code]
        found = (PhoneMetadata.metadata_for_region_or_calling_code(calling_code, region) for region in regions)
        metadata = [region for region in found if region is not None]
        self._prefix = metadata[0].national_prefix_for_parsing
        self._rule = metadata[0].national_prefix_transform_rule
        patterns: dict[str, None] = {}
        if self._prefix:
            # `$` only takes matches away: without it "cannot match" stays right. It stands in one plan (261).
            patterns[f"(?:{self._prefix.replace('$', '')}){_REST}"] = None
        for region in metadata:
            if region.leading_digits:
                patterns[f"(?:{region.leading_digits}){_REST}"] = None
            for kind in _KINDS:
                description = getattr(region, kind)
                if description is not None and description.national_number_pattern:
                    patterns[description.national_number_pattern] = None
        self._is_known = True
        self._patterns: list[DigitPattern] = []
        try:
            self._patterns = [DigitPattern(pattern) for pattern in patterns]
        except PatternUnknown:
            self._is_known = False  # then only whole numbers are settled: slower, never wrong
        self._start: _State = tuple(DigitPattern.start for _ in self._patterns)
        self._steps: dict[tuple[_State, str], _State] = {}
        self._settled: dict[tuple[_State, int], bool] = {}

    def settling_size(self, national: str) -> int:
        """The fewest leading digits of `national` after which no later digit changes the library's answer."""
        state = self._start
        for size, digit in enumerate(national):
            if self._is_settled(national[:size], state, len(national) - size):
                return size
            state = self._step(state, digit)
        return len(national)

    def _step(self, state: _State, digit: str) -> _State:
        key = (state, digit)
        if key not in self._steps:
            pairs = zip(self._patterns, state, strict=True)
            self._steps[key] = tuple(pattern.step(of_pattern, digit) for pattern, of_pattern in pairs)
        return self._steps[key]

    def _is_settled(self, known: str, state: _State, unknown_count: int) -> bool:
        if not self._is_known or not self._matches_are_settled(state, unknown_count):
            return False
        if not self._prefix or self._patterns[0].verdict(state[0], unknown_count) is Verdict.NONE:
            return True
        if "$" in self._prefix or len(known) < _width_max(self._prefix):
            return False  # how much the national prefix takes off is still open
        prefix = re.match(self._prefix, known)
        if prefix is None:
            return True
        stripped = {known[prefix.end() :]}
        if self._rule and prefix.groups()[-1] is not None:
            stripped.add(re.sub(self._prefix, self._rule, known, count=1))
        return all(self._matches_are_settled(self._walk(rest), unknown_count) for rest in stripped)

    def _matches_are_settled(self, state: _State, unknown_count: int) -> bool:
        key = (state, unknown_count)
        if key not in self._settled:
            first = 1 if self._prefix else 0  # the prefix's own pattern only helps to rule it out
            pairs = zip(self._patterns[first:], state[first:], strict=True)
            verdicts = (pattern.verdict(of_pattern, unknown_count) for pattern, of_pattern in pairs)
            self._settled[key] = all(verdict is not Verdict.SOME for verdict in verdicts)
        return self._settled[key]

    def _walk(self, digits: str) -> _State:
        state = self._start
        for digit in digits:
            state = self._step(state, digit)
        return state


@cache
def _width_max(pattern: str) -> int:
    """An upper bound of what a pattern can match, from its own automaton: no digit beyond it is looked at."""
    automaton = DigitPattern(pattern)
    alive, width = {automaton.start}, 0
    while alive := {
        following
        for state in alive
        for digit in "0123456789"
        if not automaton.is_dead(following := automaton.step(state, digit))
    }:
        width += 1
    return width


@cache
def plan_of(calling_code: int) -> NumberPlan:
    return NumberPlan(calling_code)


def split_calling_code(digits: str) -> tuple[int, str] | None:
    """Calling code and national number, as the library splits them; None when there is no such code."""
    for size in range(1, min(CALLING_CODE_DIGITS_MAX, len(digits)) + 1):
        if digits[0] != "0" and int(digits[:size]) in COUNTRY_CODE_TO_REGION_CODE:
            return int(digits[:size]), digits[size:]
    return None
