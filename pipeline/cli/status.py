"""`pstn status`: partitions, owners, lag, rate, rejects and balances at zero, once or as they change."""

from __future__ import annotations

import json
import time
from typing import Annotated, Literal

import typer
from rich.live import Live
from rich.progress import Progress

from pipeline.base.avro import DecodeError
from pipeline.base.settings_io import Settings
from pipeline.cli.failure import fail, load_settings, one_line
from pipeline.cli.terminal import Terminal
from pipeline.cli.topics import Bootstrap, Prefix

_LOOK_INTERVAL_S = 2.0
_RATE_INTERVAL_S = 1.0


def status(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    once: Annotated[bool, typer.Option("--once", help="one look, then end; so it is without a terminal")] = False,
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="table or json (one look)")] = "table",
) -> None:
    """Show partitions, owners, lag in records and seconds, rate, rejects and balances at zero. Ctrl-C ends it.

    It asks the brokers only, joins no group and moves no position: it may run anywhere, at any time.

    Example: pstn status --once --format json
    """
    settings = load_settings(bootstrap_servers=bootstrap, topic_prefix=prefix)
    with one_line():
        try:
            if once or output == "json" or not Terminal().is_terminal:
                _once(settings, as_json=output == "json")
            else:
                _live(settings)
        except DecodeError as error:
            raise fail(f"a record cannot be read: {error}; is this pstn older than the workers?") from None
        except KeyboardInterrupt:
            return


def _once(settings: Settings, *, as_json: bool) -> None:
    from pipeline.ops.follow_io import Follower
    from pipeline.ops.status_io import StatusReader
    from pipeline.ops.status_view import status_view

    reader = StatusReader(settings)
    with Follower(settings) as follower:
        reader.look(follower.followed())
        started_s = time.monotonic()
        with Progress(console=Terminal(stderr=True), transient=True) as bar:
            task = bar.add_task("reading the credit table", total=1.0, visible=False)
            while not follower.wait(0.2):
                is_long = time.monotonic() - started_s > _LOOK_INTERVAL_S
                bar.update(task, completed=follower.followed().read_share, visible=is_long)
        time.sleep(max(0.0, _RATE_INTERVAL_S - (time.monotonic() - started_s)))
        found = reader.look(follower.followed())
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        Terminal().print(status_view(found))


def _live(settings: Settings) -> None:
    from pipeline.ops.follow_io import Follower
    from pipeline.ops.status_io import StatusReader
    from pipeline.ops.status_view import status_view

    reader = StatusReader(settings)
    with Follower(settings) as follower, Live(console=Terminal(), auto_refresh=False, screen=True) as live:
        while True:
            started_s = time.monotonic()
            live.update(status_view(reader.look(follower.followed())), refresh=True)
            follower.wait(0)
            time.sleep(max(0.0, _LOOK_INTERVAL_S - (time.monotonic() - started_s)))
