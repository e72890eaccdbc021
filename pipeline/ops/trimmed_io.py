"""Finds input that retention took before the ledger applied it: the checkpoints against where the inputs begin."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.settings_io import Settings
from pipeline.base.topics import CREDIT_TABLE, INPUTS
from pipeline.debit.checkpoint import Checkpoint
from pipeline.ops.outside_io import outside_consumer
from pipeline.ops.status import Trimmed

_ANSWER_S_MAX = 10
# A slice's transaction ends with the checkpoint; behind it there are markers, and what was aborted.
_TAIL_RECORDS = 300


def beginnings(settings: Settings, admin: AdminClient, partition_count: int) -> dict[tuple[str, int], int]:
    """First offset that each input still has. Raises KafkaException."""
    wanted = {
        TopicPartition(settings.topic(name), number): (name, number)
        for name in INPUTS
        for number in range(partition_count)
    }
    answers = admin.list_offsets(dict.fromkeys(wanted, OffsetSpec.earliest()), request_timeout=_ANSWER_S_MAX)
    return {wanted[place]: answer.result().offset for place, answer in answers.items()}


def trimmed(settings: Settings, begin: Mapping[tuple[str, int], int], suspects: Collection[int]) -> list[Trimmed]:
    """The gaps in these partitions. Raises KafkaException."""
    checkpoints = _checkpoints(settings, suspects, _TAIL_RECORDS)
    if missing := set(suspects) - checkpoints.keys():
        checkpoints |= _checkpoints(settings, missing, None)
    return [
        Trimmed(settings.topic(name), number, next_offset, begin[name, number])
        for number, checkpoint in sorted(checkpoints.items())
        for name, next_offset in zip(
            INPUTS, (checkpoint.next_offset_cdrs, checkpoint.next_offset_commands), strict=True
        )
        if begin[name, number] > next_offset
    ]


def _checkpoints(settings: Settings, numbers: Collection[int], tail: int | None) -> dict[int, Checkpoint]:
    """The last of each partition, in its last `tail` offsets; None: wherever it stands. Of a partition that cannot be
    read to its end in time there is none: an earlier one would tell of a gap that is none."""
    found: dict[int, Checkpoint] = {}
    consumer = Consumer(outside_consumer(settings))
    try:
        places = [TopicPartition(settings.topic(CREDIT_TABLE), number) for number in numbers]
        for place in places:
            low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER_S_MAX)
            place.offset = low if tail is None else max(low, high - tail)
        consumer.assign(places)
        reading, until_s = set(numbers), time.monotonic() + _ANSWER_S_MAX
        while reading and time.monotonic() < until_s:
            for message in consumer.consume(num_messages=1_000, timeout=0.2):
                if (error := message.error()) is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        reading.discard(message.partition() or 0)
                elif message.key() == CHECKPOINT_KEY and (value := message.value()) is not None:
                    found[message.partition() or 0] = Checkpoint.decode(value)
    finally:
        consumer.close()
    return {number: checkpoint for number, checkpoint in found.items() if number not in reading}
