"""Every golden scenario, by the oracle and by the product, against what is written down (tests/golden/README.md)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import oracle
import product
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TABLES = GOLDEN / "examples" / "tables"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/scenario.jsonl"))
EXAMPLES = sorted(path.parent for path in (GOLDEN / "examples").glob("*/scenario.jsonl"))


def settings_of(folder: Path) -> dict[str, object]:
    path = folder / "settings.json"
    return json.loads(path.read_text()) if path.exists() else {}


def expected(folder: Path, name: str) -> list[dict]:
    return oracle.read_lines(folder / f"{name}.jsonl")


@cache
def books() -> oracle.Books:
    return oracle.Books(TABLES)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_oracle_gives_what_is_written_down(folder: Path) -> None:
    """The files were read by a person once; a later change of the oracle must not change them silently."""
    outputs = oracle.run(oracle.read_lines(folder / "scenario.jsonl"), books(), **settings_of(folder))
    for name in oracle.FILES:
        assert oracle.differences(expected(folder, name), outputs[name], name) == []


@pytest.mark.parametrize("folder", FOLDERS + EXAMPLES, ids=lambda folder: folder.name)
def test_the_product_gives_what_is_written_down(folder: Path, tmp_path: Path) -> None:
    """The promise of the contract itself, read from the files that `pstn rate` writes."""
    product.run_file(folder / "scenario.jsonl", tmp_path, product.rules_of(**settings_of(folder)))
    for name in oracle.FILES:
        assert oracle.differences(expected(folder, name), oracle.read_lines(tmp_path / f"{name}.jsonl"), name) == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_scenario_names_its_rule_in_one_line(folder: Path) -> None:
    """Somebody who doubts a charge looks for the rule, not for the test."""
    lines = (folder / "rule.txt").read_text().splitlines()
    assert len(lines) == 1
    assert len(lines[0]) >= 20


def seen(name: str, field: str) -> set[object]:
    return {item[field] for folder in FOLDERS + EXAMPLES for item in expected(folder, name)}


@pytest.mark.parametrize(
    ("name", "field", "closed_list"),
    [
        ("rated_calls", "outcome", "included split charged postpaid free free_call unpaid duplicate"),
        (
            "rated_calls",
            "reason",
            "not_connected direct_routing emergency inbound zero_rate barred_by_policy premium_not_allowed "
            "no_calling_plan no_account_funding no_credits_licence spend_cap_reached balance_not_positive overage_off",
        ),
        ("rated_calls", "number_class", "geographic mobile toll_free premium shared_cost emergency unknown"),
        (
            "rated_calls",
            "capability",
            "MCOPSTN1 MCOPSTN2 MCOPSTN5 MCOPSTN6 MCOPSTN8 MCOPSTNPP MCOMEETADD MCOMEETADD_DIALOUT_US MCOMEETACPEA "
            "FREECALL",
        ),
        ("rated_calls", "call_type", " ".join(oracle.CALL_TYPES)),
        (
            "account_events",
            "kind",
            "recharge_requested recharge_succeeded recharge_failed recharge_budget_reached funds_added call_refunded "
            "balance_zero service_suspended service_restored pool_at_80 pool_exhausted lot_expiring lot_expired "
            "spend_cap_reached switched_to_postpaid rate_missing",
        ),
        ("ledger_entries", "kind", "funding usage postpaid_usage forfeiture refund"),
        (
            "rejected",
            "reason",
            "payload_not_avro schema_unknown field_missing field_out_of_range call_type_unknown number_invalid "
            "tenant_unknown usage_id_reused call_in_future call_too_old user_unknown command_invalid currency_mismatch "
            "recharge_unknown already_refunded",
        ),
    ],
)
def test_every_value_of_a_closed_list_occurs_in_some_scenario(name: str, field: str, closed_list: str) -> None:
    """A rule without a scenario is a rule that nobody would miss."""
    assert seen(name, field) - {None, oracle.ANY} == set(closed_list.split())


def test_every_kind_of_command_occurs_in_some_scenario() -> None:
    """The commands are the other half of the contract."""
    kinds = {
        line["command"].get("kind")
        for folder in FOLDERS
        for line in oracle.read_lines(folder / "scenario.jsonl")
        if "command" in line
    }
    assert kinds >= set(oracle.KIND_FIELDS)
