"""One seeded run of the payment worker against the hostile gateway, killed again and again.

`python -m tests.payments.crash_run --runs 500` plays 500 of them and prints what happened. The worker is the real one
with the real HTTP gateway and the real webhook receiver, in a process that ends by SIGKILL at a chosen step or moment.
Its log of events, its position and its commands are files here, written in the worker's order: commands first,
position after. The ledger that asks and books is the real one. After each run every payment taken must be in the
books, once, and nothing else may be.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import structlog
from aiohttp import web
from tenacity import wait_random_exponential

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_HOUR, format_time, parse_time
from pipeline.base.record import Consumed
from pipeline.cdr.command import Command, decode_command
from pipeline.emit.outputs import AccountEvent
from pipeline.emit.pay.http_io import HttpGateway
from pipeline.emit.pay.webhook_io import PaymentWebhook
from pipeline.emit.pay.worker_io import PaymentWorker
from pipeline.offline_io import Offline, parse_line
from tests.ledger_world import made_up_tables
from tests.payments.hostile_gateway import SECRET, GatewayProcess, control

TENANTS = ("contoso", "fabrikam", "tailspin", "Übersee 株式会社")
ROUNDS = 2
_TIMEOUT_S = 0.3
_TIMEOUT_S_MAX = 0.8
_SLOW_S = 1.0
_LIVES_MAX = 60
_LIFE_S_MAX = 60.0  # then it is killed too: a machine that does other things may miss every time-out


class Steps:
    """Counts the steps of a life, and ends it at one of them."""

    def __init__(self, dies_at: int | None) -> None:
        self.count = 0
        self.dies_at = dies_at

    def step(self) -> None:
        if self.count == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


class _Transport(httpx.AsyncHTTPTransport):
    """The real one, with a step before the question and after the answer."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._steps = steps

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._steps.step()
        response = await super().handle_async_request(request)
        self._steps.step()
        return response


