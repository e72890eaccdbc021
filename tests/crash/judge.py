"""The judgement: what the topics say against what the oracle makes of the same input in the order that was applied.

Nothing here asks the product anything but what it wrote; only the credit table is read with the product's own reader,
for that is what a restore would see.
"""

from __future__ import annotations

import base64
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.debit.books import State
from pipeline.debit.statement import account_lines

from .order import Order, Place, interleave
from .topics_read import Record, TopicsLog

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from oracle import Oracle, differences, shown
from oracle.form import Refused, decode, owner_of, schemas_of

COUNTS = (
    "cdrs_without_result", "cdrs_with_two_results", "results_wrong", "rejects_missing", "rejects_doubled",
    "rejects_wrong", "events_missing", "events_doubled", "events_wrong", "entries_missing", "entries_doubled",
    "entries_wrong", "entries_not_zero", "balances_wrong", "lots_wrong", "pools_wrong", "accounts_wrong",
    "recharges_paid_twice", "recharges_unanswered", "orders_illegal", "forwards_missing", "forwards_doubled",
    "results_unreadable",
)  # fmt: skip
_SHOWN_MAX = 40

Source = tuple[bool, int, int]
"""Whether a command, partition, offset."""


class Outputs(NamedTuple):
    """What the topics say of one source record, each list in the order of the log."""

    rated: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    events: list[dict[str, Any]]
    entries: list[dict[str, Any]]


