"""The demo's last line is computed: each way in which the books could disagree takes it away."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pipeline.base.avro import codec
from pipeline.base.ids import CHECKPOINT_KEY
from pipeline.base.reject import Reason
from pipeline.base.resources_io import resource_path
from pipeline.embedded.audit import Audit, Message, Suspended
from pipeline.embedded.demo import Destination, Recharges, Summary
from pipeline.embedded.demo_view import RECONCILED, Moment, bar, destinations_view, live_view, money, summary_view
from pipeline.embedded.simulate import DUPLICATE, RATED, Tally
from pipeline.warehouse.reconcile import LedgerTotals, RatedTotals, ResultCount, Warehouse

TOPIC = "pstn.cdrs"
EPOCH = 1_772_409_600_000


def blank(name: str, **values: object) -> dict[str, Any]:
    """A record with the plainest value of each field, and `values`."""
    schema = json.loads((resource_path("schemas") / f"{name}.avsc").read_text())
    plain: dict[str, object] = {"string": "", "int": 0, "long": 0, "boolean": False, "bytes": b"", "array": []}

    def plainest(kind: Any) -> object:
        if isinstance(kind, list):
            return None if "null" in kind else plainest(kind[0])
        if isinstance(kind, dict):
            return {} if kind["type"] == "map" else plain[kind["type"]] if kind["type"] in plain else plainest(kind)
        return plain[kind]

    fields = {field["name"]: plainest(field["type"]) for field in schema["fields"]}
    assert values.keys() <= fields.keys()
    return fields | values


def entry(kind: str, postings: dict[str, int], **values: object) -> bytes:
    listed = [{"account": account, "amount_micros": amount} for account, amount in postings.items()]
    return codec("ledger_entry").encode(
        blank("ledger_entry", tenant_id="acme", currency="USD", kind=kind, postings=listed, **values)
    )


def rated(usage_id: str, offset: int, outcome: str = "charged", debited: int = 0) -> bytes:
    return codec("rated_call").encode(
        blank(
            "rated_call",
            tenant_id="acme",
            usage_id=usage_id,
            outcome=outcome,
            debited_micros=debited,
            currency="USD",
            source_topic=TOPIC,
            source_offset=offset,
        )
    )


def rejected(offset: int, reason: str = Reason.NUMBER_INVALID) -> bytes:
    return codec("rejected").encode(blank("rejected", reason=reason, source_topic=TOPIC, source_offset=offset))


MONTH = "1970-01"  # of samples without a time


class World:
    """Four CDRs of one tenant on partition 0: two rated (one paid from 10.00), one re-sent, one rejected."""

    def __init__(self) -> None:
        self.rated = [rated("a", 0, debited=3_000_000), rated("b", 1, "free"), rated("a", 2, DUPLICATE)]
        self.rejected = [rejected(3)]
        self.entries = [
            entry("funding", {"payments": -10_000_000, "credits:lot": 10_000_000}),
            entry("usage", {"credits:lot": -3_000_000, "revenue:usage": 3_000_000}, usage_id="a"),
        ]
        self.remaining_micros = 7_000_000
        self.tally = Tally()
        self.tally.calls = Counter({RATED: 2, DUPLICATE: 1, Reason.NUMBER_INVALID: 1})
        self.warehouse = Warehouse(
            ledger=[LedgerTotals("acme", "USD", 0, 7_000_000, 3_000_000, 0, MONTH)],
            rated=[RatedTotals("acme", "USD", 2, 3_000_000, 0, MONTH)],
            unbalanced=[],
            results=[ResultCount(0, 4, 4)],
            unreadable_count=0,
        )

    def problems(self) -> list[str]:
        return self.audit().problems(self.tally, self.warehouse, {0: 4})

    def audit(self) -> Audit:
        audit = Audit(TOPIC)
        audit.take("rated-calls", 0, self._messages(self.rated))
        audit.take("rejected", 0, self._messages(self.rejected))
        audit.take("account-events", 0, self._messages(self.entries))
        lot = {"lot_id": "lot", "purchased_at": 0, "arrival": 0, "expires_at": 0, "amount_micros": 10_000_000}
        lots = [lot | {"remaining_micros": self.remaining_micros, "is_announced": False}]
        schema = json.loads((resource_path("schemas") / "account.avsc").read_text())
        lot_fields = next(field for field in schema["fields"] if field["name"] == "lots")["type"]["items"]["fields"]
        lots = [{field["name"]: each.get(field["name"], False) for field in lot_fields} for each in lots]
        account = blank("account", tenant_id="acme", currency="USD", lots=lots, is_suspended=True)
        checkpoint = blank("checkpoint", ledger_epoch=EPOCH, applied_seq=9, next_offset_cdrs=4, next_offset_commands=5)
        table = [
            Message(0, b"acme", codec("account").encode(account)),
            Message(1, CHECKPOINT_KEY, codec("checkpoint").encode(checkpoint)),
        ]
        audit.take("credit-table", 0, table)
        return audit

    @staticmethod
    def _messages(values: list[bytes]) -> list[Message]:
        return [Message(offset, b"acme", value) for offset, value in enumerate(values)]


def test_books_that_agree_have_no_problem() -> None:
    assert World().problems() == []


def lose_a_call(world: World) -> None:
    world.rated.pop(1)


def rate_a_call_twice(world: World) -> None:
    world.rated.append(rated("a", 4, debited=3_000_000))


def give_a_cdr_two_results(world: World) -> None:
    world.rejected.append(rejected(0))


def miss_a_re_send(world: World) -> None:
    world.rated[2] = rated("c", 2, "free")


def reject_for_another_reason(world: World) -> None:
    world.rejected = [rejected(3, Reason.USER_UNKNOWN)]


def debit_a_balance_twice(world: World) -> None:
    world.remaining_micros -= 3_000_000


def lose_an_entry(world: World) -> None:
    world.entries.pop()


def lose_a_row_of_the_warehouse(world: World) -> None:
    world.warehouse = world.warehouse._replace(results=[ResultCount(0, 3, 3)])


def change_a_sum_of_the_warehouse(world: World) -> None:
    world.warehouse = world.warehouse._replace(rated=[RatedTotals("acme", "USD", 2, 2_999_999, 0, MONTH)])


def lose_an_entry_of_the_warehouse(world: World) -> None:
    world.warehouse = world.warehouse._replace(ledger=[LedgerTotals("acme", "USD", 0, 10_000_000, 0, 0, MONTH)])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lose_a_call, "calls rated: 2 expected, 1 found"),
        (rate_a_call_twice, "call a of acme was rated twice"),
        (give_a_cdr_two_results, "partition 0, offset 0 has two results"),
        (miss_a_re_send, "re-sent calls recognised: 1 expected, 0 found"),
        (reject_for_another_reason, "rejected as user_unknown: 0 expected, 1 found"),
        (debit_a_balance_twice, "balance = postings to credits: acme has 7,000,000, should have 4,000,000"),
        (lose_an_entry, "ledger entries of acme: on the topic"),
        (lose_a_row_of_the_warehouse, "rated calls and rejects = applied CDRs: partition 0 has 3, should have 4"),
        (change_a_sum_of_the_warehouse, "debits of calls = usage entries"),
        (lose_an_entry_of_the_warehouse, "balance = postings to credits"),
    ],
)
def test_each_disagreement_is_named(damage: Callable[[World], None], named: str) -> None:
    """A demo that always says `reconciled` would prove nothing."""
    world = World()
    damage(world)
    assert any(named in problem for problem in world.problems()), world.problems()


def test_the_audit_knows_how_far_the_ledger_is_and_who_is_suspended() -> None:
    """The demo ends when both inputs are applied to their end, not after a pause that usually is enough."""
    audit = World().audit()
    assert audit.decided_count == 4
    assert audit.next_command_offset(0) == 5
    assert audit.next_command_offset(1) == 0
    assert [state.next_offset_cdrs for state in audit.checkpoints()] == [4]
    assert audit.suspended() == [Suspended("acme", "USD", 7_000_000)]
    assert audit.next_offsets["rated-calls", 0] == 3


def test_a_dropped_key_is_no_balance() -> None:
    """A tombstone in the credit table takes the account away."""
    audit = World().audit()
    audit.take("credit-table", 0, [Message(2, b"acme", None)])
    assert audit.balances() == []


def shown(renderable: Any) -> str:
    console = Console(file=StringIO(), width=120, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def summary(problems: list[str]) -> Summary:
    return Summary(
        broker="embedded",
        tariff="a proxy",
        currency="USD",
        tenant_count=2,
        seed=1,
        seconds=1.5,
        worker_kills=1,
        sent={"cdrs": 4},
        outcomes={"charged": 1, "free": 1, "duplicate": 1},
        unpaid={"no_calling_plan": 3},
        destinations=[Destination("Germany", 2, 5, 1_500_000), Destination("[odd]", 1, 1, 10)],
        recharges=Recharges(2, 1, 20_000_000),
        notices={},
        suspended=[Suspended("acme", "USD", -1_000_000)],
        rejected={"number_invalid": 1},
        balance_micros=7_000_000,
        folder="demo",
        files={"usage report": "demo/usage.csv"},
        problems=problems,
    )


def test_the_summary_says_reconciled_only_when_nothing_disagrees() -> None:
    assert RECONCILED in shown(summary_view(summary([])))
    told = shown(summary_view(summary(["a row is missing"])))
    assert RECONCILED not in told
    assert "a row is missing" in told


def test_the_summary_tells_what_happened() -> None:
    """Each number a person was promised is on the screen, and odd names are shown as they are."""
    told = shown(summary_view(summary([])))
    for part in (
        "2 of 2 tenants in 1.5 s",
        "charged",
        "Germany",
        "[odd]",
        "2 succeeded (20.00 USD), 1 failed",
        "acme (-1.00)",
        "no_calling_plan 3",
        "number_invalid",
        "demo/usage.csv",
        "kill -9",
        "a proxy",
    ):
        assert part in told


def test_the_summary_as_json_is_one_object_of_plain_values() -> None:
    told = json.loads(json.dumps(summary([]).as_dict()))
    assert told["reconciled"] is True
    assert told["destinations"][0] == {"name": "Germany", "call_count": 2, "minutes": 5, "revenue_micros": 1_500_000}
    assert told["recharges"]["failed_count"] == 1
    assert json.loads(json.dumps(summary(["x"]).as_dict()))["reconciled"] is False


def test_small_destinations_are_added_up_not_left_out() -> None:
    many = [Destination(f"place {number}", 1, 2, 1_000_000) for number in range(20)]
    told = shown(destinations_view(many, "USD"))
    assert "8 others" in told
    assert "16" in told
    assert "8.00" in told


def test_bars_are_proportional_and_never_hide_what_is_not_zero() -> None:
    assert bar(100, 100, width=10) == "█" * 10
    assert bar(50, 100, width=10) == "█" * 5
    assert bar(1, 1_000_000, width=10) == "▏"
    assert bar(0, 100) == bar(5, 0) == ""
    lengths = [len(bar(value, 64, width=8)) for value in range(65)]
    assert lengths == sorted(lengths)


def test_money_for_the_eye_has_two_decimals() -> None:
    assert money(1_234_567_890_000) == "1,234,567.89"
    assert money(-1_005_000) == "-1.01"
    assert money(-4_000) == "0.00"


def test_the_live_view_shows_how_far_each_part_is() -> None:
    """A person sees the run move, from the switch to the warehouse."""
    told = shown(live_view(Moment("calls arrive", 2.0, 10, 4, 3, 1), World().audit()))
    for part in (
        "calls arrive",
        "sent by the switches",
        "in the warehouse",
        "2 calls/s",
        "worker killed with -9",
        "charged",
    ):
        assert part in told
