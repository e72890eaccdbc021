"""What the owner of a partition must do, each on Apache Kafka: every test here is money lost or a stall without it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import TopicPartition as AdminPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType
from prometheus_client import REGISTRY, generate_latest

import pipeline.app as app_module
from pipeline.app import make_ledger
from pipeline.base import metrics_io
from pipeline.base.check_io import specs_of
from pipeline.base.ids import CHECKPOINT_KEY, partition_of
from pipeline.base.kafka_io import KafkaClients, PartitionStalled, WorkerMustStop, stop_clients
from pipeline.base.membership_io import Membership
from pipeline.charge.tables_io import load_tables
from pipeline.debit import agent as rating
from pipeline.debit import init_io, partition_io, restore_io, turns_io
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.init_io import skip_lost
from pipeline.debit.restore_io import restore
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.ops.doctor_io import examine
from pipeline.ops.status import SKIP, Followed
from pipeline.ops.status_io import StatusReader
from tests.integration.ledger_harness import (
    PARTITIONS,
    TABLES,
    Deployment,
    cdr,
    eventually,
    owners_of,
    tenants_by_partition,
)

pytestmark = pytest.mark.timeout(120)


def set_config(deployment: Deployment, topic: str, key: str, value: str | None) -> None:
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(key, value or "", incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, deployment.settings.topic(topic), incremental_configs=[entry])
    for future in deployment.admin.incremental_alter_configs([resource]).values():
        future.result()


def test_each_call_has_one_result_and_the_balance_is_what_is_left(kafka: KafkaNode, topic_prefix: str) -> None:
    """The main job: commands and calls in, one result each, and credits that add up to the micro-unit."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenants = list(tenants_by_partition().values())
        async with deployment.worker():
            await deployment.open_accounts(tenants, amount_micros=5_000_000)
            for tenant in tenants:
                await deployment.call(tenant, 10)
            rated = await deployment.rated_when(30)
        deployment.assert_exact(rated)
        for tenant in tenants:
            calls = [call for call in rated if call["tenant_id"] == tenant]
            assert {call["outcome"] for call in calls} == {"charged"}
            assert min(c["balance_after_micros"] for c in calls) == 5_000_000 - sum(c["debited_micros"] for c in calls)
        entries = await deployment.ledger_entries()
        assert len(entries) == 33
        assert all(sum(posting["amount_micros"] for posting in entry["postings"]) == 0 for entry in entries)

    asyncio.run(run())


def test_a_worker_without_a_checkpoint_says_to_type_ledger_init(kafka: KafkaNode, topic_prefix: str) -> None:
    """A missing checkpoint is the loss of the books, not a reason to begin at zero and charge everything again."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix, init=False)
        async with deployment.worker() as app:
            await asyncio.wait_for(app.stopping.wait(), 20)
            assert isinstance(app.fatal, WorkerMustStop)
            assert "pstn ledger init" in str(app.fatal)

    asyncio.run(run())


def test_ledger_init_never_overwrites_a_checkpoint(kafka: KafkaNode, topic_prefix: str) -> None:
    """Typed twice, it must not send the ledger back to the first call."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        assert await deployment.init() == []

    asyncio.run(run())


