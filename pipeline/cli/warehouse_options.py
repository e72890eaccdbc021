"""What every command that reads the warehouse shares: its option, and how the warehouse is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pipeline.base.avro import DecodeError
from pipeline.cli.failure import fail, stderr
from pipeline.warehouse.chosen import PeriodError, parse_period
from pipeline.warehouse.patient_io import PatientStore
from pipeline.warehouse.store import Store, StoreAway, StoreRefused
from pipeline.warehouse.store_io import open_store

WarehouseOption = Annotated[
    str | None,
    typer.Option(
        "--warehouse",
        help="clickhouse://host:port/database or chdb:FOLDER",
        envvar="PSTN_WAREHOUSE",
        show_default="chdb:warehouse",
    ),
]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="of this tenant only", show_default="all")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="first day, month or time (UTC)", show_default="the first call")
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to", help="last day or month, included; or a time, not included (UTC)", show_default="the last call"
    ),
]


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """The warehouse for reading, also while a worker has it, asked again while it is away for a moment; what is wrong
    becomes one line and exit code 2."""
    try:
        store = PatientStore(lambda: open_store(url, for_reading=True), _say_retry)
        try:
            yield store
        finally:
            store.close()
    except (StoreAway, StoreRefused, DecodeError) as error:
        raise fail(str(error)) from None


def _say_retry(reason: str) -> None:
    if stderr.is_terminal:
        stderr.print(f"{reason}; trying again", style="dim")


def period(from_text: str | None, to_text: str | None) -> tuple[int | None, int | None]:
    """Of the options --from and --to; one line when it cannot be meant."""
    try:
        return parse_period(from_text, to_text)
    except PeriodError as error:
        raise fail(str(error)) from None
