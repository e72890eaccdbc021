"""A whole deployment in one process that stays: embedded broker, all roles of a worker, a warehouse in a folder.

For trying the command line and the API by hand. Everything on the broker is gone with the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pipeline.base.check_io import specs_of
from pipeline.base.settings_io import ROLES, Settings
from pipeline.base.topics_io import connect_admin, touch_topics
from pipeline.debit.init_io import initialise
from pipeline.embedded.broker_io import PARTITION_COUNT, EmbeddedBroker
from pipeline.embedded.demo_worker_io import WorkerInside

_LOOK_S = 0.3


@asynccontextmanager
async def sandbox(folder: Path) -> AsyncIterator[WorkerInside]:
    """Runs until the block ends. `folder/env` then holds the settings for other commands, for a shell to read."""
    (folder / "outbox").mkdir(parents=True, exist_ok=True)
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap,
            partition_count=PARTITION_COUNT,
            embedded_broker=True,
            roles=ROLES,
            warehouse=f"chdb:{folder / 'warehouse'}",
            outbox=folder / "outbox",
            web_port=0,
            log_format="json",
            declined_tenants=os.environ.get("PSTN_DECLINED_TENANTS", "^$"),  # every card is good
        )
        admin = await asyncio.to_thread(connect_admin, settings.bootstrap_servers)
        names = [spec.name for spec in specs_of(settings)]
        found = await asyncio.to_thread(touch_topics, admin, settings.topic_prefix, names)
        ids = {name: state.topic_id for name, state in found.items()}
        await initialise(settings, partition_count=PARTITION_COUNT, topic_ids=ids)
        async with WorkerInside(settings, folder / "worker.log") as worker:
            (folder / "env").write_text(_env(settings), encoding="utf-8")
            try:
                yield worker
            finally:
                (folder / "env").unlink(missing_ok=True)


async def watch(worker: WorkerInside) -> None:
    """Returns when the worker ends because it was told to; raises what ended it otherwise."""
    while True:
        worker.check()
        await asyncio.sleep(_LOOK_S)


def _env(settings: Settings) -> str:
    named = {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_EMBEDDED_BROKER": "true",
        "PSTN_WAREHOUSE": settings.warehouse,
    }
    return "".join(f"export {name}='{value}'\n" for name, value in named.items())
