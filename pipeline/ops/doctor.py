"""What `pstn doctor` holds a deployment against: the settings without which production loses or doubles money.

Pure: what was found goes in, findings come out. `fail`: money or calls can be lost, or a worker will not run; `warn`:
it runs, and will be slow, large or hard to mend. A development set-up of one broker fails honestly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.topics import (
    CDRS,
    COMMANDS,
    CREDIT_TABLE,
    INPUT_RETENTION_MS,
    INPUTS,
    RESULT_RETENTION_MS,
    SEEN_CALLS,
    TopicSpec,
    TopicState,
)
from pipeline.ops.status import SKIP, Trimmed

REPLICAS = 3
"""Two may be lost one after the other, and one while another is restarted."""
IN_SYNC_MIN = 2
_REPAIR = "type `pstn topics create --repair --replicas 3`"
_CLOCK_SKEW_S_WARN, _CLOCK_SKEW_S_FAIL = 2.0, 60.0
_DISK_SHARE_WARN, _DISK_BYTES_FAIL = 0.10, 1 << 30
# Each owned partition has three consumers and a producer, each with a connection to most brokers.
_FILES_MIN = 4096
INTERNAL_TOPICS = ("__transaction_state", "__consumer_offsets")

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and what to do about it ("" when it is well)."""

    level: Level
    area: str
    what: str
    do: str = ""


def judge_topics(specs: Sequence[TopicSpec], found: Mapping[str, TopicState], prefix: str) -> Iterator[Finding]:
    """The product's own topics: a line for each that is well, a line for each thing that is wrong."""
    counts = {state.partition_count for state in found.values()}
    if len(counts) > 1:
        told = ", ".join(f"{prefix}{state.name} {state.partition_count}" for state in found.values())
        do = "the count of a prefix never changes: move to a new prefix with `pstn topics create --prefix NEW.`"
        yield Finding("fail", "topics", f"partition counts differ: {told}", do)
    for spec in specs:
        name = prefix + spec.name
        state = found.get(spec.name)
        if state is None:
            yield Finding("fail", name, "does not exist", "type `pstn topics create`, then `pstn ledger init`")
            continue
        wrong = [*_judge_replicas(name, state), *_judge_configs(name, spec, state.configs)]
        yield from wrong
        if not wrong:
            yield Finding("ok", name, f"{state.partition_count} partitions, {state.replica_count} replicas")


def judge_internal(found: Mapping[str, TopicState]) -> Iterator[Finding]:
    """Kafka's own topics: transactions and positions are as safe as these."""
    for name in INTERNAL_TOPICS:
        state = found.get(name)
        if state is None:
            yield Finding(
                "warn", name, "not made yet, so its replicas cannot be seen", "look again after the first call"
            )
            continue
        setting = "transaction.state.log" if "transaction" in name else "offsets.topic"
        wrong = list(_judge_replicas(name, state, f"set {setting}.replication.factor=3 before the first start"))
        yield from wrong
        if not wrong:
            yield Finding("ok", name, f"{state.replica_count} replicas")


def _judge_replicas(name: str, state: TopicState, do: str = "") -> Iterator[Finding]:
    if state.replica_count < REPLICAS:
        do = do or "raise it with `kafka-reassign-partitions.sh`, or make the topics with `--replicas 3`"
        yield Finding("fail", name, f"{state.replica_count} replicas, needs 3: a lost disk loses the books", do)
    if state.in_sync_count < state.replica_count:
        told = f"only {state.in_sync_count} of {state.replica_count} replicas are in sync"
        yield Finding("warn", name, told, "look at the brokers: one is down or slow")
    in_sync_min = _whole(state.configs.get("min.insync.replicas"), 1)
    if in_sync_min < IN_SYNC_MIN:
        told = f"min.insync.replicas={in_sync_min}, needs 2: one broker alone may acknowledge money, and then be lost"
        yield Finding("fail", name, told, _repair(name, "min.insync.replicas=2"))
    if state.configs.get("unclean.leader.election.enable", "false") != "false":
        told = "unclean.leader.election.enable=true: a replica that lags may lead, and acknowledged records vanish"
        yield Finding("fail", name, told, _repair(name, "unclean.leader.election.enable=false"))


