"""The topics: what each holds, how long it is kept, and what a worker demands of it before it touches money.

Sizes and times are those of the design: calls stay 14 days, results 30, commands as long as the audit looks back. The
credit table is compacted often so that a restore reads little, and the three topics whose time decides money take the
broker's time (LogAppendTime).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_DAY, MS_PER_HOUR

CDRS = "cdrs"
COMMANDS = "account-commands"
CREDIT_TABLE = "credit-table"
RATED_CALLS = "rated-calls"
ACCOUNT_EVENTS = "account-events"
SEEN_CALLS = "seen-calls"
REJECTED = "rejected"
NOTICES = "notices"
INVOICES = "invoices"

INPUTS = (CDRS, COMMANDS)
OUTPUTS = (RATED_CALLS, ACCOUNT_EVENTS, REJECTED, SEEN_CALLS, CREDIT_TABLE)
"""What a slice is written to."""
INPUT_RETENTION_MS = 14 * MS_PER_DAY
RESULT_RETENTION_MS = 30 * MS_PER_DAY
# A rejected record carries its original, at most one input record (1 MiB by the broker's default), and a few fields.
REJECTED_BYTES_MAX = 2 * 1024 * 1024
# A lot with the longest id takes 290 bytes: 10,000 live lots of one tenant. At the broker's 1 MiB it were 3,600, then
# the account was refused and its partition parked. Below what the worker's producer sends.
ACCOUNT_BYTES_MAX = 3 * 1024 * 1024
# Only closed segments are compacted: what a restore reads beyond the latest records is one of these, or a minute.
_SEGMENT_BYTES = 4 * 1024 * 1024
_SEGMENT_MS = 60_000


class TopicSpec(NamedTuple):
    """One topic: `configs` is what is set at creation, `demanded` what a worker refuses to run without."""

    name: str
    holds: str
    configs: Mapping[str, str]
    demanded: Mapping[str, str]


def topic_specs(*, duplicate_window_ms: int, audit_ms: int, replicated: bool) -> tuple[TopicSpec, ...]:
    """All topics, in the order of the way of a call. `audit_ms`: how long commands are kept."""
    broker_time = {"message.timestamp.type": "LogAppendTime"}
    durable = {"min.insync.replicas": "2" if replicated else "1", "unclean.leader.election.enable": "false"}
    seen_retention_ms = duplicate_window_ms + INPUT_RETENTION_MS + MS_PER_DAY

    def kept(retention_ms: int) -> dict[str, str]:
        return {"cleanup.policy": "delete", "retention.ms": str(retention_ms), **durable}

    compacted = {
        "cleanup.policy": "compact",
        "segment.bytes": str(_SEGMENT_BYTES),
        "segment.ms": str(_SEGMENT_MS),
        "min.cleanable.dirty.ratio": "0.2",
        "max.compaction.lag.ms": str(MS_PER_HOUR),
        "max.message.bytes": str(ACCOUNT_BYTES_MAX),
        **durable,
    }
    return (
        TopicSpec(CDRS, "call detail records of the switches", kept(INPUT_RETENTION_MS) | broker_time, broker_time),
        TopicSpec(COMMANDS, "account commands", kept(audit_ms) | broker_time, broker_time),
        TopicSpec(CREDIT_TABLE, "latest state of accounts and users", compacted, {"cleanup.policy": "compact"}),
        TopicSpec(RATED_CALLS, "one result for each call", kept(RESULT_RETENTION_MS), {}),
        TopicSpec(ACCOUNT_EVENTS, "notices and ledger entries", kept(RESULT_RETENTION_MS), {}),
        TopicSpec(SEEN_CALLS, "digests of call ids", kept(seen_retention_ms) | broker_time, broker_time),
        TopicSpec(
            REJECTED,
            "what could not be rated, and why",
            kept(RESULT_RETENTION_MS) | {"max.message.bytes": str(REJECTED_BYTES_MAX)},
            {},
        ),
        TopicSpec(NOTICES, "messages to contacts and their fate", compacted, {"cleanup.policy": "compact"}),
        TopicSpec(INVOICES, "invoices and credit notes, for ever", compacted, {"cleanup.policy": "compact"}),
    )


class TopicState(NamedTuple):
    """What the broker says of a topic."""

    name: str
    topic_id: str
    partition_count: int
    configs: Mapping[str, str]
    replica_count: int = 1
    """Of the partition that has the fewest."""
    in_sync_count: int = 1
    """Replicas that are in sync, of the partition that has the fewest."""


def problems_of_topics(
    specs: tuple[TopicSpec, ...], found: Mapping[str, TopicState], *, prefix: str, configs_checked: bool = True
) -> list[str]:
    """One line for each thing that would lose money or stall: what is wrong, where, what to type. Empty when sound."""
    missing = [prefix + spec.name for spec in specs if spec.name not in found]
    if missing:
        return [f"topic {', '.join(missing)} does not exist: type `pstn topics create`"]
    problems = []
    counts = {prefix + state.name: state.partition_count for state in found.values()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        problems.append(
            f"partition counts differ ({listed}): every topic of a prefix needs the same number, and it never changes;"
            " move to a new prefix with `pstn topics create --prefix NEW.`"
        )
    if not configs_checked:
        return problems
    for spec in specs:
        for key, wanted in spec.demanded.items():
            actual = found[spec.name].configs.get(key)
            if actual != wanted:
                problems.append(
                    f"topic {prefix}{spec.name} has {key}={actual}, needs {wanted}: type `pstn topics create --repair`"
                )
    return problems
