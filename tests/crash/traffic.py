"""The switches: invented customers, half of whose calls are paid from credits, sent at a pace while things break.

Everything that is sent is acknowledged by the broker or the run fails; what must become of it the judge reads from the
log itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, Message, Producer

from pipeline.base.avro import codec
from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.ids import partition_of
from pipeline.charge.tables_io import load_tables
from pipeline.embedded.plan import make_plan
from pipeline.embedded.simulate import APPLIED, DUPLICATE, RATED, Sent, simulate

from .options import TABLES, Options

PAYERS = 12
TICK_EVERY_S = 2.0
_UNIT = 1_000_000


class Traffic(threading.Thread):
    """Sends no more calls than `allow` has granted, evenly over the time that it named."""

    def __init__(self, options: Options, bootstrap: str, prefix: str) -> None:
        super().__init__(name="traffic", daemon=True)
        self._partitions = options.partitions
        self._topics = {"cdr": prefix + "cdrs", "command": prefix + "account-commands"}
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,  # a retry must not become a re-sent call of its own
                "linger.ms": 5,
                "message.timeout.ms": 0,  # a broker may be away for long
                "log_level": 0,
            }
        )
        self._records = records_to_send(options)
        self._lock = threading.Lock()
        self._granted = 0
        self._rate = 1.0
        self._misroute = 0
        self._queued: list[tuple[str, str, bytes]] = []
        self.sent_calls = 0
        self.sent_commands = 0
        self.failures: list[KafkaError] = []
        self.failed: BaseException | None = None
        self._ending = threading.Event()

    def open_accounts(self) -> None:
        """Sends every opening command and waits until the broker has them."""
        for sent in self._records:
            if sent.kind == "cdr":
                self._first = sent
                break
            self._send(sent)
        self.flush()

    def allow(self, calls: int, over_s: float) -> None:
        """Grants so many more calls, and the pace."""
        with self._lock:
            self._granted += calls
            self._rate = max(1.0, (self._granted - self.sent_calls) / max(over_s, 0.1))

    def misroute(self, calls: int) -> None:
        """The next calls that are sound go to a partition that is not their tenant's."""
        with self._lock:
            self._misroute += calls

    def command(self, tenant_id: str, value: bytes) -> None:
        """Sends one more command, in its turn."""
        with self._lock:
            self._queued.append(("command", tenant_id, value))

    @property
    def is_idle(self) -> bool:
        with self._lock:
            return self.sent_calls >= self._granted and not self._queued

    def flush(self) -> None:
        while self._producer.flush(1.0):
            time.sleep(0.05)

    def finish(self) -> None:
        """Waits for everything granted; what failed is raised here."""
        while self.is_alive() and not self.is_idle:
            time.sleep(0.05)
        self._ending.set()
        self.join()
        self.flush()
        if self.failed is not None:
            raise self.failed
        if self.failures:
            raise RuntimeError(f"the broker refused {len(self.failures)} records: {self.failures[0].str()}")

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.failed = error

    def _run(self) -> None:
        tick_at_s, next_s = time.monotonic() + TICK_EVERY_S, time.monotonic()
        self._send(self._first)
        while not self._ending.is_set():
            now_s = time.monotonic()
            if now_s >= tick_at_s:
                tick_at_s = now_s + TICK_EVERY_S
                self._tick()
            with self._lock:
                queued, self._queued = self._queued, []
                may_send = self.sent_calls < self._granted and now_s >= next_s
                pause_s = 1 / self._rate
            for kind, tenant_id, value in queued:
                self._send(Sent(0, kind, tenant_id, value, APPLIED))  # type: ignore[arg-type]
            if may_send:
                next_s = max(next_s + pause_s, now_s - 0.2)
                self._send(next(self._records))
            else:
                self._producer.poll(0.01)

    def _tick(self) -> None:
        for number in range(self._partitions):
            fields = {"command_id": f"t{number}-{time.time_ns()}", "tenant_id": "", "kind": "tick", "issued_by": "test"}
            self._produce("command", b"", codec("account_command").encode(fields), number)

    def _send(self, sent: Sent) -> None:
        number = partition_of(sent.tenant_id, self._partitions)
        if sent.kind == "cdr" and sent.expected in (RATED, DUPLICATE):
            with self._lock:
                if self._misroute:
                    self._misroute -= 1
                    number = (number + 1) % self._partitions
        self._produce(sent.kind, sent.tenant_id.encode(), sent.value, number)

    def _produce(self, kind: str, key: bytes, value: bytes, number: int) -> None:
        while True:
            try:
                self._producer.produce(self._topics[kind], value, key, partition=number, on_delivery=self._note)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)
        with self._lock:
            if kind == "cdr":
                self.sent_calls += 1
            else:
                self.sent_commands += 1

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(error)


