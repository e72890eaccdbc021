"""Every report on ClickHouse 18.16 and on chDB: its rows by hand, its view, its filters, and its files."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from pipeline.base.resources_io import resource_path
from pipeline.cli.advise import app as advise_app
from pipeline.cli.report import app
from pipeline.warehouse.accounts import account_rows
from pipeline.warehouse.chosen import EVERYTHING, Chosen, parse_period
from pipeline.warehouse.funding_io import pasts
from pipeline.warehouse.migrations import parse_migration
from pipeline.warehouse.reports import REPORTS, chart_sql, report_sql, view_sql
from pipeline.warehouse.rows import blocks_of
from pipeline.warehouse.store import Store
from pipeline.warehouse.store_io import migrate, open_store
from pipeline.warehouse.usage import USAGE_COLUMNS
from pipeline.warehouse.users import user_rows
from tests.report_world import APRIL_MS, TABLES, account, call, fill
from tests.warehouse_records import EPOCH_MS, account_event, consumed, ledger_entry, user

MARCH = Chosen("t1", *parse_period("2026-03", "2026-03"))
D = Decimal


def rows(store: Store, sql: str) -> list[Any]:
    return list(store.query(sql).rows)


def columns(report: str, chosen: Chosen, store: Store, *names: str) -> list[tuple[Any, ...]]:
    """Some columns of a report."""
    places = [[column.name for column in REPORTS[report].columns].index(name) for name in names]
    return [tuple(row[place] for place in places) for row in rows(store, report_sql(REPORTS[report], chosen))]


@pytest.fixture
def world(store: Store) -> Store:
    fill(store)
    return store


@pytest.fixture
def world_url(warehouse_url: str) -> Iterator[str]:
    """Open while the command runs, as a worker would have it."""
    store = open_store(warehouse_url)
    migrate(store)
    fill(store)
    yield warehouse_url
    store.close()


def test_the_shipped_views_are_those_of_the_reports() -> None:
    """One text for a report and its view: what analysts query is what finance opens."""
    path = resource_path("clickhouse") / "0007_views.sql"
    assert parse_migration(path.name, path.read_text()).statements == tuple(map(view_sql, REPORTS.values()))


def test_every_view_shows_what_its_report_shows(world: Store) -> None:
    for report in REPORTS.values():
        answer = world.query(f"SELECT * FROM {report.view}")
        assert answer.names == tuple(column.name for column in report.columns)
        found = list(answer.rows)
        assert found == rows(world, report_sql(report, EVERYTHING)), report.name
        assert found, report.name


def test_minute_pools_show_the_size_of_the_month_and_what_is_left(world: Store) -> None:
    """2 users in Germany and 1 in France in March; in April 3 in Germany, and 4 licences for dial-out."""
    shown = ("month", "country", "licence", "scope", "total_minutes", "used_minutes", "left_minutes")
    assert columns("minute-pools", MARCH, world, *shown) == [
        ("2026-03", "DE", "MCOPSTN1", "domestic", 2400, 2, 2398),
        ("2026-03", "FR", "MCOPSTN2", "domestic", 1200, 0, 1200),
        ("2026-03", "FR", "MCOPSTN2", "international", 600, 0, 600),
    ]
    april = Chosen("t1", *parse_period("2026-04", "2026-04"))
    assert columns("minute-pools", april, world, *shown) == [
        ("2026-04", "", "MCOMEETADV", "dial_out", 240, 0, 240),
        ("2026-04", "DE", "MCOPSTN1", "domestic", 3600, 0, 3600),
    ]
    may = Chosen("t1", country="FR")
    assert {row[0] for row in columns("minute-pools", may, world, "month")} == {"2026-03"}


def test_a_statement_carries_each_months_balance_into_the_next(world: Store) -> None:
    shown = ("month", "opening", "funded", "used", "forfeited", "closing")
    assert columns("credit-statement", Chosen("t1"), world, *shown) == [
        ("2026-03", D("0"), D("0.5"), D("0.096"), D("0"), D("0.404")),
        ("2026-04", D("0.404"), D("0"), D("0.026"), D("0.378"), D("0")),
    ]
    april = Chosen("t1", *parse_period("2026-04", "2026-04"))
    assert columns("credit-statement", april, world, "opening") == [(D("0.404"),)]


@pytest.mark.parametrize("report", ["credit-statement", "minute-pools"])
def test_a_report_of_whole_months_says_which_it_shows(world_url: str, tmp_path: Path, report: str) -> None:
    """Asked for a day, it gave the figures of the month without a word."""
    day = (report, "--warehouse", world_url, "--from", "2026-03-20", "--to", "2026-03-20")
    month = (report, "--warehouse", world_url, "--from", "2026-03", "--to", "2026-03")
    asked_day, asked_month = (run(*period, "--format", "csv") for period in (day, month))
    assert asked_day.stdout == asked_month.stdout
    assert asked_day.stderr == f"{report} is of whole months: it shows those from 2026-03 to 2026-03\n"
    assert asked_month.stderr == ""
    open_end = run(report, "--warehouse", world_url, "--from", "2026-03-20T10:00:00Z")
    assert open_end.stderr == f"{report} is of whole months: it shows those from 2026-03\n"
    path = tmp_path / "x.xlsx"
    assert run(*day, "--output", str(path)).exit_code == 0
    facts = {row[0].value: row[1].value for row in openpyxl.load_workbook(path)["Summary"].iter_rows(max_col=2)}
    assert facts["From (UTC)"] == "2026-03-01T00:00:00Z"
    assert facts["To (UTC), not included"] == "2026-04-01T00:00:00Z"


def test_a_late_call_is_in_the_month_of_its_start_in_usage_and_of_its_posting_in_the_statement(world: Store) -> None:
    """docs/warehouse.md says so, and that all months together agree."""
    late = call(9, received_at=APRIL_MS, debited_micros=5_000)
    entry = ledger_entry(9, [("credits:a", -5_000), ("revenue:usage", 5_000)], occurred_at=APRIL_MS)
    for block in blocks_of([consumed("rated_call", late), consumed("ledger_entry", entry)]):
        world.insert(block.table.name, block.table.column_types, block.columns)
    spent = [row[:2] for row in columns("spend-by-user", Chosen("t1", user="anna"), world, "month", "charge")]
    used = columns("credit-statement", Chosen("t1"), world, "month", "used")
    assert spent == [("2026-03", D("0.101")), ("2026-04", D("0.026"))]
    assert used == [("2026-03", D("0.096")), ("2026-04", D("0.031"))]


def test_dial_out_is_the_organisers(world: Store) -> None:
    shown = ("organiser_id", "upn", "calls", "minutes", "credits_spent")
    assert columns("dial-out-usage", MARCH, world, *shown) == [("anna", "anna@contoso.example", 1, 7, D("0.07"))]


def test_leakage_has_a_reason_and_a_price(world: Store) -> None:
    shown = ("month", "reason", "calls", "minutes", "lost")
    assert columns("unpaid-calls", Chosen(), world, *shown) == [("2026-03", "balance_not_positive", 1, 5, D("0.05"))]


def test_users_and_destinations_come_the_dearest_first(world: Store) -> None:
    spent = columns("spend-by-user", MARCH, world, "user_id", "calls", "minutes_from_pools", "charge")
    assert spent == [("anna", 4, 0, D("0.096")), ("ben", 1, 2, D("0"))]
    dear = columns("top-destinations", Chosen("t1"), world, "month", "destination", "charge")
    assert [row[2] for row in dear] == sorted((row[2] for row in dear), reverse=True)
    assert ("2026-04", "France", D("0.026")) in dear


def test_a_day_of_usage_is_split_by_destination_capability_and_outcome(world: Store) -> None:
    found = columns("daily-usage", MARCH, world, "day", "outcome", "calls", "charge")
    assert {row[0] for row in found} == {date(2026, 3, 1)}
    assert sum(row[2] for row in found) == 5  # the duplicate is none
    assert sum(row[3] for row in found) == D("0.096")


def test_calls_and_ledger_stand_side_by_side(world: Store) -> None:
    shown = ("tenant_id", "month", "calls", "debited_by_calls", "debited_by_ledger", "agrees")
    assert columns("reconciliation", Chosen(), world, *shown) == [
        ("t1", "2026-03", 5, D("0.096"), D("0.096"), "yes"),
        ("t1", "2026-04", 1, D("0.026"), D("0.026"), "yes"),
        ("t2", "2026-03", 1, D("0.026"), D("0"), "no"),
    ]


@pytest.mark.parametrize(
    ("chosen", "calls"),
    [
        (MARCH._replace(user="ben"), {"call-2"}),
        (MARCH._replace(user="ben@contoso.example"), {"call-2"}),
        (MARCH._replace(user="Ben@Contoso.EXAMPLE"), {"call-2"}),
        (MARCH._replace(user="BEN"), set()),
        (MARCH._replace(user="' OR 1=1 --"), set()),
        (MARCH._replace(capability="MCOPSTN1"), {"call-2"}),
        (Chosen(country="US", tenant_id="t2"), {"call-8"}),
        (Chosen(country="US", capability="MCOPSTN1", tenant_id="t2"), set()),
    ],
)
def test_filters_hold_together(world: Store, chosen: Chosen, calls: set[str]) -> None:
    assert {row[0] for row in rows(world, report_sql(REPORTS["usage"], chosen))} == calls


def test_numbers_of_the_other_side_are_masked_by_the_organisations_country(world: Store) -> None:
    """Three stars for Germany on the number called, on the caller's of an inbound call; none for the United States."""
    places = [USAGE_COLUMNS.index(name) for name in ("UsageId", "Caller ID", "Destination Number")]

    def numbers(*, is_masking: bool) -> dict[str, tuple[str, str]]:
        found = rows(world, report_sql(REPORTS["usage"], EVERYTHING, is_masking=is_masking))
        return {row[places[0]]: (row[places[1]], row[places[2]]) for row in found}

    masked, plain = numbers(is_masking=True), numbers(is_masking=False)
    assert masked["call-1"] == (plain["call-1"][0], "+4930123***")
    assert masked["call-7"] == (plain["call-7"][0][:-3] + "***", plain["call-7"][1])
    assert masked["call-8"] == plain["call-8"]


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "250"} | environment)


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_prints_a_table_and_writes_csv_and_json(world_url: str, report: str) -> None:
    table = run(report, "--warehouse", world_url)
    assert (table.exit_code, table.stderr) == (0, "")
    text = run(report, "--warehouse", world_url, "--format", "csv").stdout_bytes.decode()
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    objects = json.loads(run(report, "--warehouse", world_url, "--format", "json").stdout)
    assert [list(each) for each in objects] == [header] * len(lines)
    assert len(objects) >= 1


