"""The worker as a process: how it starts, stops, and dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.embedded.kafka_io import KafkaNode
from tests.integration.ledger_harness import TABLES, Deployment, eventually, tenants_by_partition

pytestmark = pytest.mark.timeout(180)
BIN = Path(sys.executable).parent


def environment_of(deployment: Deployment, **variables: str) -> dict[str, str]:
    settings = deployment.settings
    return os.environ | {
        "PSTN_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PSTN_TOPIC_PREFIX": settings.topic_prefix,
        "PSTN_ROLES": "ledger",
        "PSTN_WEB_PORT": "0",
        "PSTN_SESSION_TIMEOUT_MS": "6000",
        "PSTN_CALL_AGE_DAYS_MAX": "4000",
        "PSTN_TABLES": str(TABLES),
        **variables,
    }


def start(deployment: Deployment, log: Path, *command: str, **variables: str) -> subprocess.Popen[bytes]:
    """In an empty folder of its own, `cwd` beside the log."""
    arguments = command or (sys.executable, "-m", "pipeline", "worker")
    (log.parent / "cwd").mkdir(exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(
            arguments, env=environment_of(deployment, **variables), stdout=stream, stderr=stream, cwd=log.parent / "cwd"
        )


def test_sigterm_finishes_the_slice_and_leaves_within_five_seconds(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """A rolling deployment must not wait for a session timeout, and must not lose what it had begun."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenant = "tenant-0"
        await deployment.open_accounts([tenant])
        await deployment.call(tenant, 3_000)
        worker = start(deployment, tmp_path / "log")
        await deployment.rated_when(1, wait_s=90)
        asked_s = time.monotonic()
        worker.terminate()
        assert worker.wait(10) == 0, (tmp_path / "log").read_text()
        assert time.monotonic() - asked_s < 5
        second = start(deployment, tmp_path / "log")
        await deployment.rated_when(3_000)
        second.terminate()
        second.wait(10)
        deployment.assert_exact(await deployment.rated())

    asyncio.run(run())


def test_fausts_own_command_runs_the_same_worker(kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """Whoever knows Faust starts it as they are used to."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        await deployment.open_accounts(["tenant-0"])
        await deployment.call("tenant-0", 5)
        worker = start(deployment, tmp_path / "log", str(BIN / "faust"), "-A", "pipeline.app", "worker", "-l", "warn")
        try:
            deployment.assert_exact(await deployment.rated_when(5))
        finally:
            worker.terminate()
            worker.wait(15)

    asyncio.run(run())


@pytest.mark.parametrize("command", ["pstn", "faust"])
def test_a_worker_leaves_nothing_where_it_was_started(
    kafka: KafkaNode, topic_prefix: str, tmp_path: Path, command: str
) -> None:
    """Faust makes a folder for tables that this worker does not have; an empty one lay in everybody's checkout."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        await deployment.open_accounts(["tenant-0"])
        await deployment.call("tenant-0", 5)
        arguments = {"pstn": ("worker",), "faust": ("-A", "pipeline.app", "worker", "-l", "warn")}[command]
        worker = start(deployment, tmp_path / "log", str(BIN / command), *arguments)
        try:
            await deployment.rated_when(5)
            assert list((tmp_path / "cwd").iterdir()) == []
        finally:
            worker.terminate()
            worker.wait(15)
        assert list((tmp_path / "cwd").iterdir()) == []

    asyncio.run(run())


def test_killed_workers_leave_one_result_for_each_call(kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """kill -9 at random moments, also twice in a row: nothing is lost, nothing is charged twice."""

    async def run() -> None:
        rng = random.Random(11)
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenants = list(tenants_by_partition().values())
        await deployment.open_accounts(tenants)
        log = tmp_path / "log"
        worker = start(deployment, log)
        try:
            for pause_s in (1.5, 0.7, 1.5, 0.3):
                for tenant in tenants:
                    await deployment.call(tenant, 700)
                await asyncio.sleep(pause_s + rng.random())
                worker.send_signal(signal.SIGKILL)
                worker.wait(5)
                worker = start(deployment, log)
            total = sum(deployment.sent.values())
            rated = await deployment.rated_when(total, wait_s=60)
        finally:
            worker.kill()
            worker.wait(5)
        deployment.assert_exact(rated)
        for tenant in tenants:
            calls = [call for call in rated if call["tenant_id"] == tenant]
            left = min(call["balance_after_micros"] for call in calls)
            assert left == 1_000_000_000 - sum(call["debited_micros"] for call in calls)
        sequences = sorted((c["source_partition"], c["ledger_epoch"], c["applied_seq"]) for c in rated)
        assert len(set(sequences)) == len(sequences), "each record was applied in one place of one order"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PSTN_BOOTSTRAP_SERVERS": "127.0.0.1:9"}, "no Kafka broker answers at 127.0.0.1:9"),
        ({"PSTN_TOPIC_PREFIX": "nothing-here."}, "pstn topics create"),
        ({"PSTN_ROLES": "cook"}, "PSTN_ROLES"),
        ({"PSTN_TABLES": "/nowhere"}, "/nowhere"),
        ({"PSTN_ROLES": "loader", "PSTN_WAREHOUSE": "clickhouse://127.0.0.1:9/x"}, "127.0.0.1:9, database x does not"),
        ({"PSTN_ROLES": "loader", "PSTN_WAREHOUSE": "ftp://x"}, "type clickhouse://HOST:PORT/DATABASE"),
        ({"PSTN_ROLES": "loader", "PSTN_WAREHOUSE": "chdb:/dev/null/x"}, "no warehouse can be kept in /dev/null/x"),
    ],
)
def test_what_is_wrong_outside_is_one_line_and_exit_code_two(
    kafka: KafkaNode, topic_prefix: str, variables: dict[str, str], told: str
) -> None:
    """A person gets what is wrong, where, and what to do; never a traceback."""

    async def run() -> Deployment:
        return await Deployment.make(kafka.bootstrap, topic_prefix)

    deployment = asyncio.run(run())
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "worker"],
        env=environment_of(deployment, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def test_metrics_and_health_are_served(kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """On-call staff and the orchestrator look there, not into the log."""
    import urllib.request

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        await deployment.open_accounts(["tenant-0"])
        await deployment.call("tenant-0", 5)
        port = random.Random().randrange(20_000, 30_000)
        with (tmp_path / "log").open("ab") as stream:
            worker = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "worker"],
                env=environment_of(deployment, PSTN_WEB_PORT=str(port)),
                stderr=stream,
            )
        try:
            await deployment.rated_when(5)

            def read(path: str) -> str:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as page:
                    return page.read().decode()

            metrics = await eventually(lambda: read("/metrics"), lambda text: 'outcome="charged"} 5.0' in text)
            assert 'pstn_calls_rated_total{outcome="charged"} 5.0' in metrics
            assert '"healthy": true' in read("/healthz").replace('":true', '": true')
        finally:
            worker.terminate()
            worker.wait(10)

    asyncio.run(run())
