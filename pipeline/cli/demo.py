"""`pstn demo`: the whole pipeline on this machine, in a minute, with books that are compared at the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import RenderableType
from rich.live import Live

from pipeline.cli.failure import fail, one_line
from pipeline.cli.terminal import Terminal
from pipeline.embedded.demo import Summary
from pipeline.embedded.demo_view import summary_view

EXIT_NOT_RECONCILED = 1
EXIT_INTERRUPTED = 130


def demo(
    calls: Annotated[int, typer.Option(min=1, help="how many different calls")] = 20_000,
    tenants: Annotated[int, typer.Option(min=1, max=100_000, help="how many customers, of very unequal size")] = 50,
    seed: Annotated[int, typer.Option(help="other seeds, other customers and calls")] = 1,
    rate: Annotated[float, typer.Option(min=0, help="calls a second; 0 is as fast as it goes")] = 2_500,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="on a local Apache Kafka, with a kill -9 of the worker (Java 17, Maven)")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="folder that keeps all files, the warehouse too", show_default="a temporary one")
    ] = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="of the summary: table or json")
    ] = "table",
) -> None:
    """Invented calls through a Kafka protocol, priced, debited, loaded and compared. Exit code 1 if the books differ.

    The rates are a proxy and are labelled so; the telephone numbers belong to nobody.

    Example: pstn demo --calls 5000 --keep demo-files
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise fail(f"the folder {keep} is not empty: name another, so that no older run is mixed in")
    from pipeline.embedded.demo_io import Wish, run_demo
    from pipeline.embedded.kafka_io import KafkaUnavailable
    from pipeline.embedded.simulate_io import SendingFailed

    wish = Wish(calls=calls, tenants=tenants, seed=seed, rate=rate, is_kafka=kafka, keep=keep)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with one_line():
        try:
            summary = _watched(lambda show: asyncio.run(run_demo(wish, show=show)))
        except (KafkaUnavailable, SendingFailed) as error:
            raise fail(str(error)) from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise fail("interrupted: everything is stopped", EXIT_INTERRUPTED) from None
    if output == "json":
        typer.echo(json.dumps(summary.as_dict()))
    else:
        Terminal().print(summary_view(summary))
    if not summary.is_reconciled:
        raise typer.Exit(EXIT_NOT_RECONCILED)


def _watched(run: Callable[[Callable[[RenderableType], None]], Summary]) -> Summary:
    """Shows the run on a terminal while it goes on; elsewhere nothing but the summary."""
    console = Terminal(stderr=True)
    if not console.is_terminal:
        return run(lambda view: None)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        return run(lambda view: live.update(view, refresh=True))