def payers_tenant(number: int) -> str:
    return f"payer-{number}"


def sound_call(tenant_id: str, usage_id: str, now_ms: int, minutes: int = 1) -> bytes:
    """A call to Germany that credits pay for."""
    return codec("cdr").encode(
        {
            "usage_id": usage_id,
            "call_id": None,
            "conference_id": None,
            "tenant_id": tenant_id,
            "user_id": "u",
            "call_type": "user_out",
            "number_type": None,
            "caller_number": "+12065550100",
            "callee_number": "+493012345678",
            "start_time": now_ms - minutes * 60_000,
            "duration_s": minutes * 60,
            "usage_country": None,
            "operator": None,
            "duration_source": None,
        }
    )


def funds(tenant_id: str, command_id: str, amount_micros: int, now_ms: int) -> bytes:
    return codec("account_command").encode(
        {
            "command_id": command_id,
            "tenant_id": tenant_id,
            "kind": "add_funds",
            "issued_by": "test",
            "amount_micros": amount_micros,
            "currency": "USD",
            "purchased_at": now_ms,
            "payment_method": "card",
            "reference": "test",
        }
    )


def _payer_opens(tenant_id: str, now_ms: int) -> Iterator[bytes]:
    common = {"tenant_id": tenant_id, "issued_by": "test"}
    terms = {"country": "US", "currency": "USD", "tariff": "hold_usd", "agreement": "prepaid", "overage_enabled": False}
    user = {"user_id": "u", "licences": ["MCOPSTN_PAYG_1", "MCOPSTNPP"], "is_resource_account": False}
    auto = {"enabled": True, "trigger_micros": _UNIT // 2, "amount_micros": _UNIT, "payment_method": "card"}
    policy = {"dial_out_policy": "DialoutCPCandPSTNInternational"}
    for fields in (
        {"command_id": "open", "kind": "open_account", **terms, **policy},
        {"command_id": "user", "kind": "set_user", **user},
        {"command_id": "auto", "kind": "set_auto_recharge", **auto},
    ):
        yield codec("account_command").encode(common | fields)
    yield funds(tenant_id, "funds", _UNIT, now_ms)


def records_to_send(options: Options) -> Iterator[Sent]:
    """Opening commands, then calls without end: of the simulated customers and of the payers in turn."""
    now_ms = time.time_ns() // 1_000_000
    dice = random.Random(options.seed)
    plan = make_plan(
        load_tables(TABLES),
        tenants=options.tenants,
        calls=max(100, options.calls // 2),
        days=2,
        begin=None,
        now_ms=now_ms,
    )
    for number in range(PAYERS):
        tenant_id = payers_tenant(number)
        for value in _payer_opens(tenant_id, now_ms):
            yield Sent(now_ms, "command", tenant_id, value, APPLIED)
    number = 0
    for sent in simulate(plan, dice):
        yield sent
        if sent.kind == "cdr":
            number += 1
            yield _payers_call(number, dice, now_ms)
    while True:
        number += 1
        yield _payers_call(number, dice, now_ms)


def _payers_call(number: int, dice: random.Random, now_ms: int) -> Sent:
    tenant_id = payers_tenant(dice.randrange(PAYERS))
    is_again = number > 20 and dice.random() < 0.02
    usage_id = f"paid-{number - 1 if is_again else number}"
    begin_ms = now_ms - dice.randrange(MS_PER_DAY)
    value = sound_call(tenant_id, usage_id, begin_ms, minutes=dice.randrange(1, 9))
    return Sent(now_ms, "cdr", tenant_id, value, RATED)