@pytest.mark.parametrize("report", REPORTS)
def test_a_table_that_is_cut_says_of_how_many_rows(world_url: str, report: str) -> None:
    """Ten rows of a thousand, taken for all of them, are a wrong answer."""
    whole = len(json.loads(run(report, "--warehouse", world_url, "--format", "json").stdout))
    cut = run(report, "--warehouse", world_url, "--limit", "1").stdout
    what = "calls" if report == "usage" else "rows"
    assert (f"the first 1 of {whole} {what};" in cut) == (whole > 1)
    assert "the first" not in run(report, "--warehouse", world_url, "--limit", str(whole)).stdout


def test_a_workbook_has_typed_cells_a_frozen_header_filters_and_a_chart(world_url: str, tmp_path: Path) -> None:
    path = tmp_path / "usage.xlsx"
    result = run("usage", "--warehouse", world_url, "--tenant", "t1", "--output", str(path), "--no-mask")
    assert (result.exit_code, result.stderr) == (0, f"6 rows in {path}\n")
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Summary", "PSTN usage"]
    assert len(book["Summary"]._charts) == 1
    sheet = book["PSTN usage"]
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:Y7"
    header, first, *_ = sheet.iter_rows()
    assert tuple(cell.value for cell in header) == USAGE_COLUMNS
    by_name = dict(zip(USAGE_COLUMNS, first, strict=True))
    assert by_name["Start Time"].value == datetime(2026, 3, 1, 9, 0, 1)
    assert by_name["Start Time"].is_date
    assert by_name["Charge"].value == 0.03
    assert by_name["Charge"].number_format == "#,##0.00"
    assert by_name["Duration Seconds"].value == 61
    assert by_name["Destination Number"].value == "+4930123456"
    assert by_name["User Display Name"].data_type == "s", "a formula"
    assert by_name["User Display Name"].quotePrefix
    facts = {row[0].value: row[1].value for row in book["Summary"].iter_rows(max_col=2) if row[0].value}
    assert facts["Charge"] == 0.122
    remarks = {row[0].value: row[2].value for row in book["Summary"].iter_rows(max_col=3) if row[2].value}
    assert remarks == {"Charge": "exact; rows are rounded to cents"}
    assert facts["Tenant"] == "t1"


