"""The terminal as every command writes to it: a text is shown as it is, and colour comes from `Text` alone."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.base.plain import plain


class Terminal(Console):
    """A console to which no `str` is markup, an emoji code or a command: neither a line, nor a title, nor a cell."""

    def __init__(self, **options: Any) -> None:  # Any: rich's own options
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)
