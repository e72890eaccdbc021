"""`pstn status` from outside: what on-call staff see first when somebody says that the bills stand still."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.base.ids import partition_of
from pipeline.base.settings_io import Settings
from pipeline.base.topics import ACCOUNT_EVENTS, CDRS, COMMANDS, CREDIT_TABLE, RATED_CALLS, REJECTED
from pipeline.embedded.broker_io import PARTITION_COUNT, EmbeddedBroker
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.ops.follow_io import Follower
from pipeline.ops.status import Followed, PartitionLag, Status
from pipeline.ops.status_io import StatusReader
from tests.integration.ledger_harness import PARTITIONS, Deployment, eventually, tenants_by_partition

pytestmark = pytest.mark.timeout(240)
WAIT_S = 60


def look(settings: Settings) -> Status:
    reader = StatusReader(settings)
    with Follower(settings) as follower:
        assert follower.wait(20)
        return reader.look(follower.followed())


def tells_all(status: Status) -> bool:
    return not any("does not tell" in note for note in status.notes)


def lag_of(status: Status, topic: str, partition: int, role: str = "ledger") -> PartitionLag:
    [found] = [lag for lag in status.lags if (lag.role, lag.topic, lag.partition) == (role, topic, partition)]
    return found


def test_lag_is_the_records_that_wait_and_the_age_of_the_oldest(kafka: KafkaNode, topic_prefix: str) -> None:
    """Owner, lag and age, with a worker and without one; a worker that has caught up shows nothing waiting."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenant = "tenant-0"
        partition = partition_of(tenant, PARTITIONS)
        await deployment.open_accounts([tenant])
        async with deployment.worker():
            await deployment.call(tenant, 20)
            await deployment.rated_when(20, WAIT_S)
            caught_up = await eventually(
                lambda: look(deployment.settings), lambda s: lag_of(s, CDRS, partition).next_offset == 20, wait_s=WAIT_S
            )
            lag = lag_of(caught_up, CDRS, partition)
            assert (lag.next_offset, lag.end_offset, lag.lag_seconds) == (20, 20, 0.0)
            assert lag.owner is not None
            assert lag.owner.endswith(f":{os.getpid()}")
            assert {group.role: group.state for group in caught_up.groups}["ledger"] == "Stable"
        await deployment.call(tenant, 30)
        sent_s = time.monotonic()
        await asyncio.sleep(1.5)
        stopped = look(deployment.settings)
        lag = lag_of(stopped, CDRS, partition)
        assert (lag.lag_records, lag.owner) == (30, None)
        assert 1.4 < lag.lag_seconds < time.monotonic() - sent_s + 2
        assert "ledger: no worker runs this role" in stopped.notes
        async with deployment.worker():
            await deployment.rated_when(50, WAIT_S)
            done = await eventually(
                lambda: look(deployment.settings),
                lambda s: {lag.lag_records for lag in s.lags if lag.role == "ledger"} == {0},
                wait_s=WAIT_S,
            )
        assert {lag.lag_records for lag in done.lags if lag.role == "ledger"} == {0}
        assert lag_of(done, CDRS, partition).next_offset == 50
        assert done.rates == {}, "one look has no rate"

    asyncio.run(run())


