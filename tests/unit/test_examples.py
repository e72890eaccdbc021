"""The worked examples of the contract, in `tests/golden/examples`: scenarios in, outputs out, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import cli

EXAMPLES = Path(__file__).parent.parent / "golden" / "examples"
OUTPUTS = ("rated_calls", "account_events", "ledger_entries", "rejected", "accounts")
SCENARIOS = sorted(path.parent.name for path in EXAMPLES.glob("*/scenario.jsonl"))


def differences(expected: object, actual: object, where: str = "") -> list[str]:
    """Where `actual` contradicts `expected`: "*" is an open value, further fields are allowed."""
    if expected == "*":
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [
            line
            for name, value in expected.items()
            for line in differences(value, actual.get(name, "(missing)"), f"{where}.{name}")
        ]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for index, pair in pairs for line in differences(*pair, f"{where}[{index}]")]
    return [] if type(expected) is type(actual) and expected == actual else [f"{where}: {expected!r} != {actual!r}"]


def records(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_worked_examples_of_the_contract_come_out_as_written(name: str, tmp_path: Path) -> None:
    """Each was worked out by hand from the contract's sentences; the folder's name says which."""
    folder = EXAMPLES / name
    arguments = [str(folder / "scenario.jsonl"), "--tables", str(EXAMPLES / "tables"), "--out", str(tmp_path)]
    result = CliRunner().invoke(cli, ["rate", *arguments])
    assert result.exit_code == 0, result.output
    for output in OUTPUTS:
        expected, actual = records(folder / f"{output}.jsonl"), records(tmp_path / f"{output}.jsonl")
        assert differences(expected, actual, output) == []


def test_there_are_examples_to_run() -> None:
    """A glob that finds nothing would pass silently."""
    assert len(SCENARIOS) >= 12
