"""What `pstn status` shows on a terminal: what is unknown must never look like what is well."""

from __future__ import annotations

import pytest
from rich.console import Console

from pipeline.ops.status import Followed, PartitionLag, Status
from pipeline.ops.status_view import status_view


def lag(topic: str, lag_records: int | None, lag_seconds: float | None = 0.0) -> PartitionLag:
    next_offset = None if lag_records is None else 70 - lag_records
    return PartitionLag("loader", topic, 0, None, next_offset, 70, lag_records, lag_seconds, 0)


def shown(*lags: PartitionLag) -> str:
    """The loader's cell of the row of all partitions."""
    status = Status(0, "broker:9092", 1, "pstn.", (), lags, {}, Followed(), ())
    console = Console(width=120)
    with console.capture() as captured:
        console.print(status_view(status))
    [line] = [line for line in captured.get().splitlines() if line.strip("│ ").startswith("all ")]
    return line.split("│")[5].strip()


@pytest.mark.parametrize(
    ("lags", "cell"),
    [
        ([lag("rated-calls", 0), lag("rejected", 0)], "0"),
        ([lag("rated-calls", 60, 90.0), lag("rejected", 0)], "60 / 90 s"),
        ([lag("rated-calls", None, None), lag("rejected", None, None)], "?"),
        ([lag("rated-calls", None, None), lag("rejected", 0)], "?"),
        ([lag("rated-calls", None, None), lag("rejected", 60, 90.0)], "60 and ? / 90 s"),
    ],
)
def test_a_role_without_a_position_shows_an_unknown_lag_and_no_zero(lags: list[PartitionLag], cell: str) -> None:
    """A loader that fails from its first record on has a million of them before it, and showed 0 in green."""
    assert shown(*lags) == cell
