"""An explanation is worth something only if it would notice a wrong charge, and says what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import oracle
import product
import pytest

from pipeline.base.rules import Rules
from pipeline.charge.explain import explain
from pipeline.charge.explanation import Explanation
from pipeline.charge.tables import Tables
from pipeline.cli.explain_io import call_from_json
from pipeline.emit.outputs import RatedCall, to_json
from pipeline.offline_io import Offline, read_scenario

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("**/scenario.jsonl"))


def rules_of(folder: Path) -> Rules:
    path = folder / "settings.json"
    return product.rules_of(**(json.loads(path.read_text()) if path.exists() else {}))


@cache
def calls_of(folder: Path) -> list[RatedCall]:
    """The rated calls that are written down, with what the contract leaves open as the product says it."""
    offline = Offline(product.tables(), rules_of(folder), partition_count=12, topic_prefix="pstn.")
    applied = offline.apply(list(read_scenario(folder / "scenario.jsonl")))
    made = [to_json(each.rated) for each in applied if each.rated is not None]
    written = oracle.read_lines(folder / "rated_calls.jsonl")
    assert len(made) == len(written)
    return [
        call_from_json(full | {name: value for name, value in line.items() if value != oracle.ANY})
        for full, line in zip(made, written, strict=True)
    ]


def all_calls() -> Iterator[tuple[RatedCall, Rules]]:
    for folder in FOLDERS:
        for call in calls_of(folder):
            yield call, rules_of(folder)


def explained(call: RatedCall, rules: Rules | None = None) -> Explanation:
    return explain(call, product.tables(), rules or Rules())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_golden_call_is_explained_without_a_difference(folder: Path) -> None:
    """A false alarm would teach people to overlook the true ones."""
    for call in calls_of(folder):
        explanation = explained(call, rules_of(folder))
        assert explanation.differences == []
        assert explanation.missing == []


@pytest.mark.parametrize(
    "field",
    [
        "billable_minutes",
        "charged_minutes",
        "price_micros",
        "rate_micros_per_minute",
        "connection_fee_micros",
        "debited_micros",
        "postpaid_micros",
        "overdraft_micros",
    ],
)
@pytest.mark.parametrize("change", [1, -1])
def test_one_unit_more_or_less_is_noticed_in_every_call(field: str, change: int) -> None:
    """The promise is the micro-unit and the minute, not about the right amount."""
    count = 0
    for call, rules in all_calls():
        value = getattr(call, field)
        if value is not None:
            count += 1
            assert explained(call._replace(**{field: value + change}), rules).differences, (call, field)
    assert count > 100


@pytest.mark.parametrize("change", [1, -1])
def test_a_lot_that_paid_one_micro_unit_more_or_less_is_noticed(change: int) -> None:
    """Lots + overdraft = debited; each lot's money expires on its own day."""
    paid = [(call, rules) for call, rules in all_calls() if call.lots]
    assert len(paid) > 50
    for call, rules in paid:
        for index, (lot_id, amount_micros) in enumerate(call.lots):
            lots = list(call.lots)
            lots[index] = (lot_id, amount_micros + change)
            assert "lots" in fields_of(explained(call._replace(lots=tuple(lots)), rules))


def fields_of(explanation: Explanation) -> set[str]:
    return {difference.field for difference in explanation.differences}


def test_another_row_rate_plan_or_code_is_noticed() -> None:
    """The row, the pool and the licence code are what a customer asks about."""
    for call, rules in all_calls():
        changes = [("capability", "MCOPSTN9"), ("destination_country", "ZZ"), ("number_class", "galactic")]
        changes += [("rate_prefix", "9"), ("scope", "galactic"), ("direction", "sideways")]
        if call.pool_id is not None:
            changes += [("pool_id", call.pool_id + "x"), ("pool_id", None), ("pool_minutes", 0)]
            changes += [("pool_id", call.pool_id.replace(call.tenant_id, "other", 1))]
        for field, value in changes:
            assert explained(call._replace(**{field: value}), rules).differences, (call, field)


