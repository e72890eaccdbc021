"""The nouns of an explanation: steps in words, and what recomputing a rated call brought to light.

A difference is only what follows from the record and what is at hand; what needs tables, settings or numbering data of
another version is named as missing, and what no record holds (licences, policy, balance before) as not known.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.base.money import format_micros

DECK, NUMBERING, SETTINGS = "rate deck", "numbering data", "settings"
"""What a comparison may need, by the names under which it can be missing."""


class Step(NamedTuple):
    """One sentence of the explanation, the rules behind it, and the table row it rests on, if any."""

    rules: str
    title: str
    says: str
    table: str | None = None


class Difference(NamedTuple):
    """A field that would come out otherwise now."""

    field: str
    recorded: object
    recomputed: object
    rules: str


class Explanation(NamedTuple):
    """All that can be said of one rated call."""

    usage_id: str
    tenant_id: str
    steps: list[Step]
    differences: list[Difference]
    missing: list[str]
    """Tables, settings or data of the record's version that are not at hand."""
    not_known: list[str]
    """What the record does not hold, so that nobody can tell from it alone."""


class Notes:
    """Collects an explanation while the steps are walked through."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.differences: list[Difference] = []
        self.missing: dict[str, str] = {}
        self.not_known: list[str] = []

    def say(self, rules: str, title: str, says: str, table: str | None = None) -> None:
        self.steps.append(Step(rules, title, says, table))

    def miss(self, what: str, says: str) -> None:
        """Something of another version than the record's: comparisons that need it say nothing from here on."""
        self.missing[what] = says

    def cannot_tell(self, says: str) -> None:
        if says not in self.not_known:
            self.not_known.append(says)

    def expect(self, field: str, recorded: object, recomputed: object, rules: str, *needs: str) -> None:
        """A difference, unless both are equal or something that the comparison needs is missing."""
        if recorded != recomputed and not any(need in self.missing for need in needs):
            self.differences.append(Difference(field, recorded, recomputed, rules))

    def insist(self, is_so: bool, field: str, recorded: object, wanted: str, rules: str, *needs: str) -> None:
        """The same for a condition, said in words."""
        if not is_so:
            self.expect(field, recorded, wanted, rules, *needs)


def money(micros: int, currency: str) -> str:
    """Exact, both ways of writing it."""
    return f"{micros:,} micro-units ({format_micros(micros)} {currency})"