def _repair(name: str, setting: str) -> str:
    return f"type `kafka-configs.sh --alter --topic {name} --add-config {setting}`" if name[:2] == "__" else _REPAIR


def _judge_configs(name: str, spec: TopicSpec, configs: Mapping[str, str]) -> Iterator[Finding]:
    """Against what `pstn topics create` sets: more retention is fine, less is not; compaction as often or more."""
    for key in ("message.timestamp.type", "cleanup.policy"):
        wanted = spec.configs.get(key)
        if wanted is not None and configs.get(key) != wanted:
            yield Finding("fail", name, f"{key}={configs.get(key)}, needs {wanted}", _REPAIR)
    wanted_ms = _whole(spec.configs.get("retention.ms"), 0)
    needed_ms = {CDRS: INPUT_RETENTION_MS, COMMANDS: INPUT_RETENTION_MS, SEEN_CALLS: wanted_ms}.get(spec.name, 0)
    kept_ms = _whole(configs.get("retention.ms"), -1)
    if wanted_ms and kept_ms != -1 and kept_ms < wanted_ms:
        told = f"retention.ms={kept_ms} ({kept_ms // MS_PER_DAY} days), needs {wanted_ms // MS_PER_DAY} days"
        yield Finding("fail" if kept_ms < needed_ms else "warn", name, told, _REPAIR)
    kept_bytes = _whole(configs.get("retention.bytes"), -1)
    if kept_bytes != -1:
        told = f"retention.bytes={kept_bytes}: a busy day deletes records before their time"
        yield Finding(
            "fail", name, told, f"type `kafka-configs.sh --alter --topic {name} --delete-config retention.bytes`"
        )
    message_bytes = _whole(configs.get("max.message.bytes"), 1 << 20)
    message_bytes_wanted = _whole(spec.configs.get("max.message.bytes"), 1 << 20)
    if message_bytes < message_bytes_wanted:
        told = f"max.message.bytes={message_bytes}, needs {message_bytes_wanted}: a refused batch parks the partition"
        yield Finding("fail", name, told, _REPAIR)
    before_ms = _whole(configs.get("message.timestamp.before.max.ms"), 1 << 62)
    if spec.name not in (*INPUTS, SEEN_CALLS) and before_ms < INPUT_RETENTION_MS:
        told = f"message.timestamp.before.max.ms={before_ms}: results of calls that waited longer are refused"
        yield Finding("fail", name, told, "remove that setting: a result carries the time of its call's arrival")
    if spec.name == CREDIT_TABLE:
        for key in ("segment.bytes", "segment.ms", "max.compaction.lag.ms", "min.cleanable.dirty.ratio"):
            if float(configs.get(key, "0")) > float(spec.configs[key]):
                told = f"{key}={configs[key]}, wanted {spec.configs[key]}: the table grows, and with it a restore"
                yield Finding("warn", name, told, _REPAIR)


class Wants(NamedTuple):
    """What the settings of the workers ask of the brokers."""

    transaction_timeout_ms: int
    session_timeout_ms: int
    tick_interval_s: float


