"""The data of a chart: sums by label and unit, as many as an eye takes in; and bars of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

_OTHERS = "others"
_MONTH_DIGITS = len("2026-03")
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Bar(NamedTuple):
    """A sum under a label, in a currency or another unit, over so many rows of the report."""

    label: str
    unit: str
    total: Decimal
    row_count: int = 0


class Series(NamedTuple):
    """Labels, and for each unit a value for each of them. `span`: what a label of a timeline stands for; else empty."""

    labels: list[str]
    values: dict[str, list[Decimal]]
    span: str

    def titled(self, title: str) -> str:
        return f"{title} by {self.span}" if self.span else title


# From the finest to the coarsest: what a label stands for, and the label of a day.
_SPANS: tuple[tuple[str, Callable[[date], str]], ...] = (
    ("day", date.isoformat),
    ("week from Monday", lambda day: (day - timedelta(day.weekday())).isoformat()),
    ("month", lambda day: day.isoformat()[:_MONTH_DIGITS]),
    ("quarter", lambda day: f"{day.year} Q{(day.month + 2) // 3}"),
    ("year", lambda day: str(day.year)),
)
_SPAN_OF_MONTHS = 2


def series_of(bars: Sequence[Bar], labels_max: int, *, is_timeline: bool) -> Series:
    """A timeline, whose labels are days or months, has every span from its first to its last, also without bars, in
    the finest one that gives no more than `labels_max`. Any other chart shows the first labels (they come largest
    first) and the rest as `others`."""
    span = ""
    totals: dict[str, dict[str, Decimal]] = {}
    if is_timeline and bars:
        span, labels, bars = _timeline(bars, labels_max)
        totals = {label: {} for label in labels}
    units = sorted({bar.unit for bar in bars})
    for bar in bars:
        by_unit = totals.setdefault(bar.label or "(none)", {})
        by_unit[bar.unit] = by_unit.get(bar.unit, Decimal(0)) + bar.total
    labels = list(totals)
    if not is_timeline and len(labels) > labels_max:
        kept, rest = labels[: labels_max - 1], labels[labels_max - 1 :]
        totals[_OTHERS] = {
            unit: sum((totals[label].get(unit, Decimal(0)) for label in rest), Decimal(0)) for unit in units
        }
        labels = [*kept, _OTHERS]
    return Series(labels, {unit: [totals[label].get(unit, Decimal(0)) for label in labels] for unit in units}, span)


def _timeline(bars: Sequence[Bar], labels_max: int) -> tuple[str, list[str], list[Bar]]:
    """The span, its labels without a gap, and the bars under them."""
    days = [date.fromisoformat(bar.label if len(bar.label) > _MONTH_DIGITS else f"{bar.label}-01") for bar in bars]
    first, last = min(days), max(days)
    every = [first + timedelta(count) for count in range((last - first).days + 1)]
    spans = _SPANS[_SPAN_OF_MONTHS if len(bars[0].label) == _MONTH_DIGITS else 0 :]
    span, label_of = next((each for each in spans if len(set(map(each[1], every))) <= labels_max), spans[-1])
    labels = list(dict.fromkeys(map(label_of, every)))
    return span, labels, [bar._replace(label=label_of(day)) for bar, day in zip(bars, days, strict=True)]


def text_bar(value: Decimal, largest: Decimal, width: int) -> str:
    """A bar of at most `width` cells, to an eighth of a cell; nothing for zero and below."""
    if value <= 0 or largest <= 0:
        return ""
    eighths = max(1, int(value * width * 8 / largest))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
