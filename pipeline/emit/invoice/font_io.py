"""The font of the PDFs: the one that is set, else DejaVu Sans, which came with another package (Latin, Greek,
Cyrillic, Arabic, Hebrew; no Chinese or Japanese)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pipeline.base.kafka_io import WorkerMustStop
from pipeline.base.settings_io import Settings


def font_of(settings: Settings) -> Path:
    """WorkerMustStop when there is no such file."""
    shipped = Path(str(files("matplotlib"))) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = settings.invoice_font or shipped
    if not font.is_file():
        raise WorkerMustStop(f"setting invoice_font: there is no {font} (PSTN_INVOICE_FONT)")
    return font
