"""`pstn rate` as a person meets it: files in, five files or a summary out, one line when a file is no scenario."""

from __future__ import annotations

import csv
import json
from base64 import b64encode
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.__main__ import cli
from tests.ledger_world import TABLES

EXAMPLES = TABLES.parent
SCENARIO = EXAMPLES / "each_kind_of_bad_record_has_its_reason_and_the_next_one_is_rated" / "scenario.jsonl"
SPLIT = EXAMPLES / "a_call_across_the_end_of_the_pool_is_split" / "scenario.jsonl"
NAMES = ("rated_calls", "account_events", "ledger_entries", "rejected", "accounts")
GOOD = '{"at": "2026-03-01T10:00:00Z", "cdr": {}}'


def rate(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["rate", *map(str, arguments), "--tables", str(TABLES)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, file_format: str):
    """A charge can only be recomputed if nothing but the input decides it."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        assert rate(SCENARIO, SPLIT, "--out", folder, "--format", file_format)[0] == 0
    for name in NAMES:
        first, second = ((folder / f"{name}.{file_format}").read_bytes() for folder in folders)
        assert first == second
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(f"{name}.{file_format}" for name in NAMES)


def test_all_formats_say_the_same(tmp_path: Path):
    """Who likes spreadsheets must see the same charges as who likes JSON."""
    for file_format in ("jsonl", "csv", "parquet"):
        rate(SPLIT, "--out", tmp_path, "--format", file_format)
    for name in NAMES:
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = pq.read_table(tmp_path / f"{name}.parquet")
        assert len(rows) == len(lines) == columns.num_rows
        for line, row, values in zip(lines, rows, columns.to_pylist(), strict=True):
            for field, value in line.items():
                text = row[field]
                plain = value is None or isinstance(value, str)
                assert (text == (value or "")) if plain else (json.loads(text) == value), (name, field)
                if isinstance(value, int):
                    assert values[field] == value and isinstance(values[field], int)


def test_json_holds_no_floats_and_keys_stand_in_the_order_of_the_schema(tmp_path: Path):
    """Money as a float would be money lost."""
    rate(SPLIT, "--out", tmp_path)
    for name in NAMES:
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines():
            json.loads(line, parse_float=lambda text, name=name: pytest.fail(f"{text} in {name}"))
    first = json.loads((tmp_path / "rated_calls.jsonl").read_text().splitlines()[0])
    assert list(first)[:3] == ["usage_id", "call_id", "conference_id"] and list(first)[-1] == "rules_version"


def test_several_files_are_one_after_the_other(tmp_path: Path):
    """A month of daily files is one run."""
    text = SPLIT.read_text().splitlines(keepends=True)
    parts = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    parts[0].write_text("".join(text[:4]))
    parts[1].write_text("".join(text[4:]))
    rate(SPLIT, "--out", tmp_path / "whole")
    rate(*parts, "--out", tmp_path / "parts")
    for name in NAMES:
        assert (tmp_path / "parts" / f"{name}.jsonl").read_bytes() == (
            tmp_path / "whole" / f"{name}.jsonl"
        ).read_bytes()


def test_the_partition_count_is_a_setting(tmp_path: Path):
    """Positions depend on it, charges do not."""
    rate(SPLIT, "--out", tmp_path, "--partitions", 1)
    lines = [json.loads(line) for line in (tmp_path / "rated_calls.jsonl").read_text().splitlines()]
    assert {line["source_partition"] for line in lines} == {0}


def test_without_a_folder_a_summary_is_shown():
    """Somebody who tries a scenario wants to see what happened, not to open five files."""
    code, out, _ = rate(SCENARIO)
    assert code == 0
    for word in ("charged", "call_too_old", "funds_added", "1 accounts", "0.079 USD"):
        assert word in out, word


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "",
        "[]",
        '{"cdr": {}}',
        '{"at": "2026-03-01T10:00:00", "cdr": {}}',
        '{"at": "2026-03-01T10:00:00+00:00", "cdr": {}}',
        '{"at": 5, "cdr": {}}',
        '{"at": "2026-03-01T10:00:00Z"}',
        '{"at": "2026-03-01T10:00:00Z", "cdr": {}, "command": {}}',
        '{"at": "2026-03-01T10:00:00Z", "cdr": {}, "note": 1}',
        '{"at": "2026-03-01T10:00:00Z", "cdr_raw": "?"}',
        '{"at": "2026-03-01T10:00:00Z", "cdr_raw": 7}',
        '{"at": "2026-03-01T10:00:00Z", "cdr": NaN}',
        '{"at": "2026-13-01T10:00:00Z", "cdr": {}}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_ends_the_run_and_is_named(tmp_path: Path, line: str):
    """One line that says where, exit code 2, and no half-written files."""
    scenario, out = tmp_path / "bad.jsonl", tmp_path / "out"
    scenario.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    code, _, err = rate(scenario, "--out", out)
    assert code == 2
    assert err.startswith(f"pstn: {scenario}:2: ") and err.count("\n") == 1
    assert list(out.iterdir()) == []


def test_bytes_that_are_no_utf8_end_the_run_too(tmp_path: Path):
    """JSON is UTF-8."""
    scenario = tmp_path / "bad.jsonl"
    scenario.write_bytes(b'{"at": "\xff"}\n')
    code, _, err = rate(scenario)
    assert code == 2 and err.startswith(f"pstn: {scenario}:1: ")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"cdr": None}, "field_out_of_range"),
        ({"cdr": {"usage_id": "\ud800", "tenant_id": "\ud800", "call_type": "user_out"}}, "field_missing"),
        (
            {"cdr": {"usage_id": "k", "tenant_id": "\ud800", "call_type": "x", "start_time": "x", "duration_s": 1}},
            "field_out_of_range",
        ),
        ({"command": "tick"}, "field_out_of_range"),
        ({"command": {"command_id": "c", "tenant_id": "A", "kind": "tick", "issued_by": "x"}}, "command_invalid"),
        ({"cdr_raw": b64encode(b"\xc3\x01").decode()}, "payload_not_avro"),
        ({"cdr_raw": ""}, "payload_not_avro"),
    ],
)  # fmt: skip
def test_a_bad_call_or_command_is_a_reject_and_the_run_goes_on(tmp_path: Path, line: dict, reason: str):
    """Bad data is a value; the next line is rated."""
    scenario = tmp_path / "bad.jsonl"
    scenario.write_text(json.dumps({"at": "2026-03-01T10:00:00Z"} | line) + "\n")
    assert rate(scenario, "--out", tmp_path)[0] == 0
    (rejected,) = [json.loads(text) for text in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert rejected["reason"] == reason and rejected["applied_seq"] == 1


def test_numbers_of_absurd_length_are_rejects(tmp_path: Path):
    """Python refuses to convert them; the run must not."""
    scenario = tmp_path / "long.jsonl"
    cdr = {"usage_id": "k", "tenant_id": "A", "call_type": "user_in", "start_time": "2026-03-01T10:00:00Z"}
    line = json.dumps({"at": "2026-03-01T10:00:00Z", "cdr": cdr | {"duration_s": "LONG"}})
    scenario.write_text(line.replace('"LONG"', "9" * 10_000) + "\n")
    assert rate(scenario, "--out", tmp_path)[0] == 0
    assert "field_out_of_range" in (tmp_path / "rejected.jsonl").read_text()


def test_a_tick_stands_for_one_record_in_every_partition(tmp_path: Path):
    """Lots expire in every partition, accounts in the order of tenant_id."""
    head = {"issued_by": "t"}
    lines = []
    for tenant in ("c", "a", "b"):
        terms = json.loads(SPLIT.read_text().splitlines()[0])["command"] | {"tenant_id": tenant, "command_id": "1"}
        funds = json.loads(SPLIT.read_text().splitlines()[2])["command"] | {"tenant_id": tenant, "command_id": "2"}
        lines += [{"at": "2026-03-02T00:00:00Z", "command": command} for command in (terms, funds)]
    lines.append({"at": "2027-03-02T00:00:00Z", "command": head | {"command_id": "3", "tenant_id": "", "kind": "tick"}})
    lines.append({"at": "2027-03-02T00:00:00Z", "command": head | {"command_id": "4", "tenant_id": "zz", "kind": "x"}})
    scenario = tmp_path / "s.jsonl"
    scenario.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert rate(scenario, "--out", tmp_path)[0] == 0
    events = [json.loads(line) for line in (tmp_path / "account_events.jsonl").read_text().splitlines()]
    assert [event["tenant_id"] for event in events if event["kind"] == "lot_expired"] == ["a", "b", "c"]
    (rejected,) = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert (rejected["source_offset"], rejected["applied_seq"]) == (1, 2)


def test_a_missing_file_and_a_bad_table_are_one_line(tmp_path: Path):
    """Never a traceback."""
    assert rate(tmp_path / "nothing.jsonl")[0] == 2
    result = CliRunner().invoke(cli, ["rate", str(SPLIT), "--tables", str(tmp_path)])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1


def test_a_summary_says_why_the_first_of_each_kind_was_rejected(monkeypatch: pytest.MonkeyPatch):
    """Scenarios on tables that do not know their tariff are all rejected: a bare count teaches nobody."""
    monkeypatch.setenv("COLUMNS", "150")
    result = CliRunner().invoke(cli, ["rate", str(SPLIT)])  # with the tables that are shipped
    assert result.exit_code == 0
    assert "hold_usd" in result.stdout and "tenant_unknown" in result.stdout


def test_files_that_are_histories_of_their_own_are_pointed_out():
    """All golden scenarios at once share tenants: their sums mean little, and a person must be told."""
    code, out, err = rate(SCENARIO, SPLIT, SPLIT)
    assert code == 0 and "Calls" in out
    assert " of 3 files begin before one ahead of them has ended" in err
    assert "begin before" not in rate(SPLIT)[2]


def test_a_history_may_begin_before_1970(tmp_path: Path):
    scenario = tmp_path / "s.jsonl"
    scenario.write_text(SPLIT.read_text().replace("2026-03", "1960-03"))
    assert "begin before" not in rate(scenario)[2]


def test_a_variable_of_the_deployment_names_the_tables(monkeypatch: pytest.MonkeyPatch):
    """The worker and `pstn rate` beside it must price from the same folder."""
    monkeypatch.setenv("PSTN_TABLES", str(TABLES))
    result = CliRunner().invoke(cli, ["rate", str(SPLIT)])
    assert "split" in result.stdout