class Judge:
    """`counts` by name; `findings`: the first of them in words."""

    def __init__(self, log: TopicsLog, *, prefix: str, tables: Path, lost: Iterable[tuple[int, int]]) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.findings: list[str] = []
        self._log = log
        self._prefix = prefix
        self._lost = set(lost)
        self._oracle = Oracle(tables, partition_count=log.partitions, topic_prefix=prefix)
        self._outputs: defaultdict[Source, Outputs] = defaultdict(lambda: Outputs([], [], [], []))
        self.rated: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []

    def judge(self) -> None:
        self._read()
        for number in range(self._log.partitions):
            self._partition(number)
        self._forwards()
        self._money()
        self._accounts()

    def _note(self, count: str, text: str, by: int = 1) -> None:
        if by:
            self.counts[count] += by
            if len(self.findings) < _SHOWN_MAX:
                self.findings.append(f"{count}: {text}")

    # what was written

    def _read(self) -> None:
        entry_marks = tuple(b"\xc3\x01" + mark for mark in schemas_of("ledger_entry"))
        for topic, of_source, flat in (
            ("rated-calls", lambda out: out.rated, self.rated),
            ("rejected", lambda out: out.rejected, self.rejected),
            ("account-events", None, None),
        ):
            for record in self._log.all(topic):
                value = record.value or b""
                is_entry = topic == "account-events" and value.startswith(entry_marks)
                name = {"rated-calls": "rated_call", "rejected": "rejected"}.get(
                    topic, "ledger_entry" if is_entry else "account_event"
                )
                try:
                    item = decode(name, value)
                except Refused:
                    self._note("results_unreadable", f"{topic}-{record.partition} offset {record.offset}")
                    continue
                if "original" in item:
                    item["original"] = base64.b64encode(item["original"]).decode()
                item = shown(item)
                source = self._outputs[
                    item["source_topic"].endswith("account-commands"), item["source_partition"], item["source_offset"]
                ]
                kept = of_source(source) if of_source else source.entries if is_entry else source.events
                kept.append(item)
                (flat if flat is not None else self.entries if is_entry else self.events).append(item)

    # the order, then the oracle along it

    def _partition(self, number: int) -> None:
        checkpoint = decode_checkpoint(self._log.latest(number)[CHECKPOINT_KEY])
        inputs = {
            False: [r for r in self._log.records["cdrs", number] if (number, r.offset) not in self._lost],
            True: self._log.records["account-commands", number],
        }
        ends = {False: checkpoint["next_offset_cdrs"], True: checkpoint["next_offset_commands"]}
        for is_command, records in inputs.items():
            late = [record for record in records if record.offset >= ends[is_command]]
            if not is_command:
                self._note("cdrs_without_result", f"{len(late)} of partition {number} were not reached", len(late))
        applied = {kind: {r.offset: r for r in records if r.offset < ends[kind]} for kind, records in inputs.items()}
        order = self._order(number, applied, checkpoint["applied_seq"])
        for place in order.places:
            self._record(number, place, applied[place.is_command][place.offset])

    def _order(self, number: int, applied: dict[bool, dict[int, Record]], applied_seq: int) -> Order:
        said: defaultdict[Place, set[int]] = defaultdict(set)
        for (is_command, partition, offset), out in self._outputs.items():
            if partition == number:
                for item in (*out.rated, *out.rejected, *out.events, *out.entries):
                    said[Place(is_command, offset)].add(item["applied_seq"])
        order = interleave(sorted(applied[False]), sorted(applied[True]), said, applied_seq)
        self._note("orders_illegal", f"partition {number}: {'; '.join(order.problems[:3])}", len(order.problems))
        return order

    def _record(self, number: int, place: Place, record: Record) -> None:
        found = self._outputs[place.is_command, number, place.offset]
        where = f"{'account-commands' if place.is_command else 'cdrs'}-{number} offset {place.offset}"
        if self._is_passed_on(number, place, record):
            self._oracle.next_seq[number] = self._oracle.next_seq.get(number, 0) + 1
            self._oracle.epoch.setdefault(number, record.now_ms)
            self._lists(where, "rejects", [], found.rejected)
            self._lists(where, "events", [], found.events)
            self._lists(where, "entries", [], found.entries)
            self._note("cdrs_with_two_results", f"{where} was passed on and rated", len(found.rated))
            return
        wanted = self._oracle.apply_record(place.is_command, number, place.offset, record.now_ms, record.value or b"")
        if not place.is_command:
            results = len(found.rated) + len(found.rejected)
            self._note("cdrs_without_result", where, results == 0)
            self._note("cdrs_with_two_results", f"{where} has {results}", results > 1)
        if found.rated and wanted["rated_calls"]:
            told = differences(wanted["rated_calls"][0], found.rated[0])
            self._note("results_wrong", f"{where} {told[:4]}", bool(told))
        else:
            self._note("results_wrong", f"{where} is rated or not", len(found.rated) != len(wanted["rated_calls"]))
        self._lists(where, "rejects", wanted["rejected"], found.rejected)
        self._lists(where, "events", wanted["account_events"], found.events)
        self._lists(where, "entries", wanted["ledger_entries"], found.entries)

    def _is_passed_on(self, number: int, place: Place, record: Record) -> bool:
        """A sound CDR of another partition's tenant that has not been passed on before."""
        if place.is_command or record.is_forwarded:
            return False
        try:
            cdr = decode("cdr", record.value or b"")
        except Refused:
            return False
        return owner_of(cdr["tenant_id"], self._log.partitions) != number

    def _lists(self, where: str, name: str, wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
        self._note(f"{name}_missing", f"{where}: {len(found)} of {len(wanted)}", max(0, len(wanted) - len(found)))
        self._note(f"{name}_doubled", f"{where}: {len(found)}, not {len(wanted)}", max(0, len(found) - len(wanted)))
        if len(wanted) == len(found):
            told = differences(wanted, found)
            self._note(f"{name}_wrong", f"{where} {told[:4]}", bool(told))

    # what must hold whatever the oracle says

    def _forwards(self) -> None:
        """Each CDR on a wrong partition stands once more, and only once, on its owner's."""
        sent: Counter[tuple[int, bytes]] = Counter()
        came: Counter[tuple[int, bytes]] = Counter()
        for record in self._log.all("cdrs"):
            value = record.value or b""
            if record.is_forwarded:
                came[record.partition, value] += 1
            elif (record.partition, record.offset) in self._lost:
                continue
            elif self._is_passed_on(record.partition, Place(False, record.offset), record):
                sent[owner_of(decode("cdr", value)["tenant_id"], self._log.partitions), value] += 1
        self._note("forwards_missing", "CDRs that were not passed on", (sent - came).total())
        self._note("forwards_doubled", "CDRs that were passed on twice", (came - sent).total())

    def _money(self) -> None:
        for entry in self.entries:
            total = sum(posting["amount_micros"] for posting in entry["postings"])
            self._note("entries_not_zero", f"{entry['entry_id']} sums to {total}", total != 0)
        for name, ids in (
            ("events_doubled", Counter(event["event_id"] for event in self.events)),
            ("entries_doubled", Counter(entry["entry_id"] for entry in self.entries)),
        ):
            for each, count in ids.items():
                self._note(name, f"{each} stands {count} times", count - 1)
        paid = Counter(
            entry["recharge_id"] for entry in self.entries if entry["kind"] == "funding" and entry["recharge_id"]
        )
        for recharge_id, count in paid.items():
            self._note("recharges_paid_twice", f"{recharge_id}: {count} times", count - 1)
        answered = {
            event["details"].get("recharge_id")
            for event in self.events
            if event["kind"] in ("recharge_succeeded", "recharge_failed")
        }
        for event in self.events:
            if event["kind"] == "recharge_requested":
                recharge_id = event["details"]["recharge_id"]
                self._note("recharges_unanswered", recharge_id, recharge_id not in answered)

    def _accounts(self) -> None:
        state = State()
        for number in range(self._log.partitions):
            for key, value in self._log.latest(number).items():
                if key != CHECKPOINT_KEY:
                    state.load(key, value)
        found = {line["tenant_id"]: shown(line) for line in account_lines(state)}
        wanted = {line["tenant_id"]: line for line in self._oracle.final_accounts()}
        for tenant_id in sorted(found.keys() | wanted.keys()):
            if tenant_id not in found or tenant_id not in wanted:
                self._note("accounts_wrong", f"{tenant_id} is known to one side only")
                continue
            for count, names in (
                ("balances_wrong", ("balance_micros", "overdraft_micros")),
                ("lots_wrong", ("lots",)),
                ("pools_wrong", ("pools",)),
                ("accounts_wrong", ("currency", "agreement", "suspended")),
            ):
                told = [t for name in names for t in differences(wanted[tenant_id][name], found[tenant_id][name], name)]
                self._note(count, f"{tenant_id} {told[:3]}", bool(told))


def decode_checkpoint(value: bytes) -> dict[str, Any]:
    return decode("checkpoint", value)