class Files:
    """What outlives a kill: the position and the commands."""

    def __init__(self, folder: Path) -> None:
        self.position_path = folder / "position"
        self.commands_path = folder / "commands"
        self.steps_path = folder / "steps"

    def position(self) -> int:
        return int(self.position_path.read_text()) if self.position_path.exists() else 0

    def move(self, position: int) -> None:
        beside = self.position_path.with_suffix(".new")
        beside.write_text(str(position))
        beside.replace(self.position_path)

    def send(self, value: bytes) -> None:
        number = os.open(self.commands_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(number, value.hex().encode() + b"\n")
        os.close(number)

    def commands(self) -> list[Command]:
        lines = self.commands_path.read_bytes().splitlines() if self.commands_path.exists() else []
        found = [decode_command(bytes.fromhex(line.decode())) for line in lines]
        assert all(isinstance(each, Command) for each in found)
        return found  # type: ignore[return-value]


async def live(
    log: Sequence[Consumed], files: Files, gateway: GatewayProcess, steps: Steps, now_ms: int, timeout_s: float
) -> None:
    """A worker's life: until everything is answered and the gateway has nothing more to tell."""
    card = HttpGateway(
        url=gateway.url,
        key="sk_test",
        customer_of=lambda tenant: "cus_1",
        timeout_s=timeout_s,
        now_ms=lambda: now_ms,
        transport=_Transport(steps),
    )

    async def send_command(tenant_id: str, value: bytes) -> None:
        steps.step()
        files.send(value)
        steps.step()

    webhook = PaymentWebhook(secret=SECRET, gateway=card, send_command=send_command)
    worker = PaymentWorker(
        gateway=card,
        send_command=send_command,
        webhook=webhook,
        wait=wait_random_exponential(multiplier=0.002, max=0.02),
        now_ms=lambda: now_ms,
    )

    async def told(request: web.Request) -> web.Response:
        steps.step()
        status = await webhook.take(await request.read(), request.headers)
        steps.step()
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/payments/webhook", told)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await asyncio.to_thread(control, gateway.port, webhook_port=port)
    await _work(log, files, worker, steps)
    while (await asyncio.to_thread(control, gateway.port))["to_come"]:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(control, gateway.port, webhook_port=0)
    await runner.cleanup()


async def _work(log: Sequence[Consumed], files: Files, worker: PaymentWorker, steps: Steps) -> None:
    """As the owner of a partition does: batch after batch, the position past what has ended, in order."""
    handled: deque[tuple[int, asyncio.Future[None] | None]] = deque()
    position = files.position()
    while position < len(log) or handled:
        if position < len(log):
            batch = log[position : position + 2]
            rest = await worker.handle(batch)
            position += len(batch)
            handled.append((position, None if rest is None else asyncio.ensure_future(rest)))
        first = handled[0][1]
        if first is not None and position == len(log):
            await first
        while handled and (handled[0][1] is None or handled[0][1].done()):
            steps.step()
            files.move(handled.popleft()[0])
            steps.step()
        await asyncio.sleep(0)


class Run:
    """One seed: a ledger that asks, a gateway that charges, and a worker that keeps dying between them."""

    def __init__(self, seed: int, folder: Path, gateway: GatewayProcess, *, kills: int) -> None:
        self.chance = random.Random(seed)
        self.files = Files(folder)
        self.gateway = gateway
        self.kills_left = kills
        self.now_ms = parse_time("2026-03-01T00:00:00Z")
        self.ledger = Offline(made_up_tables(), partition_count=12, topic_prefix="pstn.", rules=_rules())
        self.log: list[Consumed] = []
        self.booked = 0
        self.command_count = 0
        self.rejected: Counter[str] = Counter()
        self.killed = self.lives = self.jumps = self.late = 0
        gateway.control(seed=seed, slow_s=_SLOW_S, fault_chance=self.chance.choice((0, 30, 60)), decline_chance=30)

    def play(self) -> Counter[str]:
        for tenant in TENANTS:
            self.obey(
                tenant,
                "open_account",
                country="US",
                currency="USD",
                tariff="hold_usd",
                tariff_per_minute_conferencing=None,
                agreement="prepaid",
                overage_enabled=False,
                dial_out_policy="DialoutCPCandPSTNInternational",
            )
        for number in range(1, ROUNDS + 1):
            for tenant in TENANTS:  # the trigger is above what the rounds before can have brought
                self.obey(
                    tenant,
                    "set_auto_recharge",
                    enabled=True,
                    trigger_micros=number * 10_000_000,
                    amount_micros=number * 10_000_000,
                    monthly_budget_micros=None,
                    payment_method="card",
                    enterprise_agreement_no=None,
                    purchase_order_no="PO 7",
                )
            self.drain()
        self.late += self.gateway.control(pay_declined=True)["late"]
        self.drain()
        self.check()
        return Counter(
            {
                "payments": len(self.charged()),
                "kills": self.killed,
                "days slept": self.jumps,
                "late successes": self.late,
                "commands": self.booked,
                **{f"commands refused ({name})": count for name, count in self.rejected.items()},
            }
        )

    def obey(self, tenant: str, kind: str, **fields: Any) -> None:
        self.command_count += 1
        head = {"command_id": f"c{self.command_count}", "tenant_id": tenant, "kind": kind, "issued_by": "test"}
        self.apply(head | fields)

    def apply(self, command: dict[str, Any]) -> None:
        self.now_ms += 1_000
        line = parse_line(json.dumps({"at": format_time(self.now_ms), "command": command}).encode())
        for applied in self.ledger.apply([line]):
            if applied.rejected is not None:
                self.rejected[applied.rejected.reason] += 1
            self.log += [self.consumed(event) for event in applied.events]

    def consumed(self, event: AccountEvent) -> Consumed:
        value = codec("account_event").encode_values(event)
        return Consumed("pstn.account-events", 0, len(self.log), self.now_ms, None, value)

    def drain(self) -> None:
        """Lives until one ends by itself, and what it sent is booked; now and then a day passes between two."""
        for _ in range(_LIVES_MAX):
            survived = self.one_life()
            if not survived and self.chance.random() < 0.15:
                self.jumps += 1
                self.now_ms += 25 * MS_PER_HOUR
                self.gateway.control(forget_keys=True)
            if survived or self.chance.random() < 0.5:
                self.book()
            if survived and self.files.position() == len(self.log):
                return
        raise AssertionError("the worker never came to an end")

    def one_life(self) -> bool:
        """Forks a worker; True when it ended by itself."""
        self.lives += 1
        is_killed = self.kills_left > 0 and self.chance.random() < 0.8
        self.kills_left -= is_killed
        by_time = is_killed and self.chance.random() < 0.3
        steps = Steps(self.chance.randrange(1, 40) if is_killed and not by_time else None)
        after_s = self.chance.uniform(0.005, 0.25) if by_time else None
        child = os.fork()
        if child == 0:
            try:
                structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
                signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                signal.setitimer(signal.ITIMER_REAL, _LIFE_S_MAX if after_s is None else after_s)
                timeout_s = min(_TIMEOUT_S_MAX, _TIMEOUT_S * (1 + self.lives / 10))
                asyncio.run(live(self.log, self.files, self.gateway, steps, self.now_ms, timeout_s))
                os._exit(0)
            except BaseException as error:
                print(f"a life ended by {error!r}", file=sys.stderr)
            os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), f"a life ended with {code}"
        self.killed += code != 0
        return code == 0

    def book(self) -> None:
        """The ledger takes the commands that came since, doubled ones too."""
        commands = self.files.commands()
        for command in commands[self.booked :]:
            fields = {
                name: format_time(value) if name == "paid_at" and isinstance(value, int) else value
                for name, value in command.fields.items()
            }
            head = {name: getattr(command, name) for name in ("command_id", "tenant_id", "kind", "issued_by")}
            self.apply(head | fields)
        self.booked = len(commands)

    def charged(self) -> list[tuple[str, int]]:
        payments = self.gateway.control()["payments"]
        return [
            (each["metadata"]["recharge_id"], each["amount"] * 10_000)
            for each in payments
            if each["status"] == "succeeded"
        ]

    def check(self) -> None:
        charged = Counter(self.charged())
        credited = Counter(
            (str(lot["lot_id"]), int(lot["remaining_micros"]))
            for account in self.ledger.accounts()
            for lot in account["lots"]  # type: ignore[attr-defined]
        )
        assert max(Counter(recharge_id for recharge_id, _ in charged.elements()).values(), default=0) <= 1, "paid twice"
        assert credited == charged, {"credited, not charged": credited - charged, "charged only": charged - credited}
        assert set(self.rejected) <= {"recharge_unknown"}, self.rejected


