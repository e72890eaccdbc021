"""`pstn sandbox`: a deployment on this machine to try the other commands on, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.failure import one_line


def sandbox(
    folder: Annotated[Path, typer.Option(help="takes the warehouse, the notices and the settings")] = Path("sandbox"),
) -> None:
    """Broker, worker and warehouse in one process, with no accounts yet. The broker forgets everything at the end.

    In another shell type `. sandbox/env`, then `pstn account open`, as docs/getting-started.md does.

    Example: pstn sandbox --folder sandbox
    """
    from pipeline.embedded.sandbox_io import sandbox as running
    from pipeline.embedded.sandbox_io import watch

    absolute = folder.resolve()

    async def run() -> None:
        async with running(absolute) as worker:
            typer.echo(f"it runs: in another shell type `. {folder}/env`; Ctrl-C ends it")
            await watch(worker)

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with one_line(), contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run())
