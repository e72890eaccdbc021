"""A loader, reports and the dead: who waits for whom at the embedded warehouse and at the books, and what is said."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from pipeline.cli.report import app
from pipeline.embedded.clickhouse_io import open_folder
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.warehouse.store_io import migrate
from tests.integration.ledger_harness import Deployment, eventually
from tests.integration.test_worker_process import environment_of, start

pytestmark = pytest.mark.timeout(300)

_IMPATIENT = """
import pipeline.effects_io
pipeline.effects_io.FOLDER_WAIT_S = 1.0
from pipeline.__main__ import main
main()
"""


def loader(deployment: Deployment, url: str, log: Path) -> subprocess.Popen[bytes]:
    return start(deployment, log, PSTN_ROLES="loader", PSTN_WAREHOUSE=url)


def test_a_loader_waits_for_a_folder_that_is_taken_and_says_so_once(
    kafka: KafkaNode, topic_prefix: str, folder_url: str, tmp_path: Path
) -> None:
    """A report at the moment of a restart must not cost the loader."""
    folder, log = Path(folder_url.removeprefix("chdb:")), tmp_path / "log"

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        holder = open_folder(folder)
        worker = loader(deployment, folder_url, log)
        try:
            await eventually(log.read_text, lambda text: "warehouse_folder_taken" in text, wait_s=90)
            await asyncio.sleep(1)
            holder.close()
            await eventually(log.read_text, lambda text: "partitions_assigned" in text, wait_s=90)
        finally:
            holder.close()
            worker.terminate()
            code = worker.wait(10)
        text = log.read_text()
        assert text.count("warehouse_folder_taken") == 1 and "partitions_assigned" in text
        assert code == 0 and "Traceback" not in text

    asyncio.run(run())


def test_a_loader_whose_patience_is_over_ends_with_one_line_and_exit_code_two(
    kafka: KafkaNode, topic_prefix: str, folder_url: str, tmp_path: Path
) -> None:
    """It was a traceback of forty lines after 15 s."""
    holder = open_folder(Path(folder_url.removeprefix("chdb:")))
    deployment = asyncio.run(Deployment.make(kafka.bootstrap, topic_prefix))
    ended = subprocess.run(
        [sys.executable, "-c", _IMPATIENT, "worker"],
        env=environment_of(deployment, PSTN_ROLES="loader", PSTN_WAREHOUSE=folder_url),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    holder.close()
    assert ended.returncode == 2, ended.stderr
    waiting, end = ended.stderr.strip().splitlines()
    assert json.loads(waiting)["event"] == "warehouse_folder_taken"
    assert end.startswith("pstn: the warehouse in") and "open in another process" in end


def test_a_worker_that_waits_for_a_folder_still_ends_at_once_when_told(
    kafka: KafkaNode, topic_prefix: str, folder_url: str, tmp_path: Path
) -> None:
    """An orchestrator kills what does not end; it would count as a crash."""
    holder, log = open_folder(Path(folder_url.removeprefix("chdb:"))), tmp_path / "log"

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        worker = loader(deployment, folder_url, log)
        await eventually(log.read_text, lambda text: "warehouse_folder_taken" in text, wait_s=90)
        asked_s = time.monotonic()
        worker.terminate()
        assert worker.wait(10) == 0, log.read_text()
        assert time.monotonic() - asked_s < 5
        assert "Traceback" not in log.read_text()

    asyncio.run(run())
    holder.close()


@pytest.fixture
def rated(kafka: KafkaNode, topic_prefix: str) -> Deployment:
    """Five calls of a tenant, and the ledger has gone home."""

    async def run() -> Deployment:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        await deployment.open_accounts(["tenant-0"])
        await deployment.call("tenant-0", 5)
        async with deployment.worker():
            await deployment.rated_when(5, wait_s=90)
        return deployment

    return asyncio.run(run())


@pytest.fixture
def loaded(rated: Deployment, folder_url: str, tmp_path: Path) -> Deployment:
    """The same calls in the warehouse, and the loader has gone home too."""
    log = tmp_path / "log"
    worker = loader(rated, folder_url, log)
    try:
        asyncio.run(eventually(log.read_text, lambda text: "partitions_assigned" in text, wait_s=90))
        waiting = CliRunner().invoke(app, reconcile_arguments(rated, folder_url, 90))
        assert waiting.exit_code == 0, waiting.output + log.read_text()
    finally:
        worker.terminate()
        worker.wait(10)
    return rated


def reconcile_arguments(deployment: Deployment, url: str, wait_s: float) -> list[str]:
    settings = deployment.settings
    place = ["--bootstrap", settings.bootstrap_servers, "--prefix", settings.topic_prefix, "--warehouse", url]
    return ["reconcile", *place, "--wait", str(wait_s)]


def test_reconciling_waits_for_the_transaction_that_a_killed_worker_left_open(
    loaded: Deployment, folder_url: str
) -> None:
    """Just after a kill is when everybody asks; the answer was that the partition hangs."""

    async def run() -> None:
        dead = AIOKafkaProducer(
            bootstrap_servers=loaded.settings.bootstrap_servers,
            transactional_id=f"{loaded.settings.group('ledger')}-1",
        )
        await dead.start()
        await dead.begin_transaction()
        await dead.send_and_wait(loaded.settings.topic("credit-table"), b"half", key=b"half", partition=1)
        hurried = await asyncio.to_thread(
            CliRunner().invoke, app, reconcile_arguments(loaded, folder_url, 0), env={"COLUMNS": "300"}
        )
        assert hurried.exit_code == 2
        assert "partition 1: the last stable offset stays at" in hurried.stderr
        asked = asyncio.create_task(
            asyncio.to_thread(CliRunner().invoke, app, reconcile_arguments(loaded, folder_url, 60))
        )
        await asyncio.sleep(5)
        assert not asked.done(), "it waits"
        await dead.abort_transaction()  # as the fence of the next owner does
        await dead.stop()
        result = await asked
        assert result.exit_code == 0, result.stdout + result.stderr
        assert result.stdout.startswith("reconciled")
        [line] = result.stderr.splitlines()
        assert "a transaction is open in it" in line and "waiting up to" in line

    asyncio.run(run())


def test_reconciling_leaves_the_folder_to_a_loader_while_it_waits(rated: Deployment, folder_url: str) -> None:
    """It held the lock for its whole run, and waited for the loader that waited for the lock."""
    folder = Path(folder_url.removeprefix("chdb:"))
    empty = open_folder(folder)
    migrate(empty)
    empty.close()
    results = []
    asking = threading.Thread(
        target=lambda: results.append(CliRunner().invoke(app, reconcile_arguments(rated, folder_url, 6)))
    )
    asking.start()
    taken = open_folder(folder, wait_s=10)
    assert asking.is_alive()
    taken.close()
    asking.join()
    [result] = results
    assert result.exit_code == 1, "no loader came"
    assert "the warehouse is not as far as the ledger" in result.stderr
