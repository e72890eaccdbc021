"""`pstn topics`: makes the topics as the design asks for them, and shows what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import typer
from rich.table import Table

from pipeline.base.check_io import specs_of
from pipeline.base.settings_io import Settings
from pipeline.base.topics import problems_of_topics
from pipeline.base.topics_io import connect_admin, create_topics, describe_topics, repair_configs
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.terminal import Terminal

app = typer.Typer(no_args_is_help=True, help="Create and inspect the Kafka topics.")

Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        help="Kafka brokers, host:port with commas",
        envvar="PSTN_BOOTSTRAP_SERVERS",
        show_default="127.0.0.1:9092",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        help="stands before every topic, group and transactional id",
        envvar="PSTN_TOPIC_PREFIX",
        show_default="pstn.",
    ),
]


@app.command()
def create(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    partitions: Annotated[
        int | None, typer.Option(help="of every topic; never changes; or PSTN_PARTITION_COUNT", show_default="12")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="of every topic, 3 in production; or PSTN_REPLICATION_FACTOR", show_default="1")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="also set the settings of topics that exist")] = False,
) -> None:
    """Create what is missing, with the settings that money needs; safe to repeat. Then: pstn ledger init.

    Example: pstn topics create --bootstrap kafka-1:9092 --replicas 3
    """
    settings = load_settings(
        bootstrap_servers=bootstrap, topic_prefix=prefix, partition_count=partitions, replication_factor=replicas
    )
    with one_line():
        admin = connect_admin(settings.bootstrap_servers)
        specs = specs_of(settings)
        made = create_topics(
            admin,
            settings.topic_prefix,
            specs,
            partition_count=settings.partition_count,
            replication_factor=settings.replication_factor,
        )
        if repair:
            repair_configs(admin, settings.topic_prefix, specs)
    for name in made:
        typer.echo(f"created {name} ({settings.partition_count} partitions)")
    typer.echo(f"{len(specs) - len(made)} topics were there already{', settings set again' if repair else ''}")


@app.command()
def show(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="table or json")] = "table",
) -> None:
    """Show each topic, and what is wrong with it (exit code 2 then).

    Example: pstn topics show --format json
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    with one_line():
        specs = specs_of(settings)
        found = describe_topics(
            connect_admin(settings.bootstrap_servers), settings.topic_prefix, [spec.name for spec in specs]
        )
    problems = problems_of_topics(specs, found, prefix=settings.topic_prefix)
    rows = [
        {
            "topic": settings.topic(spec.name),
            "holds": spec.holds,
            "partitions": found[spec.name].partition_count if spec.name in found else None,
            "cleanup": found[spec.name].configs.get("cleanup.policy") if spec.name in found else None,
            "time": found[spec.name].configs.get("message.timestamp.type") if spec.name in found else None,
        }
        for spec in specs
    ]
    if output == "json":
        typer.echo(json.dumps({"topics": rows, "problems": problems}))
    else:
        _print_table(settings, rows)
    if problems:
        raise fail("; ".join(problems))


def _print_table(settings: Settings, rows: Sequence[Mapping[str, object]]) -> None:
    table = Table("topic", "holds", "partitions", "cleanup", "time", title=f"topics at {settings.bootstrap_servers}")
    for row in rows:
        table.add_row(*("missing" if value is None else str(value) for value in row.values()))
    Terminal().print(table)