def _rules() -> Any:
    from pipeline.base.rules import Rules

    return Rules()


def play(runs: Sequence[int], gateway: GatewayProcess, *, kills: int = 6) -> Counter[str]:
    """Plays the seeds; an assertion names the one that broke a rule."""
    total: Counter[str] = Counter()
    for seed in runs:
        with tempfile.TemporaryDirectory(prefix="pstn-pay-") as folder:
            try:
                total += Run(seed, Path(folder), gateway, kills=kills).play()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
        total["runs"] += 1
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--first-seed", type=int, default=1)
    wish = parser.parse_args()
    gateway = GatewayProcess()
    gc.freeze()  # the forks copy less
    started_s = time.monotonic()
    try:
        total: Counter[str] = Counter()
        for seed in range(wish.first_seed, wish.first_seed + wish.runs):
            total += play([seed], gateway)
            if sys.stderr.isatty() or seed % 50 == 0:
                print(f"{seed}: {dict(total)}", file=sys.stderr, flush=True)
    finally:
        gateway.kill()
    for name, count in sorted(total.items()):
        print(f"{count:>8} {name}")
    print(f"{time.monotonic() - started_s:8.0f} s; charged twice 0, credited without a charge 0, charged and lost 0")


if __name__ == "__main__":
    main()
