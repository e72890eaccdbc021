"""The faults: each brings one thing about, waits as a person would, mends what only a person can mend, and says so."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaException, Producer

from pipeline.base.ids import partition_of

from .deployment import Deployment, Role, wait_until
from .options import REPOSITORY
from .topics_read import INPUTS
from .traffic import PAYERS, funds, payers_tenant, sound_call

Say = Callable[[str], None]


class Fault(NamedTuple):
    """`lasts_s`: about how long it takes, for the pace of the calls meanwhile."""

    bring_about: Callable[[Deployment, random.Random, Say], None]
    lasts_s: float


def _a_worker(deployment: Deployment, dice: random.Random) -> Role:
    """One that owns something, where there is one."""
    running = [worker for worker in deployment.workers if worker.is_running]
    return dice.choice([worker for worker in running if worker.owned()] or running)


def _kill(role: Role, say: Say) -> None:
    say(f"SIGKILL to {role.name} (pid {role.pid})")
    role.kill()


def kill_worker(deployment: Deployment, dice: random.Random, say: Say) -> None:
    worker = _a_worker(deployment, dice)
    _kill(worker, say)
    deployment.rest(dice, 0, 2)
    worker.start()
    deployment.rest(dice, 2, 4)


def two_kills(deployment: Deployment, dice: random.Random, say: Say) -> None:
    first = _a_worker(deployment, dice)
    _kill(first, say)
    first.start()
    time.sleep(1)
    second = dice.choice(deployment.workers)
    _kill(second, say)
    second.start()
    deployment.rest(dice, 2, 4)


def kill_in_restore(deployment: Deployment, dice: random.Random, say: Say) -> None:
    worker = _a_worker(deployment, dice)
    _kill(worker, say)
    mark = worker.mark()
    worker.start()

    def restoring() -> bool:
        assigned = worker.said(mark, "partitions_assigned")
        return bool(assigned) and len(worker.said(mark, "partition_restored")) < len(assigned[-1]["owned"])

    is_in_it = wait_until(restoring, 60, poll_s=0.003)
    worker.kill()
    restored = len(worker.said(mark, "partition_restored"))
    say(
        f"SIGKILL to {worker.name} {'in' if is_in_it else 'near'} its restore: {restored} of {len(worker.owned())} done"
    )
    worker.start()
    deployment.rest(dice, 2, 4)


def kill_in_rebalance(deployment: Deployment, dice: random.Random, say: Say) -> None:
    victim = _a_worker(deployment, dice)
    spare = deployment.spare_worker()
    spare.start()
    group = deployment.settings.group("ledger")
    moving = (ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupState.COMPLETING_REBALANCING)

    def is_moving() -> bool:
        try:
            found = deployment.admin.describe_consumer_groups([group], request_timeout=10)[group].result()
        except KafkaException:  # the coordinator is loading
            return False
        return found.state in moving

    seen = wait_until(is_moving, 60)
    victim.kill()
    say(f"SIGKILL to {victim.name} while {spare.name} joins (rebalance seen: {'yes' if seen else 'no'})")
    deployment.rest(dice, 1, 3)
    victim.start()
    deployment.rest(dice, 2, 2)
    deployment.end_cleanly(spare)


def pause_worker(deployment: Deployment, dice: random.Random, say: Say) -> None:
    wait_until(lambda: all(worker.owned() for worker in deployment.workers), 30)
    zombie = _a_worker(deployment, dice)
    others = [worker for worker in deployment.workers if worker is not zombie and worker.is_running]
    mine = set(zombie.owned())
    marks = {worker.name: worker.mark() for worker in (zombie, *others)}

    def taken() -> set[int]:
        lines = [line for other in others for line in other.said(marks[other.name], "partition_restored")]
        return {line["partition"] for line in lines} & mine

    say(f"SIGSTOP to {zombie.name} (pid {zombie.pid}), owner of {sorted(mine)}")
    begin_s = time.monotonic()
    zombie.send(signal.SIGSTOP)
    time.sleep(deployment.options.session_timeout_ms / 1000 + dice.uniform(1, 3))
    if others:
        wait_until(lambda: taken() == mine, 60, poll_s=0.2)
    deployment.rest(dice, 1, 1)  # the new owners go on: the zombie's next slice would be one of theirs
    zombie.send(signal.SIGCONT)
    say(f"SIGCONT after {time.monotonic() - begin_s:.0f} s; others had taken {sorted(taken())} over")
    if not taken():
        return

    def said() -> tuple[set[int], bool]:
        fenced = {line["partition"] for line in zombie.said(marks[zombie.name], "partition_fenced")}
        return fenced, bool(zombie.said(marks[zombie.name], "worker_was_silent"))

    # A partition that had nothing to write when it woke is taken from it before it could be fenced.
    wait_until(lambda: any(said()), 30)
    fenced, was_silent = said()
    say(f"{zombie.name} says that it stood still: {was_silent}; that it was fenced: {sorted(fenced)}")
    if not fenced and not was_silent:
        deployment.counts["zombies_unfenced"] += 1


def worker_joins_and_leaves(deployment: Deployment, dice: random.Random, say: Say) -> None:
    spare = deployment.spare_worker()
    mark = spare.mark()
    spare.start()
    wait_until(lambda: bool(spare.said(mark, "partition_restored")), 60)
    say(f"{spare.name} joined and owns {spare.owned()}")
    deployment.rest(dice, 1, 3)
    deployment.end_cleanly(spare)
    say(f"{spare.name} left")
    deployment.rest(dice, 1, 1)


def sigterm(deployment: Deployment, dice: random.Random, say: Say) -> None:
    role = dice.choice([_a_worker(deployment, dice), *deployment.helpers.values()])
    say(f"SIGTERM to {role.name}")
    deployment.end_cleanly(role)
    deployment.rest(dice, 0, 1)
    role.start()
    deployment.rest(dice, 2, 2)


def broker_killed(deployment: Deployment, dice: random.Random, say: Say) -> None:
    say("SIGKILL to the broker")
    deployment.node.kill()
    deployment.rest(dice, 0, 2)
    deployment.node.start()
    say("the broker is back")
    deployment.rest(dice, 3, 3)


def broker_stopped(deployment: Deployment, dice: random.Random, say: Say) -> None:
    say(f"the broker is stopped for {deployment.options.broker_stop_s:g} s")
    deployment.node.stop()
    time.sleep(deployment.options.broker_stop_s)
    deployment.node.start()
    say("the broker is back")
    deployment.rest(dice, 3, 3)


def clickhouse_killed(deployment: Deployment, dice: random.Random, say: Say) -> None:
    assert deployment.clickhouse is not None
    say("SIGKILL to ClickHouse")
    deployment.clickhouse.kill()
    deployment.rest(dice, 0, 3)
    deployment.clickhouse.start()
    say("ClickHouse is back")
    deployment.rest(dice, 1, 1)


def _helper_killed(role: str) -> Callable[[Deployment, random.Random, Say], None]:
    def helper_killed(deployment: Deployment, dice: random.Random, say: Say) -> None:
        helper = deployment.helpers[role]
        _kill(helper, say)
        deployment.rest(dice, 0, 1)
        helper.start()
        deployment.rest(dice, 1, 3)

    return helper_killed


def refused_batch(deployment: Deployment, dice: random.Random, say: Say) -> None:
    topic = dice.choice(["rated-calls", "rated-calls", "account-events", "credit-table", "seen-calls"])
    marks = {worker.name: worker.mark() for worker in deployment.workers}
    # A transaction marker takes 78 bytes: below that the broker could never end the aborted transaction.
    deployment.set_config(topic, "max.message.bytes", "100")
    say(f"the broker refuses every batch for {topic}")
    wait_s = 20 * deployment.options.pace
    wait_until(lambda: any(w.said(marks[w.name], "partition_dropped") for w in deployment.workers), wait_s)
    deployment.rest(dice, 0, 3)
    deployment.set_config(topic, "max.message.bytes", None)
    for worker in deployment.workers:
        dropped = len(worker.said(marks[worker.name], "partition_dropped"))
        parked = [line["partition"] for line in worker.said(marks[worker.name], "partition_parked")]
        if dropped or parked:
            say(f"{worker.name} dropped a partition {dropped} times and parked {parked}")
        if parked:  # the runbook: mend the topic, then restart the worker
            deployment.end_cleanly(worker)
            worker.start()
    deployment.rest(dice, 1, 1)


def _open_transaction(deployment: Deployment, topics: tuple[str, ...], value: Callable[[int], bytes]) -> Producer:
    name = f"{deployment.prefix}alien-{time.time_ns()}"
    alien = Producer(
        {"bootstrap.servers": deployment.node.bootstrap, "transactional.id": name, "log_level": 0, "linger.ms": 0}
    )
    alien.init_transactions(30)
    alien.begin_transaction()
    for topic in topics:
        for number in range(deployment.options.partitions):
            alien.produce(deployment.prefix + topic, value(number), b"alien", partition=number)
    alien.flush(30)
    return alien


def open_transaction_in_table(deployment: Deployment, dice: random.Random, say: Say) -> None:
    wait_until(lambda: all(worker.owned() for worker in deployment.workers), 30)
    victim = _a_worker(deployment, dice)
    mine = victim.owned()
    alien = _open_transaction(deployment, ("credit-table",), lambda number: b"alien")
    begun = {number: deployment.high_watermark("credit-table", number) for number in mine}
    say("a foreign transaction is open in every partition of the credit table")
    # Slices that lie above it: whoever restores to the last stable offset will not see them.
    wait_until(lambda: all(deployment.high_watermark("credit-table", n) > begun[n] + 2 for n in mine), 30, poll_s=0.2)
    marks = {worker.name: worker.mark() for worker in deployment.workers}
    _kill(victim, say)
    victim.start()

    def stalled() -> int:
        lines = [line for w in deployment.workers for line in w.said(marks[w.name], "partition_dropped")]
        return len([line for line in lines if line.get("cause") == "stalled"])

    def restored() -> int:
        return sum(len(worker.said(marks[worker.name], "partition_restored")) for worker in deployment.workers)

    wait_until(lambda: stalled() + restored() >= len(mine), 60, poll_s=0.2)
    deployment.rest(dice, 1, 3)
    said = stalled()
    alien.abort_transaction(30)
    say(f"the foreign transaction is aborted; it was said {said} times that a restore stands still")
    deployment.rest(dice, 2, 2)


def open_transaction_in_input(deployment: Deployment, dice: random.Random, say: Say) -> None:
    payers = [payers_tenant(number) for number in range(PAYERS)]
    tenants = {partition_of(tenant_id, deployment.options.partitions): tenant_id for tenant_id in payers}
    now_ms = time.time_ns() // 1_000_000
    usage = f"alien-{now_ms}"

    def value(number: int) -> bytes:
        return sound_call(tenants[number], f"{usage}-{number}", now_ms) if number in tenants else b"of nobody"

    alien = _open_transaction(deployment, ("cdrs",), value)
    say("a foreign transaction is open in every partition of the CDRs")
    worker = None
    if dice.random() < 0.5:
        worker = _a_worker(deployment, dice)
        _kill(worker, say)
        worker.start()
    deployment.rest(dice, 3, 6)
    if dice.random() < 0.5:
        alien.abort_transaction(30)
        say("the foreign transaction is aborted")
    else:
        alien.commit_transaction(30)
        say("the foreign transaction is committed: its calls count")
    deployment.rest(dice, 1, 1)


def large_account(deployment: Deployment, dice: random.Random, say: Say) -> None:
    tenant_id = payers_tenant(dice.randrange(PAYERS))
    run = f"{time.time_ns():020d}"
    now_ms = time.time_ns() // 1_000_000
    for number in range(deployment.options.lots):
        command_id = f"{run}{number:06d}".ljust(64, "\N{GRINNING FACE}")
        deployment.traffic.command(tenant_id, funds(tenant_id, command_id, 1 + number, now_ms))
    say(f"{tenant_id} gets {deployment.options.lots} lots with ids of the greatest length")
    deployment.rest(dice, 3, 3)


def input_trimmed_behind(deployment: Deployment, dice: random.Random, say: Say) -> None:
    """Retention takes what has been applied: nobody may need it any more."""
    deployment.log.refresh(("credit-table",))
    checkpoints = deployment.checkpoints()
    deployment.log.refresh(INPUTS)
    places = {("cdrs", number): each["next_offset_cdrs"] for number, each in enumerate(checkpoints)}
    places |= {("account-commands", number): each["next_offset_commands"] for number, each in enumerate(checkpoints)}
    deployment.delete_records(places)
    say(f"retention took {sum(places.values()):,} applied records of both inputs")
    worker = _a_worker(deployment, dice)
    _kill(worker, say)
    worker.start()
    deployment.rest(dice, 3, 3)


def input_trimmed_ahead(deployment: Deployment, dice: random.Random, say: Say) -> None:
    """Retention takes what was never applied: that partition must stand and say so, the others go on; then the gap is
    accepted while the workers run."""
    for worker in deployment.workers:
        deployment.end_cleanly(worker)

    def unapplied() -> dict[int, list[int]]:
        deployment.log.refresh((*INPUTS, "credit-table"))
        return {
            number: [
                record.offset
                for record in deployment.log.records["cdrs", number]
                if record.offset >= checkpoint["next_offset_cdrs"]
            ]
            for number, checkpoint in enumerate(deployment.checkpoints())
        }

    waiting: dict[int, list[int]] = {}

    def enough() -> bool:
        nonlocal waiting
        waiting = {number: offsets for number, offsets in unapplied().items() if len(offsets) >= 2}
        return bool(waiting)

    if not wait_until(enough, 20, poll_s=0.5):
        say("no calls are waiting: nothing to trim")
        for worker in deployment.workers:
            worker.start()
        return
    number, offsets = dice.choice(sorted(waiting.items()))
    end = offsets[len(offsets) // 2]
    deployment.lost |= {(number, offset) for offset in offsets if offset < end}
    deployment.delete_records({("cdrs", number): end})
    say(f"retention took {len([o for o in offsets if o < end])} CDRs of partition {number} that were never applied")
    marks = {worker.name: worker.mark() for worker in deployment.workers}
    for worker in deployment.workers:
        worker.start()

    def said(event: str) -> set[int]:
        lines = [line for worker in deployment.workers for line in worker.said(marks[worker.name], event)]
        return {line["partition"] for line in lines}

    others = set(range(deployment.options.partitions)) - {number}
    if wait_until(lambda: number in said("input_trimmed") and others <= said("partition_restored"), 120, poll_s=0.2):
        say(f"the owner of partition {number} says so; all the others are owned")
    else:
        deployment.counts["gaps_unsaid"] += 1
        say(f"! said to be trimmed: {sorted(said('input_trimmed'))}, owned: {sorted(said('partition_restored'))}")
    deployment.rest(dice, 0, 2)
    marks |= {worker.name: worker.mark() for worker in deployment.workers}
    skip = [sys.executable, "-m", "pipeline", "ledger", "skip", "--yes"]
    where = ["--bootstrap", deployment.node.bootstrap, "--prefix", deployment.prefix]
    done = subprocess.run([*skip, *where], capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=120)
    say(f"pstn ledger skip: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    if not wait_until(lambda: number in said("partition_restored"), 60, poll_s=0.2):
        deployment.counts["gaps_unsaid"] += 1
        say(f"! partition {number} does not go on after the skip")


def wrong_partition(deployment: Deployment, dice: random.Random, say: Say) -> None:
    calls = dice.randrange(5, 40)
    deployment.traffic.misroute(calls)
    say(f"the next {calls} sound calls go to a partition that is not their tenant's")
    deployment.rest(dice, 2, 2)
    if dice.random() < 0.5:
        worker = _a_worker(deployment, dice)
        _kill(worker, say)
        worker.start()
        deployment.rest(dice, 2, 2)


FAULTS: dict[str, Fault] = {
    "kill_worker": Fault(kill_worker, 4),
    "two_kills": Fault(two_kills, 5),
    "kill_in_restore": Fault(kill_in_restore, 8),
    "kill_in_rebalance": Fault(kill_in_rebalance, 8),
    "pause_worker": Fault(pause_worker, 14),
    "worker_joins_and_leaves": Fault(worker_joins_and_leaves, 8),
    "sigterm": Fault(sigterm, 4),
    "broker_killed": Fault(broker_killed, 10),
    "broker_stopped": Fault(broker_stopped, 20),
    "clickhouse_killed": Fault(clickhouse_killed, 4),
    "loader_killed": Fault(_helper_killed("loader"), 3),
    "payments_killed": Fault(_helper_killed("payments"), 3),
    "notifier_killed": Fault(_helper_killed("notifier"), 3),
    "refused_batch": Fault(refused_batch, 6),
    "open_transaction_in_table": Fault(open_transaction_in_table, 14),
    "open_transaction_in_input": Fault(open_transaction_in_input, 6),
    "large_account": Fault(large_account, 4),
    "input_trimmed_behind": Fault(input_trimmed_behind, 4),
    "input_trimmed_ahead": Fault(input_trimmed_ahead, 12),
    "wrong_partition": Fault(wrong_partition, 3),
}
