"""The ten ready queries of docs/warehouse.md run as they stand there, and find what they promise."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.warehouse.reports import REPORTS
from pipeline.warehouse.store import Store
from pipeline.warehouse.tables import TABLES
from tests.report_world import fill
from tests.warehouse_records import EPOCH_MS, account_event, consumed, ledger_entry, rejected

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "warehouse.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def test_every_ready_query_runs_and_has_an_answer(store: Store) -> None:
    """An analyst copies them: one that fails, or says nothing about data that is there, is worse than none."""
    from pipeline.warehouse.rows import blocks_of

    fill(store)
    asked = account_event(20, tenant_id="t1", kind="recharge_requested", details={"recharge_id": "r"})
    paid = account_event(
        21, tenant_id="t1", kind="recharge_succeeded", details={"recharge_id": "r"}, occurred_at=EPOCH_MS + 60_000
    )
    records = [consumed("account_event", each) for each in (asked, paid)] + [consumed("rejected", rejected(22))]
    funding = ledger_entry(23, [("payments", -9), ("credits:b", 9)], kind="funding")
    records.append(consumed("ledger_entry", funding))
    for block in blocks_of(records):
        store.insert(block.table.name, block.table.column_types, block.columns)
    assert len(QUERIES) == 10
    answers = [list(store.query(query.replace("contoso", "t1").replace("* 8", "* 0")).rows) for query in QUERIES]
    assert all(answers), [query for query, answer in zip(QUERIES, answers, strict=True) if not answer]


def test_the_page_names_every_table_and_every_view() -> None:
    for name in [table.name for table in TABLES] + [report.view for report in REPORTS.values()]:
        assert f"| `{name}` |" in PAGE
    for name in REPORTS:
        assert f"`{name}`" in PAGE