def test_only_transaction_markers_left_is_no_lag(kafka: KafkaNode, topic_prefix: str) -> None:
    """A marker uses an offset: a loader that has everything would otherwise be one record behind for ever."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenant = "tenant-0"
        partition = partition_of(tenant, PARTITIONS)
        await deployment.open_accounts([tenant])
        async with deployment.worker():
            await deployment.call(tenant, 5)
            await deployment.rated_when(5, WAIT_S)
        behind = lag_of(look(deployment.settings), RATED_CALLS, partition, "loader")
        assert (behind.next_offset, behind.lag_records, behind.lag_seconds) == (None, None, None), "who knows"
        assert lag_of(look(deployment.settings), REJECTED, partition, "loader").lag_records == 0, "there is nothing"
        from aiokafka import AIOKafkaConsumer, TopicPartition

        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap, group_id=deployment.settings.group("loader"), enable_auto_commit=False
        )
        await consumer.start()
        place = TopicPartition(deployment.settings.topic(RATED_CALLS), partition)
        consumer.assign([place])
        await consumer.commit({place: behind.end_offset - 1})
        at_marker = lag_of(look(deployment.settings), RATED_CALLS, partition, "loader")
        assert (at_marker.lag_records, at_marker.lag_seconds) == (0, 0.0)
        await consumer.commit({place: behind.end_offset - 2})
        await consumer.stop()
        at_record = lag_of(look(deployment.settings), RATED_CALLS, partition, "loader")
        assert at_record.lag_records == 2
        assert at_record.lag_seconds > 0

    asyncio.run(run())


def test_balances_at_zero_and_rejects_are_counted_from_the_topics(kafka: KafkaNode, topic_prefix: str) -> None:
    """Whose service is suspended, and what the switches send that nobody can rate."""

    async def run() -> Status:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        rich, poor, *_ = tenants_by_partition().values()
        await deployment.open_accounts([rich])
        await deployment.open_accounts([poor], amount_micros=1)
        await deployment.send("cdrs", [(rich, b"no avro"), (poor, b"no avro either")])
        async with deployment.worker():
            await deployment.call(poor, 1)
            await deployment.rated_when(1, WAIT_S)
            await eventually(deployment.rejected, lambda found: len(found) == 2, wait_s=WAIT_S)
        return look(deployment.settings)

    followed = asyncio.run(run()).followed
    assert (followed.account_count, followed.zero_count, followed.read_share) == (2, 1, 1.0)
    assert dict(followed.rejects) == {"payload_not_avro": 2}


def test_the_command_writes_one_json_object_for_pipes(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(Deployment.make(kafka.bootstrap, topic_prefix))
    arguments = ["status", "--bootstrap", kafka.bootstrap, "--prefix", topic_prefix, "--format", "json"]
    answer = CliRunner().invoke(cli, arguments)
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert len(found["lags"]) == PARTITIONS * 8
    assert found["balances_at_zero"] == 0
    assert CliRunner().invoke(cli, ["status", "--bootstrap", kafka.bootstrap, "--prefix", "nothing."]).exit_code == 2


def test_on_a_terminal_it_goes_on_until_it_is_interrupted(kafka: KafkaNode, topic_prefix: str) -> None:
    asyncio.run(Deployment.make(kafka.bootstrap, topic_prefix))
    controller, terminal = pty.openpty()
    # A shell that runs the tests in its background has them, and what they start, ignore interruptions.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "pipeline", "status"]
    command += ["--bootstrap", kafka.bootstrap, "--prefix", topic_prefix]
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"COLUMNS": "120", "LINES": "40"},
    )
    os.close(terminal)
    shown, until_s, is_interrupted = b"", time.monotonic() + 45, False
    while process.poll() is None and time.monotonic() < until_s:
        if select.select([controller], [], [], 0.2)[0]:  # a terminal that nobody reads would hold the command up
            with suppress(OSError):  # its other end is closed: the command has ended
                shown += os.read(controller, 65_536)
        if not is_interrupted and shown.count(b"balances at zero") >= 3:
            process.send_signal(signal.SIGINT)
            is_interrupted = True
    assert process.poll() == 0, shown.decode(errors="replace")
    os.close(controller)
    assert shown.count(b"balances at zero") >= 3
    assert b"no worker runs this role" in shown


def test_the_embedded_broker_says_what_it_cannot_show(tmp_path: Path) -> None:
    """It knows no groups to describe; what can be asked is shown all the same."""
    prefix = f"status{os.getpid()}."
    names = [prefix + name for name in (CDRS, COMMANDS, RATED_CALLS, ACCOUNT_EVENTS, REJECTED, CREDIT_TABLE)]
    with EmbeddedBroker(names) as broker:
        status = look(Settings(bootstrap_servers=broker.bootstrap, topic_prefix=prefix, embedded_broker=True))
    assert len({lag.partition for lag in status.lags}) == PARTITION_COUNT
    assert any("does not tell" in note for note in status.notes), status.notes


def test_a_view_that_is_left_open_tells_again_after_the_broker_was_restarted(topic_prefix: str) -> None:
    """The client remembered each partition's leader by its old epoch, and was refused for a quarter of an hour."""

    async def run() -> None:
        with KafkaNode() as node:
            deployment = await Deployment.make(node.bootstrap, topic_prefix)
            reader = StatusReader(deployment.settings)
            for restart in (False, True):
                if restart:
                    node.kill()
                    node.restart()
                found = await eventually(lambda: reader.look(Followed()), tells_all, wait_s=20)
                assert tells_all(found), found.notes

    asyncio.run(run())
