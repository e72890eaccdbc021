"""The product, driven as the oracle is: lines of a scenario in, the five files of `pstn rate` out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import oracle

from pipeline.base.rules import Rules
from pipeline.charge.tables import Tables
from pipeline.charge.tables_io import load_tables
from pipeline.offline_files_io import OutputFiles
from pipeline.offline_io import Offline, read_scenario

TABLES = Path(__file__).resolve().parent / "golden" / "examples" / "tables"
PARTITION_COUNT = 12


@cache
def tables() -> Tables:
    """The made-up tables of the examples."""
    return load_tables(TABLES)


def rules_of(*, linked_quotas: bool = False, overdraft: bool = True, duplicate_window_ms: int | None = None) -> Rules:
    """The oracle's settings by the product's names."""
    rules = Rules(international_quota_closes_domestic=linked_quotas, overdraft_allowed=overdraft)
    return rules if duplicate_window_ms is None else rules._replace(duplicate_window_ms=duplicate_window_ms)


def run_file(scenario: Path, out: Path, rules: Rules, slice_lines: int = 2_000) -> None:
    """As `pstn rate SCENARIO --out OUT` does."""
    offline = Offline(tables(), rules, partition_count=PARTITION_COUNT, topic_prefix="pstn.")
    lines = list(read_scenario(scenario))
    with OutputFiles(out, "jsonl") as files:
        for first in range(0, len(lines), slice_lines):
            for applied in offline.apply(lines[first : first + slice_lines]):
                files.write("rated_calls", [] if applied.rated is None else [applied.rated])
                files.write("rejected", [] if applied.rejected is None else [applied.rejected])
                files.write("account_events", applied.events)
                files.write("ledger_entries", applied.entries)
        for line in offline.accounts():
            files.write_account(line)


def run(lines: Sequence[dict], rules: Rules, slice_lines: int = 2_000) -> dict[str, list[dict]]:
    """The same from lines in memory."""
    with TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.jsonl"
        scenario.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        run_file(scenario, Path(folder), rules, slice_lines)
        return {name: oracle.read_lines(Path(folder) / f"{name}.jsonl") for name in oracle.FILES}
