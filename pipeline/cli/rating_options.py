"""The options of every command that rates offline: tables, the settings of a deployment, the rules left open.

They mean what they mean to a worker, by option or by variable: with the same ones a charge is the same bytes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.resources_io import resource_path
from pipeline.base.rules import Rules
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.offline_io import Offline

TablesOption = Annotated[
    Path | None,
    typer.Option("--tables", help="folder of the rating tables", envvar="PSTN_TABLES", show_default="those shipped"),
]


class Rating(NamedTuple):
    """What the options say."""

    tables_folder: Path
    rules: Rules
    partition_count: int
    topic_prefix: str

    def load_tables(self) -> Tables:
        """TableError when a table is wrong."""
        return load_tables(self.tables_folder)

    def offline(self, tables: Tables) -> Offline:
        """Empty books on these tables."""
        return Offline(tables, self.rules, partition_count=self.partition_count, topic_prefix=self.topic_prefix)


def rating_of(
    tables: TablesOption = None,
    partitions: Annotated[
        int,
        typer.Option(
            min=1, max=10_000, envvar="PSTN_PARTITION_COUNT", help="partitions of the topics; part of applied_seq"
        ),
    ] = 12,
    topic_prefix: Annotated[
        str, typer.Option(envvar="PSTN_TOPIC_PREFIX", help="stands before the topics in source positions")
    ] = "pstn.",
    duplicate_window_days: Annotated[
        int,
        typer.Option(
            min=1, envvar="PSTN_DUPLICATE_WINDOW_DAYS", help="days for which a call sent again counts as a duplicate"
        ),
    ] = 7,
    call_age_days_max: Annotated[
        int,
        typer.Option(min=1, envvar="PSTN_CALL_AGE_DAYS_MAX", help="days after which a call is rejected as too old"),
    ] = 400,
    international_quota_closes_domestic: Annotated[
        bool,
        typer.Option(
            envvar="PSTN_INTERNATIONAL_QUOTA_CLOSES_DOMESTIC", help="R23: the end of either quota closes both"
        ),
    ] = False,
    overdraft_allowed: Annotated[
        bool, typer.Option(envvar="PSTN_OVERDRAFT_ALLOWED", help="R61: calls that took place are charged below zero")
    ] = True,
    toll_free_number_type: Annotated[
        list[str] | None,
        typer.Option(
            help="number_type that means toll-free; may be repeated",
            show_default=" ".join(Rules().toll_free_number_types),
        ),
    ] = None,
) -> Rating:
    """From the options to what they say."""
    rules = Rules(
        duplicate_window_ms=duplicate_window_days * MS_PER_DAY,
        call_age_ms_max=call_age_days_max * MS_PER_DAY,
        international_quota_closes_domestic=international_quota_closes_domestic,
        overdraft_allowed=overdraft_allowed,
        toll_free_number_types=tuple(toll_free_number_type or Rules().toll_free_number_types),
    )
    return Rating(tables or resource_path("rating_tables"), rules, partitions, topic_prefix)


def with_rating(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options of `rating_of` in the place of its parameter `rating`."""
    shared = inspect.signature(rating_of, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:  # typer calls with the options' own types
        rating = rating_of(**{name: given.pop(name) for name in shared})
        command(**given, rating=rating)

    parameters = [p for name, p in own.parameters.items() if name != "rating"] + list(shared.values())
    run.__signature__ = own.replace(  # type: ignore[attr-defined]  # this is how typer reads a command
        parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
    )
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
