"""The product against the oracle, on histories that nobody thought of.

`pytest --ledger-steps 200000` plays as many steps; the default fits into a run of all tests.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Callable
from enum import Enum
from inspect import isdatadescriptor

import histories
import oracle
import partitions
import product
import pytest
from histories import History
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from oracle.form import parse_time
from partitions import PARTITION_COUNT, Partition

from pipeline.base.rules import Rules
from pipeline.debit import seen

STEPS_OF_A_HISTORY = 33  # on average, from twenty to fifty
PHASES = [Phase.generate, Phase.shrink]  # explaining a failure takes longer than finding it
QUIET = {"deadline": None, "database": None, "phases": PHASES, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(autouse=True)
def few_seen_calls_are_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    """In histories this short the packed arrays would stay empty, and what is wrong in them unnoticed."""
    monkeypatch.setattr(seen, "RECENT_COUNT_MAX", 4)


@pytest.fixture
def steps_max(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--ledger-steps"))


def for_histories(steps: int, check: Callable[[History], None], **chosen: object) -> None:
    """Runs `check` on so many steps of histories; Hypothesis makes a failing one as short as it can."""

    @settings(max_examples=max(1, steps // STEPS_OF_A_HISTORY), **QUIET)
    @given(histories.long_steps)
    def on_any_history(drawn: list[tuple]) -> None:
        history = History(**chosen)
        for one in drawn:
            history.play(one)
        check(history)

    on_any_history()


def expected(history: History) -> dict[str, list[dict]]:
    outputs = {name: [item for each in history.outputs for item in each[name]] for name in oracle.FILES[:4]}
    return {**outputs, "accounts": history.oracle.final_accounts()}


def all_differences(history: History, expectation: dict, outputs: dict) -> list[str]:
    latest_ms = max(parse_time(line["at"]) for line in history.lines)
    return differences_until(latest_ms, expectation, outputs)


def differences_until(latest_ms: int, expectation: dict, outputs: dict) -> list[str]:
    for side in (expectation, outputs):
        side["accounts"] = histories.with_open_months(side["accounts"], latest_ms)
    return [text for name in oracle.FILES for text in oracle.differences(expectation[name], outputs[name], name)]


@pytest.mark.parametrize(
    ("share", "chosen"),
    [(3, {}), (1, {"linked_quotas": True}), (1, {"overdraft": False}), (1, {"duplicate_window_ms": histories.DAY})],
    ids=["as shipped", "linked quotas", "no overdraft", "a window of one day"],
)
def test_product_and_oracle_agree_on_every_history(steps_max: int, share: int, chosen: dict[str, object]) -> None:
    """Two authors, one contract: where they differ one of them is wrong, or the contract says too little."""

    def agree(history: History) -> None:
        outputs = product.run(history.lines, product.rules_of(**chosen))
        assert all_differences(history, expected(history), outputs) == []

    for_histories(steps_max * share // 12, agree, **chosen)


def disagreement(lines: list[dict], chosen: dict[str, object]) -> list[str]:
    wanted = oracle.run(lines, histories.TABLES_READ, **chosen)
    latest_ms = max(parse_time(line["at"]) for line in lines)
    return differences_until(latest_ms, wanted, product.run(lines, product.rules_of(**chosen)))


def shortest(lines: list[dict], chosen: dict[str, object]) -> list[dict]:
    """The same disagreement from fewer lines: each that can go, goes."""
    for index in reversed(range(len(lines))):
        fewer = lines[:index] + lines[index + 1 :]
        if fewer and disagreement(fewer, chosen):
            lines = fewer
    return lines


@pytest.mark.parametrize("seed", range(4))
def test_product_and_oracle_agree_on_long_histories_by_dice(steps_max: int, seed: int) -> None:
    """Histories of many months and hundreds of steps, in which pools, lots and back-offs live to their end."""
    chosen: dict[str, object] = [{}, {}, {"linked_quotas": True}, {"overdraft": False}][seed]
    length = 250
    for number in range(max(1, steps_max // 8 // length)):
        history = History(**chosen)
        for one in histories.random_steps(seed * 1_000_000 + number, length):
            history.play(one)
        outputs = product.run(history.lines, product.rules_of(**chosen))
        if all_differences(history, expected(history), outputs):
            lines = shortest(history.lines, chosen)
            scenario = "".join(json.dumps(line) + "\n" for line in lines)
            pytest.fail(f"{scenario}{disagreement(lines, chosen)[:5]}", pytrace=False)


def test_the_books_balance_after_every_history(steps_max: int) -> None:
    """Entries sum to zero; a balance is its lots less the overdraft, and the sum of what was ever posted to credits."""

    def balance(history: History) -> None:
        outputs = product.run(history.lines, Rules())
        credits: dict[str, int] = defaultdict(int)
        overdraft: dict[str, int] = defaultdict(int)
        used: dict[tuple[str, str], int] = defaultdict(int)
        for entry in outputs["ledger_entries"]:
            assert sum(posting["amount_micros"] for posting in entry["postings"]) == 0
            assert all(posting["amount_micros"] != 0 for posting in entry["postings"])
            assert [entry["usage_id"], entry["lot_id"], entry["recharge_id"]].count(None) == 2
            for posting in entry["postings"]:
                if posting["account"].startswith("credits:"):
                    credits[entry["tenant_id"]] += posting["amount_micros"]
                if posting["account"] == "credits:overdraft":
                    overdraft[entry["tenant_id"]] -= posting["amount_micros"]
                if posting["account"] == "revenue:usage":
                    used[entry["tenant_id"], entry["kind"]] += posting["amount_micros"]
        for account in outputs["accounts"]:
            tenant_id, balance_micros = account["tenant_id"], account["balance_micros"]
            lots_micros = sum(lot["remaining_micros"] for lot in account["lots"])
            assert balance_micros == lots_micros - account["overdraft_micros"] == credits[tenant_id]
            assert account["overdraft_micros"] == overdraft[tenant_id] >= 0
            assert lots_micros == 0 or account["overdraft_micros"] == 0
            calls = [call for call in outputs["rated_calls"] if call["tenant_id"] == tenant_id]
            assert sum(call["debited_micros"] for call in calls) == used[tenant_id, "usage"]
            assert sum(call["postpaid_micros"] for call in calls) == used[tenant_id, "postpaid_usage"]
        for call in outputs["rated_calls"]:
            from_lots = sum(part["amount_micros"] for part in call["lots"])
            assert from_lots + call["overdraft_micros"] == call["debited_micros"]
            assert call["pool_minutes"] + call["charged_minutes"] <= call["billable_minutes"]

    for_histories(steps_max // 10, balance)


def test_every_call_leaves_one_record_and_every_record_has_its_own_place(steps_max: int) -> None:
    """A call that is lost, or an id that is used twice, shows up in no sum."""

    def complete(history: History) -> None:
        outputs = product.run(history.lines, Rules())
        rejected_calls = [item for item in outputs["rejected"] if item["source_topic"] == "pstn.cdrs"]
        calls = sum("cdr" in line for line in history.lines)
        assert len(outputs["rated_calls"]) + len(rejected_calls) == calls
        for name, id_name in (("account_events", "event_id"), ("ledger_entries", "entry_id")):
            ids = [item[id_name] for item in outputs[name]]
            assert len(ids) == len(set(ids))
        places = [
            (item["source_partition"], item["applied_seq"]) for item in outputs["rated_calls"] + outputs["rejected"]
        ]
        assert len(places) == len(set(places))

    for_histories(steps_max // 20, complete)


def floats_in(value: object, path: str = "") -> list[str]:
    """Where a value holds a float, or money that is no whole number."""
    if isinstance(value, dict):
        found = [text for name, one in value.items() for text in floats_in(one, f"{path}.{name}")]
        amounts = [name for name in value if name.endswith("_micros") and not path.endswith(".details")]
        return found + [f"{path}.{name}" for name in amounts if type(value[name]) not in (int, type(None))]
    if isinstance(value, list | tuple):
        return [text for index, one in enumerate(value) for text in floats_in(one, f"{path}[{index}]")]
    return [path] if isinstance(value, float) else []


def values_of(record: object) -> object:
    """Nested named tuples, objects and mappings as plain dicts and lists."""
    if record is None or isinstance(record, str | bytes | int | float):
        return record
    if isinstance(record, Enum):
        return values_of(record.value)
    if isinstance(record, tuple) and hasattr(record, "_asdict"):
        return {name: values_of(one) for name, one in record._asdict().items()}
    if isinstance(record, list | tuple | set | frozenset):
        return [values_of(one) for one in record]
    if isinstance(record, dict):
        return {str(name): values_of(one) for name, one in record.items()}
    # Slots of a plain class and attributes of a compiled one are descriptors of their class.
    kept = [name for kind in type(record).__mro__ for name, one in vars(kind).items() if isdatadescriptor(one)]
    own = (name for name in (*kept, *getattr(record, "__dict__", {})) if not name.startswith("__"))
    names = [name for name in own if hasattr(record, name) and name != "owner"]
    assert names, f"cannot look into {record!r}"
    return {name: values_of(getattr(record, name)) for name in names}


def test_money_is_never_a_float(steps_max: int) -> None:
    """Looks at the values that are decided and kept, not at the types that are declared."""

    def whole(history: History) -> None:
        for partition in partitions.partitions_of(history.lines, Rules()):
            decided = partition.ledger.apply_slice(partition.waiting)
            assert floats_in(values_of(decided.applied)) == []
            assert floats_in(values_of(list(decided.changed.values()))) == []

    @settings(max_examples=max(1, steps_max // 20 // STEPS_OF_A_HISTORY), **QUIET)
    @given(histories.long_well_formed_steps)
    def on_any_history(drawn: list[tuple]) -> None:
        history = History(partition_count=PARTITION_COUNT)
        for one in drawn:
            history.play(one)
        whole(history)

    on_any_history()


def test_a_float_would_be_found_wherever_it_hides() -> None:
    """The search above must be able to fail."""
    assert floats_in({"a": [1, {"b_micros": 1.0}]}) != []
    assert floats_in({"a": ({"b": 0.5},)}) != []
    assert floats_in({"b_micros": True}) != []
    assert floats_in(values_of([partitions.InputRecord(False, "t", 0, 0, 1.5, b"")])) != []  # type: ignore[arg-type]
    assert floats_in({"a": [1, {"b_micros": None}], "c": "1.0", "details": {"b_micros": "1"}}) == []


def test_any_slicing_and_any_restart_give_the_same_bytes(steps_max: int) -> None:
    """How records fall into slices is chance, and so is when a worker dies; neither may show in what is written."""

    @settings(max_examples=max(1, steps_max // 8 // STEPS_OF_A_HISTORY), **QUIET)
    @given(histories.long_well_formed_steps, st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1))
    def same(drawn: list[tuple], cuts: list[tuple[int, bool]]) -> None:
        history = History(partition_count=PARTITION_COUNT)
        for one in drawn:
            history.play(one)
        whole = partitions.partitions_of(history.lines, Rules())
        sliced = partitions.partitions_of(history.lines, Rules())
        for one, other in zip(whole, sliced, strict=True):
            if one.waiting:
                one.commit(len(one.waiting))
            cut = 0
            while other.waiting:
                count, is_restarted = cuts[cut % len(cuts)]
                other.commit(count)
                if is_restarted:
                    other.restart()
                cut += 1
            assert other.written == one.written
            assert other.credit_table == one.credit_table

    same()


class LedgerMachine(RuleBasedStateMachine):
    """Two partitions of the product beside the oracle: records arrive, slices are committed, owners die."""

    @initialize()
    def begin(self) -> None:
        self.history = History(partition_count=PARTITION_COUNT)
        self.partitions = partitions.partitions_of(self.history.lines, Rules())

    def send(self, line: dict) -> None:
        for number, is_command, now_ms, value in partitions.messages(line):
            self.partitions[number].send(is_command, now_ms, value)

    @rule(step=histories.well_formed_step)
    def a_record_arrives(self, step: tuple) -> None:
        self.send(self.history.play(step))

    @rule(first=histories.well_formed_step, second=histories.well_formed_step, third=histories.well_formed_step)
    def three_records_arrive(self, first: tuple, second: tuple, third: tuple) -> None:
        for step in (first, second, third):
            self.send(self.history.play(step))

    @rule(value=st.binary(max_size=40))
    def nonsense_arrives(self, value: bytes) -> None:
        line = {"at": self.history.lines[-1]["at"], "cdr_raw": base64.b64encode(value).decode()}
        self.send(self.history.add(line))

    @rule(number=st.integers(0, PARTITION_COUNT - 1), count=st.integers(1, 20))
    def a_slice_is_committed(self, number: int, count: int) -> None:
        if self.partitions[number].waiting:
            self.partitions[number].commit(count)
            self.compare(self.partitions[number])

    @rule(number=st.integers(0, PARTITION_COUNT - 1))
    def the_owner_dies(self, number: int) -> None:
        self.partitions[number].restart()

    def compare(self, partition: Partition) -> None:
        outputs, applied_seq = partition.read(), partition.ledger.standing.applied_seq
        for name in oracle.FILES[:4]:
            wanted = [
                item
                for each in self.history.outputs
                for item in each[name]
                if item["source_partition"] == partition.number and item["applied_seq"] <= applied_seq
            ]
            assert oracle.differences(wanted, outputs[name], name) == []

    def teardown(self) -> None:
        for partition in self.partitions:
            if partition.waiting:
                partition.commit(len(partition.waiting))
            self.compare(partition)
        outputs = {name: [] for name in oracle.FILES} | {"accounts": partitions.accounts(self.partitions)}
        wanted = {name: [] for name in oracle.FILES} | {"accounts": self.history.oracle.final_accounts()}
        assert all_differences(self.history, wanted, outputs) == []


def test_a_ledger_that_lives_and_dies_agrees_with_the_oracle(steps_max: int) -> None:
    """The state machine: its steps come one by one, so Hypothesis can interleave records, commits and deaths."""
    machine_steps = 40
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=max(1, steps_max // 4 // machine_steps), stateful_step_count=machine_steps, **QUIET
        ),
    )
