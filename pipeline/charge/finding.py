"""What a check of the rating tables found: a closed list of kinds, each an error or a warning."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """An error stops: nobody may rate with these tables. A warning is for a person to look at."""

    ERROR = "error"
    WARNING = "warning"


class Kind(StrEnum):
    """What is wrong. The order is that of the list that a person reads."""

    BAD_ROW = "bad_row"
    COUNTRY_UNKNOWN = "country_unknown"
    CONTRADICTORY_ROWS = "contradictory_rows"
    CURRENCY_CHANGED = "currency_changed"
    DECK_CHANGED = "deck_changed"
    DECK_LOST = "deck_lost"
    ROWS_LOST = "rows_lost"
    RATE_JUMP = "rate_jump"
    RATE_FAR_FROM_COUNTRY = "rate_far_from_country"
    RATE_ABSURD = "rate_absurd"
    DESTINATION_WITHOUT_RATE = "destination_without_rate"
    PREFIX_OF_ANOTHER_COUNTRY = "prefix_of_another_country"
    CALLING_CODE_UNKNOWN = "calling_code_unknown"
    COUNTRY_NOT_LISTED = "country_not_listed"
    COUNTRY_LOST = "country_lost"
    LICENCE_LOST = "licence_lost"
    LICENCE_WITHOUT_CAPABILITY = "licence_without_capability"
    ALLOWANCE_UNUSED = "allowance_unused"
    ALLOWANCE_MISSING = "allowance_missing"
    ALLOWANCE_GAP = "allowance_gap"
    ALLOWANCE_CHANGED = "allowance_changed"
    POOL_UNEVEN = "pool_uneven"


ERRORS = frozenset((Kind.BAD_ROW, Kind.COUNTRY_UNKNOWN, Kind.CONTRADICTORY_ROWS, Kind.CURRENCY_CHANGED))


class Finding(NamedTuple):
    """One finding. `row_count`: how many rows it speaks of; `line`: the first of them, 0 for the file as a whole."""

    kind: Kind
    file: str
    line: int
    column: str
    what: str
    row_count: int = 1

    @property
    def severity(self) -> Severity:
        return Severity.ERROR if self.kind in ERRORS else Severity.WARNING

    @property
    def place(self) -> str:
        """`FILE:LINE`, or the file alone."""
        return f"{self.file}:{self.line}" if self.line else self.file
