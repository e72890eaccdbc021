"""The product's ledgers as a broker would drive them: Avro messages in, the messages of each slice out.

The credit table and the seen calls are kept as the topics would hold them, so that a ledger can be thrown away at any
moment and built again from nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

import oracle
import product
from oracle.form import HEAD_FIELDS, KIND_FIELDS, decode, encode, owner_of, parse_time, schemas_of, with_times

from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.record import InputRecord
from pipeline.base.rules import Rules
from pipeline.debit.checkpoint import Checkpoint
from pipeline.debit.ledger import Ledger
from pipeline.debit.statement import account_lines
from pipeline.emit.encode import Outputs, encode_slice

PARTITION_COUNT = 2
_COMMAND_FIELDS = {name: None for fields in (HEAD_FIELDS, *KIND_FIELDS.values()) for name in fields}


class Partition:
    """One partition's inputs, ledger and outputs. Values in `rated_calls` and so on are bytes."""

    def __init__(self, number: int, rules: Rules) -> None:
        self.number = number
        self.rules = rules
        self.waiting: list[InputRecord] = []
        self.offsets = {False: 0, True: 0}
        self.written: dict[str, list[bytes | None]] = {"rated_calls": [], "account_events": [], "rejected": []}
        self.credit_table: dict[bytes, bytes] = {}
        self.seen_calls: list[bytes] = []
        self.ledger = Ledger(number, PARTITION_COUNT, product.tables(), rules)

    def send(self, is_command: bool, now_ms: int, value: bytes) -> None:
        topic = "pstn.account-commands" if is_command else "pstn.cdrs"
        offset = self.offsets[is_command]
        self.offsets[is_command] += 1
        self.waiting.append(InputRecord(is_command, topic, self.number, offset, now_ms, value))

    def commit(self, count: int) -> Outputs:
        """Decides the next records, twice, as after a transaction that failed; keeps what the second try wrote."""
        records, self.waiting = self.waiting[:count], self.waiting[count:]
        first = encode_slice(self.ledger.apply_slice(records))
        decided = self.ledger.apply_slice(records)
        outputs = encode_slice(decided)
        assert outputs == first, "deciding is not pure"
        self.ledger.adopt(decided)
        for name, values in self.written.items():
            values += [value for _, value, *_ in getattr(outputs, name)]
        for key, value, *_ in outputs.credit_table:
            if value is None:
                self.credit_table.pop(key, None)
            else:
                self.credit_table[key] = value
        self.seen_calls += [value for _, value, *_ in outputs.seen_calls]
        return outputs

    def restart(self) -> None:
        """A new owner, who has only what the topics hold."""
        self.ledger = Ledger(self.number, PARTITION_COUNT, product.tables(), self.rules)
        if CHECKPOINT_KEY in self.credit_table:
            for key, value in self.credit_table.items():
                if key != CHECKPOINT_KEY:
                    self.ledger.state.load(key, value)
            for value in self.seen_calls:
                self.ledger.seen.load(value)
            self.ledger.resume(Checkpoint.decode(self.credit_table[CHECKPOINT_KEY]))

    def read(self) -> dict[str, list[dict]]:
        """What was written, as a reader without the product's code sees it, in the form of files."""
        entry_mark = next(iter(schemas_of("ledger_entry")))
        events = [value for value in self.written["account_events"] if value[2:10] != entry_mark]
        entries = [value for value in self.written["account_events"] if value[2:10] == entry_mark]
        return {
            "rated_calls": [shown("rated_call", value) for value in self.written["rated_calls"]],
            "account_events": [shown("account_event", value) for value in events],
            "ledger_entries": [shown("ledger_entry", value) for value in entries],
            "rejected": [shown("rejected", value) for value in self.written["rejected"]],
        }


def shown(record: str, value: bytes) -> dict:
    result = oracle.shown(decode(record, value))
    if "original" in result:
        result["original"] = base64.b64encode(result["original"]).decode()
    return result


def messages(line: dict) -> Iterator[tuple[int, bool, int, bytes]]:
    """The records of a line: partition, whether it is a command, `now` and the Avro message."""
    now_ms = parse_time(line["at"])
    if "cdr_raw" in line:
        value = base64.b64decode(line["cdr_raw"])
        yield 0, False, now_ms, value
    elif "cdr" in line:
        call = with_times(line["cdr"], {"start_time": "time"})
        yield owner_of(call["tenant_id"], PARTITION_COUNT), False, now_ms, encode("cdr", call)
    else:
        command = with_times(line["command"], KIND_FIELDS[line["command"]["kind"]])
        value = encode("account_command", {**_COMMAND_FIELDS, **command})
        is_tick = command["kind"] == "tick"
        owners = range(PARTITION_COUNT) if is_tick else [owner_of(command["tenant_id"], PARTITION_COUNT)]
        for partition in owners:
            yield partition, True, now_ms, value


def partitions_of(lines: Sequence[dict], rules: Rules) -> list[Partition]:
    """All partitions, with these lines waiting."""
    partitions = [Partition(number, rules) for number in range(PARTITION_COUNT)]
    for line in lines:
        for number, is_command, now_ms, value in messages(line):
            partitions[number].send(is_command, now_ms, value)
    return partitions


def accounts(partitions: Sequence[Partition]) -> list[dict]:
    """The lines of `accounts`."""
    lines = [oracle.shown(line) for partition in partitions for line in account_lines(partition.ledger.state)]
    return sorted(lines, key=lambda line: line["tenant_id"])