@pytest.mark.parametrize("outcome", ["included", "split", "charged", "postpaid", "free", "free_call", "duplicate"])
def test_another_outcome_is_noticed(outcome: str) -> None:
    """`unpaid` is left out: that a check of the account failed cannot be seen in a record."""
    for call, rules in all_calls():
        if call.outcome != outcome and call.duration_s:  # 0 seconds: first or second time, nothing is taken
            assert explained(call._replace(outcome=outcome, reason=None), rules).differences, call


def test_a_call_that_a_later_deck_prices_differs() -> None:
    """D2: the rate is that of the deck in force when the call began."""
    call = next(call for call, _ in all_calls() if call.table_version and call.outcome == "charged")
    early = call._replace(start_time=call.start_time - 1_500 * 86_400_000)
    assert "table_version" in fields_of(explained(early))


def without_decks(tables: Tables) -> Tables:
    return Tables(
        tariffs=(),
        licences=tables.licences.values(),
        countries=tables.countries.values(),
        allowances=dict(tables.allowances()),
        conferencing=dict(tables.conferencing_allowances()),
    )


def test_a_deck_that_is_not_at_hand_is_named_and_the_arithmetic_still_checked() -> None:
    """Old tables may be gone; what the record holds must agree with itself all the same."""
    call = next(call for call, _ in all_calls() if call.outcome == "charged" and call.table_version)
    tables = without_decks(product.tables())
    explanation = explain(call, tables, Rules())
    assert explanation.differences == []
    assert [" ".join(call.table_version or ()) in line for line in explanation.missing] == [True]
    wrong = explain(call._replace(price_micros=call.price_micros + 1), tables, Rules())
    assert fields_of(wrong) == {"price_micros"}


def test_rules_of_another_version_are_named() -> None:
    """A charge can be recomputed only with the settings and numbering data that decided it."""
    call = next(call for call, _ in all_calls() if call.outcome == "charged")
    assert "settings with digest" in explained(call, Rules(overdraft_allowed=False)).missing[0]
    explanation = explained(call._replace(rules_version="9-b725c3d7-phonenumbers-1.0"))
    assert [line.split(" ")[0] for line in explanation.missing] == ["rules", "numbering"]


def test_what_no_record_holds_is_said_instead_of_guessed() -> None:
    """Licences, policy and pool use are the account's: only a replay knows them."""
    for call, rules in all_calls():
        says = " ".join(explained(call, rules).not_known)
        is_by_licence = call.outcome in {"included", "split"} or call.reason == "no_calling_plan"
        assert not is_by_licence or "which licences the paying user held" in says
        assert (call.pool_id is not None) == ("how large the pool was" in says)
        assert bool(call.lots or call.overdraft_micros) == ("the oldest lots" in says)


def test_the_last_step_ends_in_the_micro_units_of_the_record() -> None:
    """The explanation leads to the bill, not past it."""
    for call, rules in all_calls():
        last = explained(call, rules).steps[-1]
        assert last.title == "result"
        assert last.says.startswith(call.outcome)
        assert f"{call.debited_micros:,} micro-units" in last.says
        assert f"{call.postpaid_micros:,} micro-units" in last.says


def test_the_steps_come_in_their_order() -> None:
    """Who disagrees with a step must know that no earlier one applied."""
    for call, rules in all_calls():
        numbers = [step.title.split(" ")[0] for step in explained(call, rules).steps if step.title[0].isdigit()]
        assert numbers == [str(number) for number in range(1, len(numbers) + 1) if number <= 8][: len(numbers)]


def test_an_unknown_call_type_is_an_error_and_no_crash() -> None:
    """A line that is no rated call of ours must be named as such."""
    call = next(call for call, _ in all_calls())
    with pytest.raises(ValueError, match="call type"):
        explained(call._replace(call_type="carrier_pigeon"))
