"""Asks brokers, warehouse, tables and this machine what `doctor.py` judges. Writes nothing anywhere."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pipeline.base.avro import DecodeError, codec
from pipeline.base.check_io import specs_of
from pipeline.base.resources_io import resource_path
from pipeline.base.settings_io import Settings
from pipeline.base.topics import COMMANDS, CREDIT_TABLE, INPUTS
from pipeline.base.topics_io import BrokerUnreachable, connect_admin, describe_topics
from pipeline.charge.tables_io import TableError, read_tables
from pipeline.ops.doctor import (
    INTERNAL_TOPICS,
    Finding,
    Wants,
    judge_broker,
    judge_checkpoints,
    judge_clock,
    judge_disk,
    judge_files,
    judge_internal,
    judge_topics,
    judge_trimmed,
)
from pipeline.ops.outside_io import outside_consumer
from pipeline.ops.trimmed_io import beginnings, trimmed
from pipeline.warehouse.store import FolderAddress, Store, StoreAway, StoreRefused, parse_address
from pipeline.warehouse.store_io import open_store, pending_migrations

_ANSWER_S_MAX = 10
_TAIL_RECORDS = 20
_SERVER_VERSION_MIN = (18, 16)


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, area after area; an area that cannot be asked is one failure."""
    steps: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _brokers,
        _warehouse,
        _tables,
        _machine,
    )
    for step in steps:
        yield from step(settings)


def _brokers(settings: Settings) -> Iterator[Finding]:
    if settings.embedded_broker:
        yield Finding("fail", "brokers", "the embedded broker keeps nothing", "use Apache Kafka in production")
        return
    try:
        admin = connect_admin(settings.bootstrap_servers)
        yield Finding("ok", "brokers", f"answer at {settings.bootstrap_servers}")
        wants = Wants(settings.transaction_timeout_ms, settings.session_timeout_ms, settings.tick_interval_s)
        brokers = sorted(admin.list_topics(timeout=_ANSWER_S_MAX).brokers)
        yield from judge_broker(_broker_configs(admin, brokers[0]), len(brokers), wants)
        yield from judge_internal(describe_topics(admin, "", INTERNAL_TOPICS))
        specs = specs_of(settings)
        found = describe_topics(admin, settings.topic_prefix, [spec.name for spec in specs])
        yield from judge_topics(specs, found, settings.topic_prefix)
        if CREDIT_TABLE in found:
            yield judge_checkpoints(_sizes(settings, CREDIT_TABLE, found[CREDIT_TABLE].partition_count))
        if {CREDIT_TABLE, *INPUTS} <= found.keys():
            begin = beginnings(settings, admin, found[CREDIT_TABLE].partition_count)
            yield from judge_trimmed(trimmed(settings, begin, {number for (_, number), at in begin.items() if at}))
        if COMMANDS in found:
            yield judge_clock("brokers' clock", _broker_skew_s(settings, found[COMMANDS].partition_count))
    except BrokerUnreachable as error:
        yield Finding("fail", "brokers", *_parted(str(error)))
    except KafkaException as error:
        yield Finding("fail", "brokers", str(error.args[0].str()), "look at the brokers' log")


def _broker_configs(admin: AdminClient, broker_id: int) -> dict[str, str]:
    asked = ConfigResource(ResourceType.BROKER, str(broker_id))
    entries: dict[str, Any] = admin.describe_configs([asked], request_timeout=_ANSWER_S_MAX)[asked].result()
    return {key: str(entry.value) for key, entry in entries.items()}


def _sizes(settings: Settings, topic: str, partition_count: int) -> dict[int, int]:
    consumer = Consumer(outside_consumer(settings))
    try:
        return {
            number: consumer.get_watermark_offsets(
                TopicPartition(settings.topic(topic), number), timeout=_ANSWER_S_MAX
            )[1]
            for number in range(partition_count)
        }
    finally:
        consumer.close()


