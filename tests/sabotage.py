"""Takes out each remedy of the ownership of partitions, one at a time, and expects its test to fail on Apache Kafka.

    python tests/sabotage.py [WORD ...]    # only remedies whose sentence or test holds a WORD; needs Java 17 and Maven

A test that passes without its remedy proves nothing. The product is changed in a copy; exit code 1 names the tests that
did not notice. `docs/ownership.md` shows `TABLE`; a unit test keeps both true to the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.embedded.kafka_io import KafkaNode

ROOT = Path(__file__).resolve().parents[1]
_COPIED = ("pipeline", "tests", "schemas", "rating_tables", "deploy", "pyproject.toml")
_TEST_FILE = "tests/integration/test_ownership.py"
_RUN_S_MAX = 400
_NOTICED = ("fails", "hangs")  # a test that never comes to its end has not passed
_TESTS_FAILED = 1  # pytest's exit code; others mean that nothing was tested


class Remedy(NamedTuple):
    """`old` stands once in `file`; with `new` in its place the remedy is gone."""

    sentence: str
    file: str
    old: str
    new: str
    test: str


REMEDIES = (
    Remedy(
        "Fence: a partition's producer has its own transactional id, so that its start ends the owner before",
        "pipeline/debit/partition_io.py",
        """f"{self._settings.group('ledger')}-{self.number}")""",
        """f"{self._settings.group('ledger')}-{self.number}-{time.time_ns()}")""",
        "test_results_of_an_aborted_slice_are_never_read",
    ),
    Remedy(
        "Restore: the end to read to is the high watermark, as a read_uncommitted consumer sees it",
        "pipeline/base/kafka_io.py",
        "async with self.reading(committed=False) as consumer:",
        "async with self.reading() as consumer:",
        "test_an_open_transaction_in_the_credit_table_delays_the_restore_then_stops_it",
    ),
    Remedy(
        "A missing checkpoint is an error",
        "pipeline/debit/restore_io.py",
        "    if found is None:\n",
        "    if found is None:\n        return Checkpoint(0, 0, 0, 0, settings.partition_count, {}, 0), 0\n",
        "test_a_worker_without_a_checkpoint_says_to_type_ledger_init",
    ),
    Remedy(
        "Each assignment compares the partition counts with the checkpoint",
        "pipeline/base/check_io.py",
        "if state.partition_count != partition_count:",
        "if False:",
        "test_partitions_added_later_are_noticed_by_the_owners_of_the_old_ones",
    ),
    Remedy(
        "Each start compares the partition counts of all topics",
        "pipeline/base/topics.py",
        "if len(set(counts.values())) > 1:",
        "if False:",
        "test_unequal_partition_counts_are_refused_at_start",
    ),
    Remedy(
        "Records deleted before they were applied stop their partition",
        "pipeline/debit/input_io.py",
        "if self._beginning > next_offset:",
        "next_offset = max(self._beginning, next_offset)\n        if False:",
        "test_input_trimmed_before_it_was_applied_stops_its_partition_alone",
    ),
    Remedy(
        "Seek: each input is read from the checkpoint on",
        "pipeline/debit/partition_io.py",
        "cdrs.seek(checkpoint.next_offset_cdrs)",
        "cdrs.seek(0)",
        "test_a_fenced_partition_leaves_the_others_running",
    ),
    Remedy(
        "Every future of send_batch is awaited before the commit",
        "pipeline/emit/publish_io.py",
        "await asyncio.gather(*futures)",
        "pass",
        "test_a_batch_that_the_broker_refuses_prevents_the_commit[rated-calls]",
    ),
    Remedy(
        "On any exception the transaction is aborted",
        "pipeline/emit/publish_io.py",
        "        await _abort(producer)\n",
        "        await producer.commit_transaction()\n",
        "test_a_batch_that_the_broker_refuses_prevents_the_commit[account-events]",
    ),
    Remedy(
        "Fenced, ambiguous or failed: the partition is dropped, not the worker",
        "pipeline/debit/partition_io.py",
        "except (InvariantBroken, WorkerMustStop) as error:",
        "except Exception as error:",
        "test_a_fenced_partition_leaves_the_others_running",
    ),
    Remedy(
        "A partition that fails three times at one offset is parked",
        "pipeline/debit/partition_io.py",
        "if self._failure_count < _FAILURES_BEFORE_PARKING:",
        "if True:",
        "test_a_batch_that_the_broker_refuses_prevents_the_commit[credit-table]",
    ),
    Remedy(
        "A rebalance keeps the state of what is retained",
        "pipeline/base/membership_io.py",
        "[number for number in self.owners if number not in numbers]",
        "list(self.owners)",
        "test_a_retained_partition_is_not_restored_again",
    ),
    Remedy(
        "Senders may not set the time: the inputs and seen-calls have LogAppendTime, checked at start",
        "pipeline/base/topics.py",
        "if actual != wanted:",
        'if actual != wanted and key != "message.timestamp.type":',
        "test_a_topic_whose_senders_set_the_time_is_refused",
    ),
    Remedy(
        "Each record's type of timestamp is checked too",
        "pipeline/debit/input_io.py",
        "if self._checks_time and record.timestamp_type != _LOG_APPEND_TIME:",
        "if False:",
        "test_a_record_with_the_senders_time_stops_a_running_worker",
    ),
    Remedy(
        "The credit table must be compacted, not deleted",
        "pipeline/base/topics.py",
        "if actual != wanted:",
        'if actual != wanted and key != "cleanup.policy":',
        "test_a_table_that_is_not_compacted_is_refused",
    ),
    Remedy(
        "All other readers commit their position through the membership consumer only",
        "pipeline/base/membership_io.py",
        "await self._consumer.commit(moved)",
        "async with AIOKafkaConsumer(\n"
        "                    bootstrap_servers=self._clients._settings.bootstrap_servers,\n"
        "                    group_id=self.group,\n"
        "                    enable_auto_commit=False,\n"
        "                ) as assigned:\n"
        "                    assigned.assign(list(moved))\n"
        "                    await assigned.commit(moved)",
        "test_a_commit_by_an_old_owner_fails_and_moves_nothing",
    ),
    Remedy(
        "A forwarded call that is forwarded again is a reject",
        "pipeline/debit/apply.py",
        "if record.forwarded_from is not None:",
        "if False:",
        "test_a_call_on_the_wrong_partition_is_forwarded_to_its_owner",
    ),
)


def table() -> str:
    """The remedies as rows of Markdown."""
    rows = [f"| {r.sentence} | `{r.file}`: `{r.old.strip().splitlines()[0]}` | `{r.test}` |" for r in REMEDIES]
    return "\n".join(["| Remedy | Where | Test that fails without it |", "|---|---|---|", *rows])


def main(words: list[str]) -> int:
    chosen = [r for r in REMEDIES if not words or any(word in r.sentence or word in r.test for word in words)]
    unnoticed = 0
    with KafkaNode() as node:
        for remedy in chosen:
            started_s = time.monotonic()
            verdict = _without(remedy, node.bootstrap)
            unnoticed += verdict not in _NOTICED
            seconds = time.monotonic() - started_s
            print(f"{verdict:>9}  {seconds:4.0f} s  {remedy.test}  without: {remedy.sentence}", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} remedies are noticed when they are missing")
    return 1 if unnoticed or not chosen else 0


def _without(remedy: Remedy, bootstrap: str) -> str:
    with tempfile.TemporaryDirectory(prefix="pstn-sabotage-") as name:
        folder = Path(name)
        for part in _COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, folder / part)
        path = folder / remedy.file
        text = path.read_text(encoding="utf-8")
        if text.count(remedy.old) != 1:
            return "not found"
        path.write_text(text.replace(remedy.old, remedy.new), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--tb=native",
            "-p",
            "no:hypothesispytest",  # it is imported for the summary of a failure, which may exhaust the stack
            "-p",
            "no:cacheprovider",
            f"{_TEST_FILE}::{remedy.test}",
        ]
        try:
            ended = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(folder), "PSTN_TEST_KAFKA": bootstrap},
                capture_output=True,
                text=True,
                timeout=_RUN_S_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "hangs"
    if ended.returncode == _TESTS_FAILED and " failed" in ended.stdout:
        return "fails"
    if ended.returncode:
        print(ended.stdout[-2_000:], ended.stderr[-2_000:])
        return "no test"
    return "PASSES"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