def test_ledger_init_beside_another_never_overwrites_what_was_applied_meanwhile(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people type it at once, and a worker starts between the look of the second and its checkpoint: begun anew,
    the ledger would debit the same calls again."""
    read_checkpoint = init_io._read_checkpoint

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix, init=False)
        tenants = list(tenants_by_partition().values())

        async def overtaken(*where: Any) -> Checkpoint | None:
            monkeypatch.setattr(init_io, "_read_checkpoint", read_checkpoint)
            found = await read_checkpoint(*where)
            assert await deployment.init() == [0, 1, 2]
            async with deployment.worker():
                await deployment.open_accounts(tenants)
                for tenant in tenants:
                    await deployment.call(tenant, 5)
                await deployment.rated_when(15)
            return found

        monkeypatch.setattr(init_io, "_read_checkpoint", overtaken)
        assert await deployment.init() == []
        async with deployment.worker():
            for tenant in tenants:
                await deployment.call(tenant, 1)
            deployment.assert_exact(await deployment.rated_when(18))

    asyncio.run(run())


@pytest.mark.parametrize("topic", ["rated-calls", "account-events", "rejected", "credit-table", "seen-calls"])
def test_a_batch_that_the_broker_refuses_prevents_the_commit(
    kafka: KafkaNode, topic_prefix: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka commits a transaction whose batch was refused: the call was gone and its debit stayed."""
    monkeypatch.setattr(partition_io, "_BACKOFF_S_FIRST", 0.05)

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenant = "tenant-0"
        async with deployment.worker():
            await deployment.open_accounts([tenant])
            await deployment.call(tenant, 1)
            await deployment.rated_when(1)
        await asyncio.sleep(0.5)  # a commit is known before its markers are written everywhere
        before = {name: len(await deployment.read(name)) for name in ("rated-calls", "account-events", "credit-table")}
        # A transaction marker takes 78 bytes: below that the broker could never end the aborted transaction.
        set_config(deployment, topic, "max.message.bytes", "100")
        broken = cdr(tenant, "broken")[:-3]
        await deployment.send("cdrs", [(tenant, broken)])
        await deployment.call(tenant, 5)
        number = partition_of(tenant, PARTITIONS)
        async with deployment.worker() as app:
            await eventually(lambda: number in owners_of(app) and owners_of(app)[number].parked, bool)
            assert owners_of(app)[number].parked, "three failures at one offset park the partition"
            assert app.fatal is None, "the other partitions go on"
        after = {name: len(await deployment.read(name)) for name in before}
        assert after == before, "nothing of a slice is visible unless all of it is"
        set_config(deployment, topic, "max.message.bytes", None)
        async with deployment.worker():
            rated = await deployment.rated_when(6)
            rejected = await eventually(deployment.rejected, bool)
        deployment.assert_exact(rated)
        assert [reject["original"] for reject in rejected] == [broken]

    asyncio.run(run())


def test_an_open_transaction_in_the_credit_table_delays_the_restore_then_stops_it(
    kafka: KafkaNode, topic_prefix: str
) -> None:
    """A restore to the last stable offset came back with an old checkpoint and charged every call since again."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenant = "tenant-0"
        number = partition_of(tenant, PARTITIONS)
        async with deployment.worker():
            await deployment.open_accounts([tenant])
            await deployment.call(tenant, 3)
            await deployment.rated_when(3)
            alien = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic_prefix}alien")
            await alien.start()
            await alien.begin_transaction()
            table = deployment.settings.topic("credit-table")
            await alien.send_and_wait(table, b"x", key=b"alien", partition=number)
            await deployment.call(tenant, 4)
            await deployment.rated_when(7)
        clients = KafkaClients(deployment.settings)
        impatient = deployment.settings.model_copy(update={"restore_stall_s": 1.0})
        async with deployment.worker(restore_stall_s=1.0) as app:
            await eventually(lambda: len([o for o in owners_of(app).values() if o.restore_count]), lambda n: n == 2)
            assert owners_of(app)[number].restore_count == 0
            with pytest.raises(PartitionStalled, match=f"credit-table partition {number}.*last stable offset"):
                ledger = make_ledger(
                    number,
                    partition_count=PARTITIONS,
                    settings=impatient,
                    tables=load_tables(TABLES),
                )
                await restore(ledger, clients=clients, settings=impatient)
            await deployment.call(tenant, 2)
            await asyncio.sleep(1)
            assert len(await deployment.rated()) == 7, "no call is taken on books that are not known"
            await alien.abort_transaction()
            await alien.stop()
            rated = await deployment.rated_when(9, wait_s=40)
        deployment.assert_exact(rated)

    asyncio.run(run())


def test_partitions_added_later_stop_the_worker(kafka: KafkaNode, topic_prefix: str) -> None:
    """With another count a tenant has another owner, and two ledgers would hold its money."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        for spec in specs_of(deployment.settings):
            added = NewPartitions(deployment.settings.topic(spec.name), PARTITIONS + 1)
            for future in deployment.admin.create_partitions([added]).values():
                future.result()
        async with deployment.worker() as app:
            await asyncio.wait_for(app.stopping.wait(), 20)
            assert "the ledger was made with 3" in str(app.fatal) or "partitions were added" in str(app.fatal)

    asyncio.run(run())


def test_partitions_added_later_are_noticed_by_the_owners_of_the_old_ones(kafka: KafkaNode, topic_prefix: str) -> None:
    """The new partition, which has no checkpoint, may be another worker's: here it has one, so that only the count in
    the old checkpoints can tell that tenants have moved."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        for spec in specs_of(deployment.settings):
            added = NewPartitions(deployment.settings.topic(spec.name), PARTITIONS + 1)
            for future in deployment.admin.create_partitions([added]).values():
                future.result()
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        checkpoint = Checkpoint(0, 0, 0, 0, PARTITIONS + 1, {}, 0).encode()
        table = deployment.settings.topic("credit-table")
        await producer.send_and_wait(table, checkpoint, key=CHECKPOINT_KEY, partition=PARTITIONS)
        await producer.stop()
        async with deployment.worker() as app:
            await asyncio.wait_for(app.stopping.wait(), 20)
            assert "the ledger was made with 3" in str(app.fatal)

    asyncio.run(run())


def test_unequal_partition_counts_are_refused_at_start(kafka: KafkaNode, topic_prefix: str) -> None:
    """Half a tenant's calls would go where its commands never come."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        added = NewPartitions(deployment.settings.topic("cdrs"), PARTITIONS + 2)
        for future in deployment.admin.create_partitions([added]).values():
            future.result()
        with pytest.raises(WorkerMustStop, match="partition counts differ"):
            async with deployment.worker():
                pass

    asyncio.run(run())


@pytest.mark.parametrize("topic", ["cdrs", "account-commands", "seen-calls"])
def test_a_topic_whose_senders_set_the_time_is_refused(kafka: KafkaNode, topic_prefix: str, topic: str) -> None:
    """`now` decides money: a sender that sets it could keep an expired lot alive."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        set_config(deployment, topic, "message.timestamp.type", "CreateTime")
        with pytest.raises(
            WorkerMustStop, match=r"CreateTime, needs LogAppendTime: type `pstn topics create --repair`"
        ):
            async with deployment.worker():
                pass

    asyncio.run(run())


def test_a_record_with_the_senders_time_stops_a_running_worker(kafka: KafkaNode, topic_prefix: str) -> None:
    """Somebody changed the topic after the start: the record itself says so."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        async with deployment.worker() as app:
            await deployment.open_accounts(["tenant-0"])
            await deployment.call("tenant-0", 1)
            await deployment.rated_when(1)
            set_config(deployment, "cdrs", "message.timestamp.type", "CreateTime")
            await deployment.call("tenant-0", 1)
            await asyncio.wait_for(app.stopping.wait(), 20)
            assert "carries the sender's time" in str(app.fatal)

    asyncio.run(run())


def test_a_table_that_is_not_compacted_is_refused(kafka: KafkaNode, topic_prefix: str) -> None:
    """Deleted after days, it would forget the tenants that did not call."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        set_config(deployment, "credit-table", "cleanup.policy", "delete")
        with pytest.raises(WorkerMustStop, match=r"cleanup.policy=delete, needs compact"):
            async with deployment.worker():
                pass

    asyncio.run(run())


def test_input_trimmed_before_it_was_applied_stops_its_partition_alone(kafka: KafkaNode, topic_prefix: str) -> None:
    """Those calls are lost: going on silently would be worse than standing still, and the other tenants pay for none
    of it. `pstn ledger skip` is typed while the worker runs, and nobody restarts it."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        settings = deployment.settings
        tenants = tenants_by_partition()
        number, tenant = 1, tenants[1]
        await deployment.open_accounts(list(tenants.values()))
        for each in tenants.values():
            await deployment.call(each, 5)
        topic = settings.topic("cdrs")
        for future in deployment.admin.delete_records([AdminPartition(topic, number, 3)]).values():
            future.result()
        told = f"{topic} partition {number}: records 0 to 2 were deleted before they were applied"
        gauge = {"topic": topic, "partition": str(number)}
        async with deployment.worker() as app:
            rated = await deployment.rated_when(10)
            assert {call["tenant_id"] for call in rated} == set(tenants.values()) - {tenant}
            standing = await eventually(app.standing, bool)
            assert list(standing) == [str(number)]
            assert standing[str(number)].startswith(f"topic {told}")
            assert "pstn ledger skip" in standing[str(number)]
            assert REGISTRY.get_sample_value("pstn_input_trimmed_records", gauge) == 3
            assert app.fatal is None
            assert not app.stopping.is_set()
            notes = StatusReader(settings).look(Followed()).notes
            assert [note for note in notes if note.startswith(told) and "pstn ledger skip" in note], notes
            findings = [each for each in examine(settings) if each.level == "fail" and each.what.startswith(told)]
            assert [finding.do for finding in findings] == [SKIP]
            assert await skip_lost(settings, partition_count=PARTITIONS) == [(number, 3, 0)]
            rated = await deployment.rated_when(12)
            assert app.standing() == {}
            assert REGISTRY.get_sample_value("pstn_input_trimmed_records", gauge) is None
            assert await skip_lost(settings, partition_count=PARTITIONS) == []
        assert {call["usage_id"] for call in rated if call["tenant_id"] == tenant} == {f"{tenant}-4", f"{tenant}-5"}
        assert len(rated) == 12

    asyncio.run(run())


def test_a_fenced_partition_leaves_the_others_running(kafka: KafkaNode, topic_prefix: str) -> None:
    """A zombie's wake must cost one partition for a moment, not the worker."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenants = tenants_by_partition()
        async with deployment.worker() as app:
            await deployment.open_accounts(list(tenants.values()))
            await eventually(lambda: [o.restore_count for o in owners_of(app).values()], lambda c: c == [1, 1, 1])
            for tenant in tenants.values():
                await deployment.call(tenant, 5)
            await deployment.rated_when(15)
            thief = AIOKafkaProducer(
                bootstrap_servers=kafka.bootstrap, transactional_id=f"{deployment.settings.group('ledger')}-1"
            )
            await thief.start()
            for tenant in tenants.values():
                await deployment.call(tenant, 5)
            rated = await deployment.rated_when(30)
            await thief.stop()
            assert {number: owner.restore_count for number, owner in owners_of(app).items()} == {0: 1, 1: 2, 2: 1}
            assert app.fatal is None
        deployment.assert_exact(rated)

    asyncio.run(run())


def test_a_retained_partition_is_not_restored_again(kafka: KafkaNode, topic_prefix: str) -> None:
    """Each change of members would otherwise silence every partition for a whole restore."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenants = tenants_by_partition()
        async with deployment.worker() as first:
            await deployment.open_accounts(list(tenants.values()))
            await eventually(lambda: [o.restore_count for o in owners_of(first).values()], lambda c: c == [1, 1, 1])
            kept = dict(owners_of(first))
            async with deployment.worker() as second:
                await eventually(lambda: len(owners_of(second)), lambda n: n > 0)
                still = set(owners_of(first))
                assert still and still < set(kept)
                for tenant in tenants.values():
                    await deployment.call(tenant, 5)
                await deployment.rated_when(15)
            await eventually(lambda: len(owners_of(first)), lambda n: n == PARTITIONS)
            for tenant in tenants.values():
                await deployment.call(tenant, 5)
            rated = await deployment.rated_when(30)
            for number in still:
                assert owners_of(first)[number] is kept[number]
                assert owners_of(first)[number].restore_count == 1
        deployment.assert_exact(rated)

    asyncio.run(run())


def test_a_restore_says_how_far_it_is(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A million accounts take half a minute: whoever waits must see whether it moves."""
    number, tenant = next(iter(tenants_by_partition().items()))
    read_before = REGISTRY.get_sample_value("pstn_restore_records_total") or 0.0

    async def run() -> int:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        await deployment.open_accounts([tenant])
        async with deployment.worker():
            await deployment.call(tenant, 5)
            await deployment.rated_when(5)
        monkeypatch.setattr(restore_io, "_SAY_INTERVAL_S", 0.0)
        async with deployment.worker() as app:
            await eventually(lambda: [o.restore_count for o in owners_of(app).values()], lambda c: c == [1, 1, 1])
        return len([0 for place, _, _ in await deployment.read("credit-table") if place == number])

    record_count = asyncio.run(run())
    told = [line for line in capsys.readouterr().out.splitlines() if "restoring" in line and "credit-table" in line]
    assert [line for line in told if f"partition={number}" in line and f"records={record_count}" in line], told
    read = REGISTRY.get_sample_value("pstn_restore_records_total")
    assert read is not None
    assert read >= read_before + record_count
    assert "pstn_restore_share{" not in generate_latest().decode(), "what is over is no longer shown"


def test_a_commit_by_an_old_owner_fails_and_moves_nothing(kafka: KafkaNode, topic_prefix: str) -> None:
    """A consumer with `assign` moved the position back unopposed, and the effects in between happened again."""

    class Idle:
        def __init__(self, number: int) -> None:
            self.number = number

        def start(self) -> None: ...

        async def hold(self) -> None: ...

        def release(self) -> None: ...

        async def close(self) -> None: ...

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        topic = deployment.settings.topic("rated-calls")
        clients = KafkaClients(deployment.settings)

        def member() -> Membership:
            group = deployment.settings.group("loader")
            return Membership(role="loader", group=group, topics=[topic], clients=clients, make_owner=Idle)

        old, new = member(), member()
        await old.start()
        await eventually(lambda: len(old.owners), lambda n: n == PARTITIONS)
        asleep, asleep_assignment = old._consumer._coordinator.generation, old._consumer.assignment()
        await new.start()
        await eventually(lambda: len(new.owners), lambda n: n > 0)
        number = min(new.owners)
        mine = TopicPartition(topic, number)
        new.move(mine, 70)
        await new.commit_moved()
        # The old owner wakes: it still believes in its generation and in its partitions.
        assert mine in asleep_assignment
        old._consumer._coordinator.generation = asleep
        with pytest.raises(CommitFailedError):
            await old._consumer._coordinator.commit_offsets(
                old._consumer._subscription.subscription.assignment, {mine: OffsetAndMetadata(3, "")}
            )
        old.move(mine, 3)
        await old.commit_moved()
        assert await new.committed(mine) == 70
        await old.stop()
        await new.stop()

    asyncio.run(run())


def test_a_call_on_the_wrong_partition_is_forwarded_to_its_owner(kafka: KafkaNode, topic_prefix: str) -> None:
    """Java and librdkafka hash keys differently: a switch of the other kind must not lose calls."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        tenant = "tenant-0"
        async with deployment.worker():
            await deployment.open_accounts([tenant])
            wrong = (partition_of(tenant, PARTITIONS) + 1) % PARTITIONS
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
            await producer.start()
            await producer.send_and_wait(deployment.settings.topic("cdrs"), cdr(tenant, f"{tenant}-1"), partition=wrong)
            twice = [("forwarded-from", b"x-0")]
            await producer.send_and_wait(
                deployment.settings.topic("cdrs"), cdr(tenant, "lost"), partition=wrong, headers=twice
            )
            await producer.stop()
            deployment.sent[tenant] = 1
            rated = await deployment.rated_when(1)
            rejected = await eventually(deployment.rejected, bool)
        deployment.assert_exact(rated)
        assert [(reject["reason"], reject["usage_id"]) for reject in rejected] == [("tenant_unknown", "lost")]

    asyncio.run(run())


def test_results_of_an_aborted_slice_are_never_read(kafka: KafkaNode, topic_prefix: str) -> None:
    """What a dead owner left open is aborted by its successor's fence before anything is restored."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        dead = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap, transactional_id=f"{deployment.settings.group('ledger')}-0"
        )
        await dead.start()
        await dead.begin_transaction()
        await dead.send_and_wait(deployment.settings.topic("rated-calls"), b"half", partition=0)
        async with deployment.worker() as app:
            await eventually(lambda: [o.restore_count for o in owners_of(app).values()], lambda c: c == [1, 1, 1])
            assert await deployment.rated() == []
            consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed")
            await consumer.start()
            half = TopicPartition(deployment.settings.topic("rated-calls"), 0)
            ends = await consumer.end_offsets([half])
            await consumer.stop()
            assert ends[half] == 2, "the record and its abort marker: nothing hangs"
        await dead.stop()

    asyncio.run(run())


def test_a_worker_told_to_stop_while_it_joins_leaves_nothing_behind(kafka: KafkaNode, topic_prefix: str) -> None:
    """Partitions assigned during the stop got owners that nobody ended: the process stayed, and asked for ever."""

    def owners_left() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ledger-")]

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        for delay_ms in range(0, 400, 50):
            async with deployment.worker():
                await asyncio.sleep(delay_ms / 1000)
            assert await eventually(owners_left, lambda left: not left, wait_s=2) == [], f"stopped after {delay_ms} ms"

    asyncio.run(run())


def test_an_owner_that_is_cancelled_ends(kafka: KafkaNode, topic_prefix: str) -> None:
    """The loop cancels what is left when it closes: an owner that took it for a failure kept the process alive."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        async with deployment.worker() as app:
            await eventually(lambda: [o for o in owners_of(app).values() if o.restore_count], bool)
            tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith("ledger-")]
            assert tasks
            for task in tasks:
                task.cancel()
            _, pending = await asyncio.wait(tasks, timeout=5)
            assert not pending

    asyncio.run(run())


def test_a_fenced_owner_says_so_though_the_group_takes_its_partition_meanwhile(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that wakes from a pause hears of its fence and of the rebalance at once: the fence went unsaid."""
    told: list[float] = []

    async def look_and_stop(*clients: AIOKafkaConsumer | AIOKafkaProducer) -> None:
        told.append(fenced_count())
        await stop_clients(*clients)

    def fenced_count() -> float:
        return metrics_io.PARTITIONS_DROPPED.labels("fenced")._value.get()

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        number, tenant = next(iter(tenants_by_partition().items()))
        async with deployment.worker() as app:
            await eventually(lambda: [o.restore_count for o in owners_of(app).values()], lambda c: c == [1, 1, 1])
            before = fenced_count()
            group = deployment.settings.group("ledger")
            thief = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{group}-{number}")
            await thief.start()
            monkeypatch.setattr(partition_io, "stop_clients", look_and_stop)
            await deployment.open_accounts([tenant])
            await eventually(lambda: told, bool)
            await thief.stop()
            assert told[:1] == [before + 1], "while the clients stop, the group may close the owner for good"

    asyncio.run(run())
    gc.collect()  # Python 3.11 breaks when the dead clients are met in the middle of parsing a module


def test_a_slice_that_waits_for_others_is_not_made_smaller(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice may take 200 ms of CPU. With the wait for the other partitions counted in, slices shrank to 14 records
    just when there was much to do, and a call took a minute."""

    async def waits(decisions: AsyncIterable[partition_io.Decision]) -> None:
        async def slowly() -> AsyncIterator[partition_io.Decision]:
            async for decision in decisions:
                await asyncio.sleep(0.5)
                yield decision

        await rating.rate(slowly())

    async def run() -> None:
        monkeypatch.setattr(app_module, "rating", SimpleNamespace(rate=waits))
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        number, tenant = next(iter(tenants_by_partition().items()))
        async with deployment.worker() as app:
            await deployment.open_accounts([tenant])
            for count in (20, 20, 20):
                await deployment.call(tenant, count)
                await deployment.rated_when(deployment.sent[tenant])
            least = deployment.settings.slice_cpu_ms / 10  # 10 ms of CPU a record would be very slow
            assert owners_of(app)[number]._count_max() > least
        deployment.assert_exact(await deployment.rated())

    asyncio.run(run())


def test_a_slice_that_waits_for_its_turn_holds_up_no_rebalance_and_takes_what_comes_meanwhile(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not begun: every member of the group would wait for it. What arrived needs no transaction of its own."""
    sizes: list[int] = []

    async def noted(decisions: AsyncIterable[partition_io.Decision]) -> None:
        async def noting() -> AsyncIterator[partition_io.Decision]:
            async for decision in decisions:
                sizes.append(len(decision.records))
                yield decision

        await rating.rate(noting())

    async def run() -> None:
        monkeypatch.setattr(app_module, "rating", SimpleNamespace(rate=noted))
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        number, tenant = next(iter(tenants_by_partition().items()))
        async with deployment.worker() as app:
            await deployment.open_accounts([tenant])
            await deployment.call(tenant, 1)
            await deployment.rated_when(1)
            owner = owners_of(app)[number]
            async with AsyncExitStack() as others:
                for _ in range(turns_io._SLICES_MAX):
                    await others.enter_async_context(owner._turns.one())
                await deployment.call(tenant, 20)
                await eventually(lambda: len(owner._deciding), lambda count: count > 0)
                await deployment.call(tenant, 20)
                await asyncio.sleep(1)
                sizes.clear()
                async with asyncio.timeout(1):
                    await owner.hold()
                owner.release()
            await deployment.rated_when(41)
            assert sizes[0] > 20, "a fetch brings what the broker had then, so the last ones may be missing"
        deployment.assert_exact(await deployment.rated())

    asyncio.run(run())


def test_a_worker_that_stood_still_says_so(
    kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One whose partitions had nothing to write when it woke was never fenced, and said nothing at all."""

    async def run() -> None:
        deployment = await Deployment.make(kafka.bootstrap, topic_prefix)
        monkeypatch.setattr(KafkaClients, "session_timeout_s", 1.5)
        async with deployment.worker() as app:
            await eventually(lambda: [o.restore_count for o in owners_of(app).values()], lambda c: c == [1, 1, 1])
            capsys.readouterr()
            time.sleep(2.5)  # the loop itself stands still
            await asyncio.sleep(1.5)

    asyncio.run(run())
    [told] = [line for line in capsys.readouterr().out.splitlines() if "worker_was_silent" in line]
    assert "role=ledger" in told
