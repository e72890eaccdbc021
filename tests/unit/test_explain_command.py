"""`pstn explain` as a person and a script meet it: where it finds calls, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import product
import pytest
from typer.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.base.rules import Rules
from pipeline.cli.explain_io import as_line, call_from_json, calls_of_warehouse
from pipeline.emit.outputs import RatedCall
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store_io import migrate, open_store
from tests.warehouse_records import consumed

EXAMPLES = product.TABLES.parent
SCENARIO = EXAMPLES / "a_call_across_the_end_of_the_pool_is_split" / "scenario.jsonl"


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """The rated calls of the scenario, as `pstn rate` wrote them."""
    product.run_file(SCENARIO, tmp_path, Rules())
    return tmp_path / "rated_calls.jsonl"


def explain(*arguments: object, text: str | None = None, tables: Path = product.TABLES) -> Result:
    result = CliRunner().invoke(cli, ["explain", *map(str, arguments), "--tables", str(tables)], input=text)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def changed(line: str, **fields: object) -> str:
    return json.dumps(json.loads(line) | fields)


def split_line(rated: Path) -> str:
    return next(line for line in rated.read_text().splitlines() if '"outcome":"split"' in line)


def test_a_call_of_a_file_is_found_by_its_id(rated: Path) -> None:
    usage_id = json.loads(split_line(rated))["usage_id"]
    result = explain("--file", rated, usage_id)
    assert result.exit_code == 0
    assert result.stdout.count("recomputed: the same to the micro-unit") == 1
    assert "D4, D5" in result.stdout
    assert "rates/hold_usd/2026-03-01.csv" in result.stdout


def test_without_an_id_every_call_of_the_file_is_explained(rated: Path) -> None:
    """An auditor's check of a whole month is one command."""
    result = explain("--file", rated)
    assert result.exit_code == 0
    assert result.stdout.count("recomputed: the same") == len(rated.read_text().splitlines())


def test_a_call_may_come_on_standard_input_in_one_line_or_many(rated: Path) -> None:
    """A call copied out of a ticket is seldom on one line."""
    line = split_line(rated)
    assert explain(text=line).exit_code == 0
    assert explain(text=json.dumps(json.loads(line), indent=2)).exit_code == 0


def test_json_is_one_object_a_call_and_says_all_that_the_text_says(rated: Path) -> None:
    lines = explain("--file", rated, "--format", "json").stdout.splitlines()
    calls = [json.loads(line) for line in rated.read_text().splitlines()]
    assert [json.loads(line)["rated_call"] for line in lines] == calls
    for line in lines:
        said = json.loads(line)
        assert said["agrees"] and not said["differences"] and not said["not_at_hand"]
        assert said["steps"][-1]["title"] == "result"


def test_what_a_record_says_is_shown_and_not_obeyed(rated: Path) -> None:
    result = explain(text=changed(split_line(rated), usage_id="\x1b]0;owned\x07\n[/x]"))
    assert r"Call \x1b]0;owned\x07\n[/x] of tenant" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_changed_micro_unit_ends_with_exit_code_1(rated: Path) -> None:
    """A script must notice without reading."""
    call = json.loads(split_line(rated))
    result = explain(text=changed(split_line(rated), debited_micros=call["debited_micros"] + 1))
    assert result.exit_code == 1
    assert "differs: debited_micros" in result.stdout


@pytest.mark.parametrize("field", ["table_version", "tariff"])
def test_a_priced_call_that_does_not_name_its_deck_differs(rated: Path, field: str) -> None:
    result = explain(text=changed(split_line(rated), **{field: None}))
    assert result.exit_code == 1
    assert f"differs: {field}" in result.stdout


def test_tables_that_are_not_at_hand_end_with_exit_code_2(rated: Path, tmp_path: Path) -> None:
    """The shipped tables know no tariff of the examples: that is no difference, and no agreement either."""
    shipped = Path(__file__).resolve().parents[2] / "rating_tables"
    result = explain(text=split_line(rated), tables=shipped)
    assert result.exit_code == 2
    assert "not at hand: rate deck hold_usd 2026-03-01" in result.stdout


def test_the_history_is_replayed_byte_for_byte(rated: Path) -> None:
    """What the record does not hold, the history does: here a balance that nothing else would contradict."""
    assert "byte for byte the same" in explain("--history", SCENARIO, text=split_line(rated)).stdout
    call = json.loads(split_line(rated))
    richer = changed(split_line(rated), balance_after_micros=call["balance_after_micros"] + 1)
    assert explain(text=richer).exit_code == 0
    result = explain("--history", SCENARIO, text=richer)
    assert result.exit_code == 1
    assert "differs: balance_after_micros" in result.stdout
    elsewhere = changed(split_line(rated), source_offset=9_999)
    assert "none there" in explain("--history", SCENARIO, text=elsewhere).stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"price_micros": 1.5}, "price_micros is 1.5"),
        ({"price_micros": True}, "price_micros is true"),
        ({"rate_is_ambiguous": 0}, "rate_is_ambiguous is 0"),
        ({"outcome": None}, "outcome is null"),
        ({"start_time": "yesterday"}, "start_time is"),
        ({"lots": [{"lot_id": "a"}]}, "lots is"),
        ({"table_version": ["a"]}, "table_version is"),
        ({"colour": "red"}, "it has no field 'colour'"),
        ({"call_type": "carrier_pigeon"}, "'carrier_pigeon' is none of the report's"),
    ],
)
def test_what_is_no_rated_call_is_one_line_with_its_place(rated: Path, change: dict, says: str) -> None:
    """A person gets a sentence, never a traceback."""
    result = explain(text=changed(split_line(rated), **change))
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_file_a_missing_call_and_no_json_are_one_line_each(rated: Path, tmp_path: Path) -> None:
    assert "No such file" in explain("--file", tmp_path / "nothing.jsonl").stderr
    assert "no rated call nobody" in explain("--file", rated, "nobody").stderr
    assert "-:1: " in explain(text="{").stderr
    assert "by --tenant T" in explain("--warehouse", "chdb:nowhere").stderr


def test_a_record_survives_the_way_through_json(rated: Path) -> None:
    for line in rated.read_text().splitlines():
        assert as_line(call_from_json(json.loads(line))) == line


def test_a_call_of_the_warehouse_is_the_record_that_was_loaded(rated: Path, tmp_path: Path) -> None:
    """The bill of last year is explained from where it is kept."""
    url = f"chdb:{tmp_path / 'warehouse'}"
    calls = [call_from_json(json.loads(line)) for line in rated.read_text().splitlines()]
    store = open_store(url)
    migrate(store)
    for block in blocks_of([consumed("rated_call", record_of(call)) for call in calls]):
        store.insert(block.table.name, block.table.column_types, block.columns)
    assert [next(calls_of_warehouse(store, "A", call.usage_id)) for call in calls] == calls
    assert list(calls_of_warehouse(store, "B' OR 1", calls[0].usage_id)) == []
    store.close()
    result = explain("--warehouse", url, "--tenant", "A", calls[0].usage_id)
    assert result.exit_code == 0, result.stderr
    assert "recomputed: the same" in result.stdout
    assert "no rated call zzz of tenant A" in explain("--warehouse", url, "--tenant", "A", "zzz").stderr


def record_of(call: RatedCall) -> dict[str, object]:
    version = None if call.table_version is None else list(call.table_version)
    lots = [{"lot_id": lot_id, "amount_micros": amount_micros} for lot_id, amount_micros in call.lots]
    return call._asdict() | {"lots": lots, "table_version": version}
