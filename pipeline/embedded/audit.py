"""A second pair of eyes for the demo: reads the ledger's topics as they grow and keeps its own books. Pure.

It shares no sums with the warehouse: entries and balances come from the topics, the truth of what was sent from the
simulator. `problems` says where these and the warehouse differ; the demo's last line is computed from nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from pipeline.base import topics
from pipeline.base.avro import codec, codec_of
from pipeline.base.calendar import month_of
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.embedded.simulate import DUPLICATE, RATED, Tally
from pipeline.emit.outputs import AccountEvent, LedgerEntry, RatedCall, RejectedRecord
from pipeline.warehouse.reconcile import Balance, LedgerTotals, PartitionState, Warehouse, compare
from pipeline.warehouse.reconcile_io import balances_of, state_of

TOPICS = (topics.RATED_CALLS, topics.ACCOUNT_EVENTS, topics.REJECTED, topics.CREDIT_TABLE)
"""What the audit reads, names without the prefix."""

_NEWS_MAX = 5
_NEWS = frozenset(
    [
        "balance_zero",
        "lot_expired",
        "pool_exhausted",
        "recharge_budget_reached",
        "recharge_failed",
        "recharge_succeeded",
        "service_restored",
        "service_suspended",
        "spend_cap_reached",
        "switched_to_postpaid",
    ]
)
_SHOWN_MAX = 20


class Message(NamedTuple):
    """One record of a topic; `value` None: the key was dropped."""

    offset: int
    key: bytes | None
    value: bytes | None


class Suspended(NamedTuple):
    """A tenant whose service stands still now."""

    tenant_id: str
    currency: str
    balance_micros: int


class Audit:
    """Everything seen so far; `cdr_topic` with its prefix, as rejects name it."""

    def __init__(self, cdr_topic: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.news: deque[AccountEvent] = deque(maxlen=_NEWS_MAX)
        self.next_offsets: dict[tuple[str, int], int] = {}
        self._cdr_topic = cdr_topic
        self._rejected_cdr_count = 0
        self._places: set[tuple[int, int]] = set()
        self._calls: set[tuple[str, str]] = set()
        self._twice: list[str] = []
        self._sums: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        self._table: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)

    @property
    def decided_count(self) -> int:
        """CDRs that have their result: rated, duplicate or rejected."""
        return self.outcomes.total() + self._rejected_cdr_count

    def take(self, topic: str, partition: int, messages: Iterable[Message]) -> None:
        """What came on one partition, in order; `topic` without the prefix. Raises DecodeError."""
        for message in messages:
            self.next_offsets[topic, partition] = message.offset + 1
            value = message.value or b""
            match topic:
                case topics.RATED_CALLS:
                    self._take_call(value)
                case topics.REJECTED:
                    self._take_reject(value)
                case topics.ACCOUNT_EVENTS if codec_of(value).name == "ledger_entry":
                    self._take_entry(value)
                case topics.ACCOUNT_EVENTS:
                    self._take_event(value)
                case topics.CREDIT_TABLE if message.value is None:
                    self._table[partition].pop(message.key or b"", None)
                case topics.CREDIT_TABLE:
                    self._table[partition][message.key or b""] = value

    def checkpoints(self) -> list[PartitionState]:
        """How far each partition's ledger has come, by number."""
        return [
            state_of(number, latest[CHECKPOINT_KEY])
            for number, latest in sorted(self._table.items())
            if CHECKPOINT_KEY in latest
        ]

    def next_command_offset(self, partition: int) -> int:
        """The offset after the last account command that the partition's ledger has applied; 0 without a checkpoint."""
        checkpoint = self._table[partition].get(CHECKPOINT_KEY)
        return 0 if checkpoint is None else cast("int", codec("checkpoint").decode(checkpoint)["next_offset_commands"])

    def balances(self) -> list[Balance]:
        """Of every tenant, by the latest accounts of the credit table."""
        return [balance for latest in self._table.values() for balance in balances_of(latest)]

    def suspended(self) -> list[Suspended]:
        """By tenant."""
        accounts = [
            cast("dict[str, Any]", codec("account").decode(value))  # as the schema says
            for latest in self._table.values()
            for key, value in latest.items()
            if key != CHECKPOINT_KEY and b"/" not in key
        ]
        balances = {balance.tenant_id: balance for balance in self.balances()}
        standing = sorted(account["tenant_id"] for account in accounts if account["is_suspended"])
        return [Suspended(name, balances[name].currency, balances[name].balance_micros) for name in standing]

    def ledger(self) -> list[LedgerTotals]:
        """Sums of the entries on the topic, as the warehouse sums its rows; by tenant, currency and month."""
        return [
            LedgerTotals(tenant, currency, sums["all"], sums["credits"], sums["debited"], sums["postpaid"], month)
            for (tenant, currency, month), sums in sorted(self._sums.items())
        ]

    def problems(self, tally: Tally, warehouse: Warehouse, sent_by_partition: Mapping[int, int]) -> list[str]:
        """Everything that does not agree, a sentence each; empty when ledger, balances, warehouse and truth do."""
        found = list(self._twice)
        for what, expected, seen in (
            ("calls rated", tally.calls[RATED], self.outcomes.total() - self.outcomes[DUPLICATE]),
            ("re-sent calls recognised", tally.calls[DUPLICATE], self.outcomes[DUPLICATE]),
            ("CDRs with a result", tally.calls.total(), len(self._places)),
        ):
            if expected != seen:
                found.append(f"{what}: {expected:,} expected, {seen:,} found")
        rejected = tally.rejected()
        for reason in sorted(rejected.keys() | self.rejected.keys()):
            expected, seen = rejected.get(reason, 0), self.rejected[reason]
            if expected != seen:
                found.append(f"rejected as {reason}: {expected:,} expected, {seen:,} found")
        states = [
            state._replace(
                call_count_min=sent_by_partition.get(state.partition, 0),
                call_count_max=sent_by_partition.get(state.partition, 0),
            )
            for state in self.checkpoints()
        ]
        found += [
            f"{difference.what}: {difference.subject} has {difference.found:,}, should have {difference.expected:,}"
            for difference in compare(warehouse, self.balances(), states).differences
        ]
        stored = set(warehouse.ledger)
        for total in self.ledger():
            if total not in stored:
                found.append(f"ledger entries of {total.tenant_id}: on the topic {total[2:]}, in the warehouse others")
        if len(found) > _SHOWN_MAX:
            return [*found[:_SHOWN_MAX], f"and {len(found) - _SHOWN_MAX:,} more"]
        return found

    def _take_call(self, value: bytes) -> None:
        call = RatedCall(*cast("tuple[Any, ...]", codec("rated_call").decode_values(value)))
        self.outcomes[call.outcome] += 1
        self._take_place(call.source_partition, call.source_offset)
        if call.outcome != DUPLICATE:
            if (call.tenant_id, call.usage_id) in self._calls:
                self._twice.append(f"call {call.usage_id} of {call.tenant_id} was rated twice")
            self._calls.add((call.tenant_id, call.usage_id))

    def _take_reject(self, value: bytes) -> None:
        refused = RejectedRecord(*cast("tuple[Any, ...]", codec("rejected").decode_values(value)))
        self.rejected[refused.reason] += 1
        if refused.source_topic == self._cdr_topic:
            self._rejected_cdr_count += 1
            self._take_place(refused.source_partition, refused.source_offset)

    def _take_place(self, partition: int, offset: int) -> None:
        if (partition, offset) in self._places:
            self._twice.append(f"the CDR at partition {partition}, offset {offset} has two results")
        self._places.add((partition, offset))

    def _take_event(self, value: bytes) -> None:
        event = AccountEvent(*cast("tuple[Any, ...]", codec("account_event").decode_values(value)))
        self.events[event.kind] += 1
        if event.kind in _NEWS:
            self.news.append(event)

    def _take_entry(self, value: bytes) -> None:
        entry = LedgerEntry(*cast("tuple[Any, ...]", codec("ledger_entry").decode_values(value)))
        sums = self._sums[entry.tenant_id, entry.currency, month_of(entry.occurred_at)]
        for account, amount_micros in entry.postings:
            sums["all"] += amount_micros
            if account.startswith("credits:"):
                sums["credits"] += amount_micros
                if entry.kind == "usage":
                    sums["debited"] -= amount_micros
            if entry.kind == "postpaid_usage" and account == "receivable:postpaid":
                sums["postpaid"] -= amount_micros
