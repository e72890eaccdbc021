"""Every table of the warehouse against the topics: rows missing and rows doubled; and the notices that went out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.emit.notify.message import KINDS
from pipeline.emit.notify.outbox_io import LOG_NAME
from pipeline.warehouse.store import Store

TABLES = {
    "rated_calls": "source_partition, source_offset, applied_seq, outcome, debited_micros, balance_after_micros",
    "ledger_entries": "entry_id, posting_index, account, amount_micros",
    "account_events": "event_id, kind, balance_micros",
    "rejected_cdrs": "source_topic, source_partition, source_offset, applied_seq, reason",
}


def wanted_rows(
    rated: Iterable[Mapping[str, Any]],
    entries: Iterable[Mapping[str, Any]],
    events: Iterable[Mapping[str, Any]],
    rejected: Iterable[Mapping[str, Any]],
) -> dict[str, Counter[Hashable]]:
    """The rows that the topics ask for, by table; each once, for the judge of the topics has counted doubles there."""

    def rows(items: Iterable[Mapping[str, Any]], table: str) -> Counter[Hashable]:
        names = TABLES[table].split(", ")
        return Counter({tuple(str(item[name]) for name in names) for item in items})

    postings = [
        {"entry_id": entry["entry_id"], "posting_index": index, **posting}
        for entry in entries
        for index, posting in enumerate(entry["postings"])
    ]
    return {
        "rated_calls": rows(rated, "rated_calls"),
        "ledger_entries": rows(postings, "ledger_entries"),
        "account_events": rows(events, "account_events"),
        "rejected_cdrs": rows(rejected, "rejected_cdrs"),
    }


def judge_tables(store: Store, wanted: Mapping[str, Counter[Hashable]]) -> dict[str, int]:
    """`rows_missing_<table>` and `rows_doubled_<table>` (rows that nobody asked for are doubled ones too)."""
    counts = {}
    for table, columns in TABLES.items():
        found: Counter[Hashable] = Counter(
            tuple(str(value) for value in row) for row in store.query(f"SELECT {columns} FROM {table} FINAL").rows
        )
        counts[f"rows_missing_{table}"] = (wanted[table] - found).total()
        counts[f"rows_doubled_{table}"] = (found - wanted[table]).total()
    return counts


def judge_notices(outbox: Path, events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """`notices_missing` and `notices_doubled`, by the notifier's own log and its mails."""
    wanted = {event["event_id"] for event in events if event["kind"] in KINDS}
    log = outbox / LOG_NAME
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    told = [json.loads(line) for line in lines]
    found = Counter(line["event_id"] for line in told)
    mails = {path.name for path in outbox.glob("*.eml")}
    unsent = {line["event_id"] for line in told if line["mail"] not in mails}
    return {
        "notices_missing": len(wanted - found.keys()) + len(unsent),
        "notices_doubled": sum(count - 1 for count in found.values()) + len(found.keys() - wanted),
    }
