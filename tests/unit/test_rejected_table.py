"""The list of rejects as a person reads it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.cli.rejected import _table
from pipeline.warehouse.rejects import Reject

LATE = Reject(
    "pstn.cdrs", 3, 1_207, "contoso", "call_too_old", "the call started at 2025-01-01T00:00:00Z, over 35 days ago",
    "0f0e0d0c-0000-4000-8000-000000000001", "", 1_772_409_600_000, 7, b"",
)  # fmt: skip


@pytest.mark.parametrize(("width", "is_shown"), [(60, False), (200, True)])
def test_a_column_without_room_is_named(monkeypatch, width, is_shown):
    """Who does not see the id of a call must know that there is one."""
    monkeypatch.setenv("COLUMNS", str(width))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(_table([LATE], "rejects"))
    shown = console.export_text()
    assert (LATE.usage_id in shown) is is_shown
    assert ("no room for: call or command" in " ".join(shown.split())) is not is_shown