def judge_broker(configs: Mapping[str, str], broker_count: int, wants: Wants) -> Iterator[Finding]:
    """The settings of one broker; all of a cluster should have the same."""
    if broker_count < REPLICAS:
        yield Finding("fail", "brokers", f"{broker_count}, needs 3 for three replicas", "add brokers")
    wrong = []
    allowed_ms = _whole(configs.get("transaction.max.timeout.ms"), 900_000)
    if allowed_ms < wants.transaction_timeout_ms:
        told = f"transaction.max.timeout.ms={allowed_ms}, the workers ask for {wants.transaction_timeout_ms}"
        wrong.append(Finding("fail", "broker", told, "raise it, or lower PSTN_TRANSACTION_TIMEOUT_MS"))
    least_ms = _whole(configs.get("group.min.session.timeout.ms"), 6_000)
    most_ms = _whole(configs.get("group.max.session.timeout.ms"), 1_800_000)
    if not least_ms <= wants.session_timeout_ms <= most_ms:
        told = f"session timeouts of {least_ms} to {most_ms} ms, the workers ask for {wants.session_timeout_ms}"
        wrong.append(Finding("fail", "broker", told, "set PSTN_SESSION_TIMEOUT_MS inside them"))
    expires_ms = _whole(configs.get("transactional.id.expiration.ms"), 7 * MS_PER_DAY)
    if expires_ms < wants.tick_interval_s * 10_000:
        told = f"transactional.id.expiration.ms={expires_ms}: an idle partition loses its fence between two ticks"
        wrong.append(Finding("fail", "broker", told, "raise it to a week, Kafka's default"))
    if configs.get("auto.create.topics.enable") == "true":
        told = "auto.create.topics.enable=true: a mistyped prefix makes topics that nobody reads"
        wrong.append(Finding("warn", "broker", told, "switch it off"))
    if configs.get("log.cleaner.enable", "true") != "true":
        told = "log.cleaner.enable=false: the credit table grows for ever"
        wrong.append(Finding("fail", "broker", told, "switch it on"))
    positions_ms = _whole(configs.get("offsets.retention.minutes"), 10_080) * 60_000
    if positions_ms < RESULT_RETENTION_MS:
        told = (
            f"offsets.retention.minutes is {positions_ms // MS_PER_DAY} days: a role that stands still for longer "
            "begins again at the oldest result, and sends its mails again"
        )
        wrong.append(Finding("warn", "broker", told, f"set offsets.retention.minutes={RESULT_RETENTION_MS // 60_000}"))
    yield from wrong
    if not any(finding.level == "fail" for finding in wrong):
        yield Finding("ok", "broker", "time-outs, fences and cleaner as the workers need them")


def judge_checkpoints(table_sizes: Mapping[int, int]) -> Finding:
    """`table_sizes`: offsets used in each partition of the credit table."""
    empty = sorted(number for number, size in table_sizes.items() if size == 0)
    if not empty:
        return Finding("ok", "ledger", "every partition of the credit table has records")
    told = f"the credit table is empty in {len(empty)} of {len(table_sizes)} partitions"
    do = "new deployment: type `pstn ledger init`; old one: the books are lost, see docs/runbook.md, no checkpoint"
    return Finding("fail", "ledger", told, do)


def judge_trimmed(gaps: Sequence[Trimmed]) -> Iterator[Finding]:
    """Input that retention took before it was applied: its partition stands until a person decides."""
    for gap in gaps:
        yield Finding("fail", "ledger", str(gap), SKIP)


def judge_clock(area: str, skew_s: float | None) -> Finding:
    """`skew_s`: the other clock less this one; None when nothing could be compared."""
    if skew_s is None:
        return Finding("ok", area, "not compared: no worker has ticked lately")
    told = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's clock"
    if abs(skew_s) >= _CLOCK_SKEW_S_FAIL:
        return Finding("fail", area, f"{told}: the brokers' clock decides months and expiry", "mend the clocks (NTP)")
    if abs(skew_s) >= _CLOCK_SKEW_S_WARN:
        return Finding("warn", area, told, "look at NTP on both machines")
    return Finding("ok", area, f"within {_CLOCK_SKEW_S_WARN:g} s of this machine's")


def judge_disk(area: str, free_bytes: int, total_bytes: int) -> Finding:
    """Room on one disk."""
    told = f"{free_bytes / 2**30:,.1f} GiB free of {total_bytes / 2**30:,.1f}"
    if free_bytes < _DISK_BYTES_FAIL:
        return Finding("fail", area, told, "make room: a full disk stops the writing")
    if free_bytes < _DISK_SHARE_WARN * total_bytes:
        return Finding("warn", area, told, "make room soon")
    return Finding("ok", area, told)


def judge_files(limit: int) -> Finding:
    """How many files this user's processes may have open."""
    if limit < _FILES_MIN:
        told = f"{limit} open files: every partition takes some connections to each broker"
        return Finding("warn", "open files", told, f"raise the limit of the worker's unit to {_FILES_MIN} or more")
    return Finding("ok", "open files", f"limit {limit}")


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text not in (None, "", "None") else otherwise
