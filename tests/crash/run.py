"""One run: a deployment, its faults, rest, judgement."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.embedded.clickhouse_server_io import ClickHouseServer
from pipeline.embedded.kafka_io import KafkaNode
from pipeline.warehouse.store_io import open_store

from .deployment import Deployment
from .faults import FAULTS
from .judge import Judge
from .judge_warehouse import judge_notices, judge_tables, wanted_rows
from .options import TABLES, Options
from .transcript import Transcript


class Outcome:
    """`counts`: everything that must be zero."""

    def __init__(self) -> None:
        self.calls = 0
        self.commands = 0
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []

    @property
    def is_exact(self) -> bool:
        return not any(self.counts.values())

    def add(self, other: Outcome) -> None:
        self.calls += other.calls
        self.commands += other.commands
        self.faults.update(other.faults)
        for name, count in other.counts.items():
            self.counts[name] += count
        self.findings += other.findings

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "commands": self.commands,
            "faults": dict(sorted(self.faults.items())),
            **self.counts,
        }


def run(
    options: Options, *, node: KafkaNode, clickhouse: ClickHouseServer | None, prefix: str, folder: Path,
    transcript: Transcript,
) -> Outcome:  # fmt: skip
    """Brings the faults about, one after another, under load; judges when everything is at rest."""
    outcome = Outcome()
    dice = random.Random(options.seed)
    deployment = Deployment(
        options, node=node, clickhouse=clickhouse, prefix=prefix, folder=folder, transcript=transcript
    )
    kinds = drawn(options, dice)
    try:
        deployment.begin()
        transcript.say(f"{options.workers} ledger workers, {', '.join(deployment.helpers)}: logs in {folder}")
        _bring_about(deployment, kinds, dice, outcome)
        transcript.say("waiting until everything is applied, loaded, told and paid")
        left = deployment.settle()
        if left:
            transcript.say(f"! not at rest after {options.settle_s:g} s: {'; '.join(left[:4])}")
        outcome.counts["places_behind"] = len(left)
        deployment.stop()
        deployment.log.refresh()
        _judge(deployment, outcome)
    finally:
        deployment.end()
    outcome.calls, outcome.commands = deployment.traffic.sent_calls, deployment.traffic.sent_commands
    outcome.counts.update(deployment.counts)
    verdict = "exact" if outcome.is_exact else str({name: n for name, n in outcome.counts.items() if n})
    transcript.say(f"judged {outcome.calls:,} calls and {outcome.commands:,} commands: {verdict}")
    for finding in outcome.findings[:12]:
        transcript.say(f"  {finding[:400]}")
    return outcome


def drawn(options: Options, dice: random.Random) -> list[str]:
    """Which faults come, and in which order: every kind about equally often."""
    kinds = list(options.kinds or FAULTS)
    found: list[str] = []
    while len(found) < options.faults:
        dice.shuffle(kinds)
        found += kinds
    return found[: options.faults]


def _bring_about(deployment: Deployment, kinds: list[str], dice: random.Random, outcome: Outcome) -> None:
    traffic, transcript = deployment.traffic, deployment.transcript
    quota = deployment.options.calls // (len(kinds) + 1)
    traffic.allow(quota, 6)
    traffic.start()
    if not deployment.recovered():
        transcript.say("! not every process works after 300 s")
    for index, kind in enumerate(kinds):
        fault = FAULTS[kind]
        lasts_s = max(fault.lasts_s, deployment.options.broker_stop_s if kind == "broker_stopped" else 0)
        traffic.allow(quota, lasts_s + 4)
        deployment.rest(dice, 1, 2)  # so that the fault meets slices under way
        fault.bring_about(deployment, dice, lambda text, kind=kind: transcript.say(f"{kind}: {text}"))  # type: ignore[misc]
        outcome.faults[kind] += 1
        if not deployment.recovered():
            transcript.say("! not every process is back after 300 s")
        if traffic.failed is not None:
            raise traffic.failed
        if (index + 1) % 10 == 0:
            transcript.say(f"{index + 1} of {len(kinds)} faults, {traffic.sent_calls:,} calls sent")
    traffic.allow(max(0, deployment.options.calls - quota * (len(kinds) + 1)), 1)
    traffic.finish()
    transcript.say(f"{len(kinds)} faults are over, {traffic.sent_calls:,} calls are sent")


def _judge(deployment: Deployment, outcome: Outcome) -> None:
    judge = Judge(deployment.log, prefix=deployment.prefix, tables=TABLES, lost=deployment.lost)
    judge.judge()
    outcome.counts.update(judge.counts)
    outcome.findings += judge.findings
    store = open_store(deployment.warehouse, for_reading=True)
    try:
        outcome.counts.update(
            judge_tables(store, wanted_rows(judge.rated, judge.entries, judge.events, judge.rejected))
        )
    finally:
        store.close()
    outcome.counts.update(judge_notices(deployment.outbox, judge.events))
