"""The auditor is audited first: by the contract's own examples and by facts that other projects publish."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import fastavro
import oracle
import pytest
from oracle import books, form

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "golden" / "examples"
SCENARIOS = sorted(path.parent for path in EXAMPLES.glob("*/scenario.jsonl"))


def test_all_twelve_examples_of_the_contract_are_there() -> None:
    """A glob that finds nothing would pass every test below."""
    assert len(SCENARIOS) == 12


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda folder: folder.name)
def test_the_oracle_gives_what_the_contract_works_out_by_hand(folder: Path) -> None:
    """Where the oracle is wrong it would excuse the same mistake in the product."""
    outputs = oracle.run(oracle.read_lines(folder / "scenario.jsonl"), EXAMPLES / "tables")
    for name in oracle.FILES:
        assert oracle.differences(oracle.read_lines(folder / f"{name}.jsonl"), outputs[name]) == []


def test_the_oracle_shares_no_code_with_the_product() -> None:
    """One author's mistake, imported, would agree with itself."""
    imported = set()
    for path in (ROOT / "tests" / "oracle").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).split(".")[0])
    own = {"account", "books", "form", "rating"}
    assert imported - own - {"__future__"} <= {
        "argparse", "base64", "collections", "csv", "datetime", "decimal", "fastavro", "hashlib", "io", "json",
        "pathlib", "phonenumbers", "re", "typing",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_gives_the_values_of_kafkas_own_test(text: str, signed: int) -> None:
    """Vectors of Kafka's UtilsTest.testMurmur2: a tenant on the wrong partition would be somebody else's account."""
    assert form.murmur2(text.encode()) == signed & 0xFFFFFFFF


@pytest.mark.parametrize("record", ["cdr", "account_command"])
def test_a_fingerprint_is_that_of_fastavros_single_objects(record: str) -> None:
    """fastavro prints the same number as hexadecimal text; the specification wants it little-endian."""
    for mark, schema in form.schemas_of(record).items():
        canonical = fastavro.schema.to_parsing_canonical_form(schema)
        assert fastavro.schema.fingerprint(canonical, "CRC-64-AVRO") == mark.hex()


def test_a_message_is_refused_for_the_right_reason() -> None:
    """A byte too many or another framing once passed as an empty record."""
    call = {
        "usage_id": "k1", "call_id": None, "conference_id": None, "tenant_id": "A", "user_id": "u1",
        "call_type": "user_out", "number_type": None, "caller_number": None, "callee_number": "+493012345678",
        "start_time": 1_772_445_540_000, "duration_s": 60, "usage_country": None, "operator": None,
        "duration_source": None,
    }  # fmt: skip
    message = form.encode("cdr", call)
    assert form.decode("cdr", message) == call
    for value, reason in [
        (b"", "payload_not_avro"),
        (message[:9], "payload_not_avro"),
        (message[:-1], "payload_not_avro"),
        (message + b"\0", "payload_not_avro"),
        (b"\0" + message, "payload_not_avro"),
        (message[:2] + bytes(8) + message[10:], "schema_unknown"),
    ]:
        with pytest.raises(form.Refused) as caught:
            form.decode("cdr", value)
        assert caught.value.reason == reason
    body = io.BytesIO(message[10:])
    assert fastavro.schemaless_reader(body, form.schemas_of("cdr")[message[2:10]]) == call


def test_twelve_months_after_29_february_is_28_february() -> None:
    """D10 names the one day that the next year lacks."""
    for bought, expires in [
        ("2024-02-29T06:00:00Z", "2025-02-28T06:00:00Z"),
        ("2024-02-28T12:00:00Z", "2025-02-28T12:00:00Z"),
        ("2023-02-28T12:00:00Z", "2024-02-28T12:00:00Z"),
        ("2025-12-31T23:59:59.001Z", "2026-12-31T23:59:59.001Z"),
    ]:
        assert form.show_time(form.twelve_months_later(form.parse_time(bought))) == expires


@pytest.mark.parametrize(
    "text",
    ["2026-03-02T10:00:00", "2026-03-02T10:00:00+00:00", "2026-03-02 10:00:00Z", "2026-02-29T10:00:00Z", "", 0, None],
)
def test_a_time_without_z_is_no_time(text: object) -> None:
    with pytest.raises(ValueError):
        form.parse_time(text)


@pytest.mark.parametrize(
    ("number", "prefix", "ambiguous"),
    [
        ("+4930123****", "4930", False),
        ("+49151******", "49151", False),  # every longer digit stays in the same row
        ("+4915*******", "4915", True),  # 49151 and 49152 cost something else
        ("+447*********", "447", True),
        ("+5*********", None, True),  # nothing matches what is known, yet Cuba, Mexico or Brazil may be meant
        ("+53*", "53", False),  # one hidden digit is Cuba's 5 for mobiles, but this number's class is not mobile
    ],
)
def test_a_masked_number_is_priced_by_what_is_known(number: str, prefix: str | None, ambiguous: bool) -> None:
    """The oracle's own search for rows, against rows read in the table by eye."""
    tables = books.Books(EXAMPLES / "tables")
    number_class = "geographic" if number.startswith(("+4930", "+5")) else "mobile"
    row, is_ambiguous = tables.find(
        tables.deck("hold_usd", form.parse_time("2026-03-02T00:00:00Z")), "outbound", number, number_class
    )
    assert (row and row["prefix"], is_ambiguous) == (prefix, ambiguous)


def test_a_difference_is_found_in_every_place_where_it_can_hide() -> None:
    """A comparison that overlooks something makes every scenario pass."""
    expected = {"a": [1, {"b": None}], "open": "*"}
    assert oracle.differences(expected, {"a": [1, {"b": None}], "open": 7, "more": 1}) == []
    for actual in (
        {"a": [1, {"b": 0}], "open": 7},
        {"a": [True, {"b": None}], "open": 7},
        {"a": [1], "open": 7},
        {"a": [1, {"b": None}, 2], "open": 7},
        {"a": [1, {}], "open": 7},
        {"a": [1, {"b": None}]},
        {"a": None, "open": 7},
    ):
        assert len(oracle.differences(expected, actual)) == 1