def test_a_parquet_file_has_the_types_of_its_columns(world_url: str, tmp_path: Path) -> None:
    path = tmp_path / "daily.parquet"
    assert run("daily-usage", "--warehouse", world_url, "--output", str(path)).exit_code == 0
    table = pq.read_table(path)
    assert str(table.schema.field("day").type) == "date32[day]"
    assert str(table.schema.field("charge").type) == "decimal128(38, 6)"
    assert sum(table["charge"].to_pylist()) == D("0.148")
    usage = tmp_path / "usage.parquet"
    assert run("usage", "--warehouse", world_url, "--output", str(usage)).exit_code == 0
    assert str(pq.read_table(usage).schema.field("Start Time").type) == "timestamp[ms, tz=UTC]"


def test_the_archive_is_the_one_that_administrators_know(
    world_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("usage", "--warehouse", world_url, "--tenant", "t1", "--from", "2026-03", "--to", "2026-03", "--zip")
    assert result.exit_code == 0, result.stderr
    [path] = tmp_path.glob("Export.callingplans.*.zip")
    with zipfile.ZipFile(path) as archive:
        calls, parameters = archive.namelist()
        assert date.fromisoformat(calls.removeprefix("PSTN.calls.").removesuffix(".csv"))
        header, *lines = csv.reader(io.TextIOWrapper(archive.open(calls), "utf-8", newline=""))
        assert (tuple(header), len(lines)) == (USAGE_COLUMNS, 5)
        chosen = json.loads(archive.read(parameters))
        assert {each.date_time[0] for each in archive.infolist()} == {datetime.now(UTC).year}, "not 1980"
    assert parameters == "parameters.json"
    assert (chosen["startDateTime"], chosen["endDateTime"]) == ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")


def test_the_archive_of_calling_plans_has_no_direct_routing_and_says_so(
    world: Store, warehouse_url: str, tmp_path: Path
) -> None:
    """They have a file of their own there; a report in another form is of all calls. One of 0 s has another reason."""
    free = {"outcome": "free", "capability": None, "debited_micros": 0, "lots": []}
    calls = [
        call(9, call_type="dr_out", reason="direct_routing", **free),
        call(10, call_type="ByotIn", direction="inbound", reason="not_connected", duration_s=0, **free),
    ]
    for block in blocks_of([consumed("rated_call", each) for each in calls]):
        world.insert(block.table.name, block.table.column_types, block.columns)
    path = tmp_path / "x.zip"
    told = run("usage", "--warehouse", warehouse_url, "--zip", "--output", str(path))
    assert (told.exit_code, told.stderr) == (
        0,
        f"7 rows in {path}\n2 calls of Direct Routing left out: the archive is of calling plans; a .csv has them\n",
    )
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    assert "dr_out" not in text
    assert "ByotIn" not in text
    assert "call-1," in text
    whole = run("usage", "--warehouse", warehouse_url, "--format", "csv").stdout
    assert "dr_out" in whole
    assert "ByotIn" in whole


def test_a_file_that_is_there_is_kept_unless_forced(world_url: str, tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_text("mine")
    refused = run("usage", "--warehouse", world_url, "--output", str(path))
    assert (refused.exit_code, path.read_text()) == (2, "mine")
    assert "is there already: --force replaces it" in refused.stderr
    assert run("usage", "--warehouse", world_url, "--output", str(path), "--force").exit_code == 0
    assert path.read_text().startswith("UsageId,")
    assert [each.name for each in tmp_path.iterdir() if "warehouse" not in each.name] == ["usage.csv"]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_chart_is_a_picture(world_url: str, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"chart.{ending}"
    result = run("daily-usage", "--warehouse", world_url, "--chart", str(path))
    assert result.exit_code == 0, result.stderr
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if ending == "png" else b"2026-03-01" in content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["credit-statement", "--user", "anna"], "credit-statement has no --user"),
        (["daily-usage", "--zip"], "--zip is for `pstn report usage`"),
        (["usage", "--zip", "--format", "json"], "leave the other format out"),
        (["usage", "--country", "germany"], "'GERMANY' is no country: two letters, such as DE"),
        (["usage", "--chart", "x.gif"], "must end in .svg or .png"),
        (["usage", "--format", "xlsx"], "needs a file: --output usage.xlsx"),
        (["usage", "--output", "/nowhere/at/all.csv"], "there is no folder"),
        (["usage", "--output", "[/x]/a.csv"], "there is no folder"),
        (["usage", "--output", "\\[/x].pdf"], "\\[/x].pdf: the name must end in"),
        (["usage", "--chart", "[/x].gif"], "[/x].gif: the name must end in .svg or .png"),
        (["usage", "--format", "csv", "--output", "pipe", "--force"], "is no plain file: leave --output out"),
        (["usage", "--format", "csv", "--output", "s.svg", "--chart", "./s.svg"], "name two files"),
        (["usage", "--output", "calls.pdf"], "calls.pdf: the name must end in .csv, .json, .xlsx, .parquet or .txt"),
        (["usage", "--output", "calls.zip"], "--zip makes one"),
        (["usage", "--tenant", "t11"], "did you mean 't1'?"),
        (["usage", "--from", "2026-03-02", "--to", "2026-03-01"], "before it begins"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    world_url: str, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what is done after all is done there
    os.mkfifo("pipe")
    result = run(*arguments, "--warehouse", world_url)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert words in result.stderr


@pytest.mark.parametrize("name", ["calls.csv", "calls.json", "calls.xlsx", "calls.parquet", "calls.zip", "days.png"])
def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_nothing(
    world_url: str, tmp_path: Path, name: str
) -> None:
    """Half a file would be taken for the month. The limit of a file's size stands for the disk."""
    folder = tmp_path / "files"
    folder.mkdir()
    option = "--chart" if name.endswith("png") else "--output"
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "report",
        "usage",
        "--warehouse",
        world_url,
        option,
        str(folder / name),
    ]
    told = subprocess.run(
        [*command, "--zip"] if name.endswith("zip") else command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (2, f"pstn: {folder / name}: File too large: it was not written\n")
    assert list(folder.iterdir()) == []


def test_a_full_disk_under_the_picture_of_advice_is_named_too(world_url: str, tmp_path: Path) -> None:
    path = tmp_path / "contoso.svg"
    command = [sys.executable, "-m", "pipeline", "advise", "funding", "--warehouse", world_url, "--tenant", "t1"]
    told = subprocess.run(
        [*command, "--chart", str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (2, f"pstn: {path}: File too large: it was not written\n")
    assert not path.exists()


@pytest.mark.parametrize("shape", ["table", "csv", "json"])
def test_a_reader_that_has_enough_is_no_error(world_url: str, shape: str) -> None:
    """`pstn report usage --format csv | head` is how a person looks at a large report."""
    command = [sys.executable, "-m", "pipeline", "report", "usage", "--warehouse", world_url, "--format", shape]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as report:
        assert report.stdout is not None
        assert report.stderr is not None
        report.stdout.close()
        assert report.stderr.read() == b""
    assert report.returncode == 0


def test_a_capability_may_be_typed_in_small_letters(world_url: str) -> None:
    """As a country may: an answer without calls would be believed."""
    large, small = (
        run("usage", "--warehouse", world_url, "--format", "csv", "--capability", code).stdout
        for code in ("MCOPSTN1", "mcopstn1")
    )
    assert small == large
    assert large.count("\n") > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", "ANNA"], "no call has --user 'ANNA': ids are written as in the call records"),
        (["--tenant", "t2", "--user", "anna"], "no call of this tenant has --user 'anna'"),
        (["--tenant", "t1", "--capability", "nope"], "no call of this tenant has --capability 'NOPE'"),
        (["--country", "ZZ"], "no call has --country 'ZZ'"),
        (["--user", "anna", "--to", "2025-01"], "calls began between 2026-03-01"),
    ],
)
@pytest.mark.parametrize("shape", ["table", "json"])
def test_the_option_that_finds_nothing_is_named(world_url: str, arguments: list[str], words: str, shape: str) -> None:
    """Who misspells one looks for the mistake in the period."""
    result = run("spend-by-user", "--warehouse", world_url, "--format", shape, *arguments)
    assert result.exit_code == 0
    assert words in (result.stdout if shape == "table" else result.stderr)


def test_a_chart_of_users_has_names_that_a_person_knows(world: Store) -> None:
    """Ids alone say nothing; a display name alone would add up two people of one name."""
    nameless = consumed("user", user("ben", upn=None, display_name="Ben Müller"), 2, key=b"t1/ben")
    for block in user_rows([nameless], {}).blocks:
        world.insert(block.table.name, block.table.column_types, block.columns)
    labels = {row[0] for row in rows(world, chart_sql(REPORTS["spend-by-user"], MARCH))}
    assert {"anna@contoso.example", "Ben Müller (ben)"} <= labels
    assert all(label == label.strip() != "" for label in labels)


def test_advice_on_funding_reads_demand_delays_and_todays_setting(world: Store) -> None:
    """Debits and what was refused for want of money, by the hour, up to the last call of anybody."""
    events = [
        account_event(40, tenant_id="t1", kind=kind, details={"recharge_id": "r"}, occurred_at=EPOCH_MS + delay_ms)
        for kind, delay_ms in (("recharge_requested", 0), ("recharge_succeeded", 2 * 3_600_000))
    ]
    for block in blocks_of([consumed("account_event", each) for each in events[:1]]):
        world.insert(block.table.name, block.table.column_types, block.columns)
    paid = events[1] | {"event_index": 1}
    for block in blocks_of([consumed("account_event", paid)]):
        world.insert(block.table.name, block.table.column_types, block.columns)
    [past] = pasts(world, Chosen("t1"))
    assert (past.demand[0], past.demand[-1], sum(past.demand)) == (26_000 + 70_000 + 50_000, 26_000, 172_000)
    assert len(past.demand) == 31 * 24 + 1
    assert past.delay_hours == 2


def test_advice_for_one_tenant_is_the_same_as_among_all(world: Store) -> None:
    """Two settings for one tenant, by how one asks, are one too many: hours end with the last call of anybody, and a
    tenant without recharges waits as long as the others do."""
    day_ms = 86_400_000
    later = call(9, tenant_id="t2", start_time=APRIL_MS + 5 * day_ms, received_at=APRIL_MS + 5 * day_ms)
    recharge = [
        account_event(41 + place, tenant_id="t2", kind=kind, details={"recharge_id": "r"}, occurred_at=at_ms)
        for place, (kind, at_ms) in enumerate(
            [("recharge_requested", EPOCH_MS), ("recharge_succeeded", EPOCH_MS + 3 * 3_600_000)]
        )
    ]
    records = [consumed("rated_call", later), *(consumed("account_event", each) for each in recharge)]
    for block in blocks_of(records):
        world.insert(block.table.name, block.table.column_types, block.columns)
    among_all = {past.tenant_id: past for past in pasts(world, Chosen())}
    [alone] = pasts(world, Chosen("t1"))
    assert alone == among_all["t1"]
    assert (len(alone.demand), alone.delay_hours) == ((31 + 5) * 24 + 1, 3)
    until = parse_period(None, "2026-03")
    assert [len(past.demand) for past in pasts(world, Chosen("t1", *until))] == [1], "no later than asked for"


def test_who_is_billed_afterwards_gets_no_advice_to_recharge(world: Store, warehouse_url: str) -> None:
    """R67: it cannot buy credits. With auto-recharge on it behaves as prepaid (R69), and what it owed was demand."""
    states = [
        account(4, tenant_id="t2", country="US", agreement="postpaid", recharge_is_enabled=False),
        account(5, tenant_id="t4", country="US", agreement="postpaid", recharge_is_enabled=True),
    ]
    owed = {"outcome": "postpaid", "debited_micros": 0, "postpaid_micros": 40_000, "lots": [], "currency": "EUR"}
    day_ms = 86_400_000
    records = [
        consumed("rated_call", call(10 * place + day, tenant_id=tenant, start_time=EPOCH_MS + day * day_ms, **owed))
        for place, tenant in enumerate(("t2", "t4"), 1)
        for day in range(5)
    ]
    for block in [*blocks_of(records), *account_rows(states, {}, TABLES).blocks]:
        world.insert(block.table.name, block.table.column_types, block.columns)

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(advise_app, ["funding", "--warehouse", warehouse_url, *arguments])
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    found = json.loads(told("--format", "json"))
    assert found["postpaid"] == ["t2"]
    assert {each["tenant_id"]: each["demand_micros"] for each in found["tenants"]} == {"t1": 172_000, "t4": 200_000}
    assert "post-paid, billed afterwards, needs no recharge: t2\n" in told()
    assert told("--tenant", "t2") == "post-paid, billed afterwards, needs no recharge: t2\n"


def test_advice_without_any_calls_says_that_there_are_none(folder_url: str) -> None:
    """It read `0 tenants used credits for less than 2 days`, as if somebody had."""
    store = open_store(folder_url)
    migrate(store)
    store.close()
    told = CliRunner().invoke(advise_app, ["funding", "--warehouse", folder_url])
    assert (told.exit_code, told.stdout) == (0, "no tenant used credits: check --tenant, --from and --to\n")
