"""`pstn doctor`: is this set up so that production may trust it? One line for each thing that was looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from pipeline.cli.failure import load_settings, one_line
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix

EXIT_UNSOUND = 1
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    warehouse: Annotated[
        str | None,
        typer.Option(help="clickhouse://host:port/database or chdb:FOLDER", envvar="PSTN_WAREHOUSE"),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(help="folder of the rating tables", envvar="PSTN_TABLES", show_default="those shipped"),
    ] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="table or json")] = "table",
) -> None:
    """Check brokers, topics, warehouse, rating tables, disk and clock. Writes nothing. Exit code 1 on a failure.

    It asks for what production needs: three replicas, for one. A set-up for trials fails in these lines, and says so.

    Example: pstn doctor --bootstrap kafka-1:9092 --format json
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix, warehouse=warehouse, tables=tables)
    from pipeline.ops.doctor_io import examine

    console = Terminal(soft_wrap=True)
    findings = []
    with one_line():
        for finding in examine(settings):
            findings.append(finding)
            if output == "table":
                level = Text(f"{finding.level:<4}", style=_STYLES[finding.level])
                console.print(level, "  ", Text(finding.area, style="bold"), ": ", finding.what, sep="")
                if finding.do:
                    console.print("     ", finding.do)
    counts = {level: sum(finding.level == level for finding in findings) for level in _STYLES}
    if output == "json":
        typer.echo(json.dumps({**counts, "findings": [finding._asdict() for finding in findings]}))
    else:
        console.print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")
    if counts["fail"]:
        raise typer.Exit(EXIT_UNSOUND)
