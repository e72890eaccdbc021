"""The data of a chart: sums by label and unit, cut to what an eye takes in; and bars of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

_OTHERS = "others"
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Bar(NamedTuple):
    """A sum under a label, in a currency or another unit, over so many rows of the report."""

    label: str
    unit: str
    total: Decimal
    row_count: int = 0


def series_of(bars: Sequence[Bar], labels_max: int, *, is_timeline: bool) -> tuple[list[str], dict[str, list[Decimal]]]:
    """Labels, and for each unit a value for each of them. Of more than `labels_max` a timeline shows the last ones, any
    other chart the first ones (they come largest first) and the rest as `others`."""
    totals: dict[str, dict[str, Decimal]] = {}
    units = sorted({bar.unit for bar in bars})
    for bar in bars:
        by_unit = totals.setdefault(bar.label or "(none)", {})
        by_unit[bar.unit] = by_unit.get(bar.unit, Decimal(0)) + bar.total
    labels = sorted(totals) if is_timeline else list(totals)
    if is_timeline:
        labels = labels[-labels_max:]
    elif len(labels) > labels_max:
        kept, rest = labels[: labels_max - 1], labels[labels_max - 1 :]
        totals[_OTHERS] = {
            unit: sum((totals[label].get(unit, Decimal(0)) for label in rest), Decimal(0)) for unit in units
        }
        labels = [*kept, _OTHERS]
    return labels, {unit: [totals[label].get(unit, Decimal(0)) for label in labels] for unit in units}


def text_bar(value: Decimal, largest: Decimal, width: int) -> str:
    """A bar of at most `width` cells, to an eighth of a cell; nothing for zero and below."""
    if value <= 0 or largest <= 0:
        return ""
    eighths = max(1, int(value * width * 8 / largest))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