def _broker_skew_s(settings: Settings, partition_count: int) -> float | None:
    """The brokers' clock less that of the workers that send ticks (this machine's, or kept alike by NTP).

    A tick's id ends with the sender's time, and the broker stamps its own: the smallest difference is the skew.
    """
    consumer = Consumer(outside_consumer(settings))
    skews_ms = []
    try:
        places = [TopicPartition(settings.topic(COMMANDS), number) for number in range(partition_count)]
        for place in places:
            low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER_S_MAX)
            place.offset = max(low, high - _TAIL_RECORDS)
        consumer.assign(places)
        ended, until_s = 0, time.monotonic() + _ANSWER_S_MAX
        while ended < partition_count and time.monotonic() < until_s:
            for message in consumer.consume(num_messages=500, timeout=0.5):
                if message.error() is not None:
                    ended += 1
                elif (sent_ms := _tick_time(message.value() or b"")) is not None:
                    skews_ms.append(message.timestamp()[1] - sent_ms)
    finally:
        consumer.close()
    return min(skews_ms, key=abs) / 1000 if skews_ms else None


def _tick_time(value: bytes) -> int | None:
    try:
        command = codec("account_command").decode(value)
    except DecodeError:
        return None
    sent = str(command["command_id"]).rpartition("-")[2]
    return int(sent) if command["kind"] == "tick" and sent.isdecimal() else None


def _warehouse(settings: Settings) -> Iterator[Finding]:
    try:
        address = parse_address(settings.warehouse)
        if isinstance(address, FolderAddress):
            folder = Path(address.folder)
            if not folder.exists():
                yield Finding("warn", "warehouse", f"{folder} does not exist yet", "the loader makes it")
                return
            yield _disk("warehouse disk", folder)
        store = open_store(settings.warehouse, for_reading=True)
        try:
            yield from _opened(store)
        finally:
            store.close()
    except (StoreAway, StoreRefused) as error:
        yield Finding("fail", "warehouse", *_parted(str(error)))


def _opened(store: Store) -> Iterator[Finding]:
    [(version, now_s)] = store.query("SELECT version(), toUInt32(now())").rows
    numbers = tuple(int(part) for part in str(version).split(".")[:2])
    if numbers < _SERVER_VERSION_MIN:
        yield Finding("fail", "warehouse", f"{store.name} is version {version}", "needs 18.16 or newer")
    yield judge_clock("warehouse clock", _whole_seconds_apart(int(cast("int", now_s))))
    todo = pending_migrations(store)
    if todo:
        told = f"{store.name}: {len(todo)} migrations are not applied"
        yield Finding("warn", "warehouse", told, "start a worker with the role loader: it applies them")
    else:
        yield Finding("ok", "warehouse", f"{store.name}, version {version}, all migrations applied")


def _whole_seconds_apart(now_s: int) -> float:
    """The server tells whole seconds: what is less than one apart is nothing."""
    difference_s = now_s + 0.5 - time.time()
    return 0.0 if abs(difference_s) <= 1 else difference_s


def _tables(settings: Settings) -> Iterator[Finding]:
    folder = settings.tables or resource_path("rating_tables")
    try:
        tables, problems = read_tables(folder)
    except (TableError, OSError) as error:
        yield Finding("fail", "rating tables", str(error), "mend the file, then `pstn tables check`")
        return
    if problems:
        told = f"{folder}: {len(problems)} rows are wrong, the first: {problems[0]}"
        yield Finding("fail", "rating tables", told, "type `pstn tables check`")
        return
    now_ms = int(time.time() * 1000)
    without = [name for name, tariff in tables.tariffs.items() if tariff.deck_at(now_ms) is None]
    if without:
        told = f"no rates in force today for {', '.join(without)}: its calls are given away"
        yield Finding("fail", "rating tables", told, "add a deck that is in force")
    else:
        yield Finding("ok", "rating tables", f"{folder}: {len(tables.tariffs)} tariffs with rates in force")


def _machine(settings: Settings) -> Iterator[Finding]:
    outbox = settings.outbox
    if not outbox.exists() and not os.access(outbox.absolute().parent, os.W_OK):
        told = f"{outbox} does not exist, and may not be made"
        yield Finding("fail", "outbox", told, "make the folder for the worker's user, or set PSTN_OUTBOX")
    elif outbox.exists() and not os.access(outbox, os.W_OK):
        yield Finding("fail", "outbox", f"{outbox} may not be written", "give it to the worker's user")
    else:
        yield _disk("outbox disk", outbox)
    yield judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _disk(area: str, folder: Path) -> Finding:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return judge_disk(area, usage.free, usage.total)


def _parted(line: str) -> tuple[str, str]:
    """`what is wrong: what to do`, in two."""
    what, separator, do = line.rpartition(": ")
    return (what, do) if separator else (line, "see the message")
