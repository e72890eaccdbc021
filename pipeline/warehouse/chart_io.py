"""A chart as a picture: SVG or PNG by the file's ending, the same data giving the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.warehouse.chart import Bar, series_of

_LABELS_MAX = 40
_WIDTH_INCHES, _HEIGHT_INCHES, _INCHES_A_LABEL = 10.0, 5.5, 0.2
_BAR_WIDTH, _BARS_WIDE = 0.8, 5  # a single bar as wide as the picture looks like a mistake
# Any: its keys are a list of all settings. A dollar sign is no mathematics here.
_LOOK: Any = {
    "svg.hashsalt": "pstn",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BAR_COLOUR = "#2f6f9f"


def write_chart(path: Path, *, title: str, bars: Sequence[Bar], is_timeline: bool, ending: str) -> None:
    """One plot for each unit, one above the other: currencies share no axis."""
    shown = series_of(bars, _LABELS_MAX, is_timeline=is_timeline)
    labels, series = shown.labels, shown.values
    with mpl.rc_context(_LOOK):
        rows = 0 if is_timeline else len(labels) * len(series)
        height = max(_HEIGHT_INCHES, 1 + _INCHES_A_LABEL * rows)
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(max(1, len(series)), 1, squeeze=False, sharex=is_timeline)
        figure.suptitle(shown.titled(title))
        for axis, (unit, values) in zip(axes[:, 0], series.items(), strict=False):
            heights = [float(value) for value in values]  # only drawn
            if is_timeline:
                axis.bar(labels, heights, _BAR_WIDTH, color=_BAR_COLOUR)
                space = max(0, _BARS_WIDE - len(labels)) / 2
                axis.set_xlim(-0.5 - space, len(labels) - 0.5 + space)
                axis.tick_params(axis="x", labelrotation=90 if len(labels) > 10 else 0)
                axis.set_ylabel(unit)
            else:
                axis.barh(range(len(labels)), heights, color=_BAR_COLOUR)
                axis.set_yticks(range(len(labels)), labels)
                axis.invert_yaxis()
                axis.set_xlabel(unit)
        if not series:
            axes[0, 0].text(0.5, 0.5, "no rows", ha="center", va="center")
        _save(figure, path, ending)


def _save(figure: Figure, path: Path, ending: str) -> None:
    kind = ending.removeprefix(".")
    figure.savefig(path, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
