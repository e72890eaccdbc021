"""`pstn ledger`: the first checkpoints, and the one repair that an operator must decide."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pipeline.base.check_io import specs_of
from pipeline.base.topics import CDRS, problems_of_topics
from pipeline.base.topics_io import connect_admin, describe_topics
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.topics import Bootstrap, Prefix
from pipeline.debit.init_io import initialise, skip_lost

app = typer.Typer(no_args_is_help=True, help="Begin a ledger, or accept a gap in its input.")


@app.command()
def init(bootstrap: Bootstrap = None, prefix: Prefix = None) -> None:
    """Write the first checkpoint of each partition that has none; safe to repeat, never overwrites.

    Example: pstn ledger init --bootstrap kafka-1:9092
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    with one_line():
        specs = specs_of(settings)
        found = describe_topics(
            connect_admin(settings.bootstrap_servers), settings.topic_prefix, [spec.name for spec in specs]
        )
        if problems := problems_of_topics(specs, found, prefix=settings.topic_prefix):
            raise fail("; ".join(problems))
        count = next(iter(found.values())).partition_count
        ids = {name: state.topic_id for name, state in found.items()}
        written = asyncio.run(initialise(settings, partition_count=count, topic_ids=ids))
    typer.echo(f"checkpoints: {len(written)} written, {count - len(written)} were there already")


@app.command()
def skip(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Go on after retention deleted input that was never applied. Those calls stay uncharged until sent again.

    Workers may run; a partition that stands goes on by itself a few seconds later.

    Example: pstn ledger skip
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    if not yes:
        typer.confirm("Accept that the deleted calls and commands are lost?", abort=True)
    with one_line():
        found = describe_topics(connect_admin(settings.bootstrap_servers), settings.topic_prefix, [CDRS])
        if CDRS not in found:
            raise fail(f"topic {settings.topic(CDRS)} does not exist: type `pstn topics create`")
        skipped = asyncio.run(skip_lost(settings, partition_count=found[CDRS].partition_count))
    for number, cdrs, commands in skipped:
        typer.echo(f"partition {number}: {cdrs} CDRs and {commands} commands skipped")
    if not skipped:
        typer.echo("nothing is missing: no checkpoint moved")
