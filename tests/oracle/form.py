"""The form of what comes in: times, CDRs and commands as JSON or Avro, and who owns a tenant (records.md, 1 and 2)."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fastavro

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
LAST_INSTANT_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

CALL_TYPES = """
user_in user_out user_out_conf user_out_transfer user_out_forwarding conf_in conf_out ucap_in ucap_out ucap_out_conf
unassigned_in emergency_in emergency_out fmc_in fmc_out
dr_in dr_out dr_out_user_conf dr_out_user_forwarding dr_out_user_transfer dr_emergency_out dr_unassigned_in
dr_in_bot dr_out_bot dr_in_ucap dr_out_ucap
ByotIn ByotOut ByotOutUserConf ByotOutUserForwarding ByotOutUserTransfer ByotOutEmergency
""".split()  # noqa: SIM905
INBOUND = """
user_in conf_in ucap_in unassigned_in emergency_in fmc_in dr_in dr_unassigned_in dr_in_bot dr_in_ucap ByotIn
""".split()  # noqa: SIM905

CDR_FIELDS = {
    "usage_id": "id", "call_id": "text?", "conference_id": "text?", "tenant_id": "id", "user_id": "id?",
    "call_type": "text", "number_type": "text?", "caller_number": "number?", "callee_number": "number?",
    "start_time": "time", "duration_s": "duration", "usage_country": "country?", "operator": "text?",
    "duration_source": "text?",
}  # fmt: skip
HEAD_FIELDS = {"command_id": "id", "tenant_id": "id", "kind": "id", "issued_by": "text"}
KIND_FIELDS = {
    "open_account": {
        "country": "country", "currency": "text", "tariff": "text", "tariff_per_minute_conferencing": "text?",
        "agreement": "prepaid|postpaid", "overage_enabled": "bool", "dial_out_policy": "text",
    },
    "set_user": {
        "user_id": "id", "country": "country?", "licences": "texts", "dial_out_policy": "text?",
        "spend_cap_micros": "micros?", "upn": "text?", "display_name": "text?", "is_resource_account": "bool",
    },
    "remove_user": {"user_id": "id"},
    "assign_licences": {"user_ids": "texts", "add": "texts", "remove": "texts"},
    "set_purchased_licences": {"sku": "text", "count": "count"},
    "add_funds": {
        "amount_micros": "positive", "currency": "text", "purchased_at": "time",
        "payment_method": "card|enterprise_agreement|other", "enterprise_agreement_no": "text?",
        "purchase_order_no": "text?", "reference": "text",
    },
    "set_auto_recharge": {
        "enabled": "bool", "trigger_micros": "not_negative", "amount_micros": "micros",
        "monthly_budget_micros": "micros?", "payment_method": "card|enterprise_agreement|other",
        "enterprise_agreement_no": "text?", "purchase_order_no": "text?",
    },
    "recharge_result": {"recharge_id": "text", "succeeded": "bool", "reason": "text?", "paid_at": "time?"},
    "refund_call": {
        "usage_id": "id", "debited_micros": "not_negative", "postpaid_micros": "not_negative", "reason": "text",
    },
    "tick": {},
}  # fmt: skip
MICROS_MAX = 10**15


class Refused(Exception):
    """The record becomes a `rejected` one."""

    def __init__(self, reason: str, detail: str = "*") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def parse_time(text: object) -> int:
    """RFC 3339 with Z -> ms; ValueError for everything else."""
    match = TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"no time: {text!r}")
    moment = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1) + int((match[7] or "0").ljust(3, "0")[:3])


def show_time(ms: int) -> str:
    moment = EPOCH + timedelta(milliseconds=ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{ms % 1000:03d}Z" if ms % 1000 else "Z")


def month_of(ms: int) -> str:
    return (EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m")


def twelve_months_later(ms: int) -> int:
    """Same day and time of the next year; 29 Feb becomes 28 Feb (D10)."""
    moment = EPOCH + timedelta(milliseconds=ms)
    if (moment.month, moment.day) == (2, 29):
        moment = moment.replace(day=28)
    return (moment.replace(year=moment.year + 1) - EPOCH) // timedelta(milliseconds=1)


def is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def fits(value: object, form: str) -> bool:  # noqa: PLR0911
    """Whether a value that is not null has the form of its field. Times are ms here."""
    form = form.rstrip("?")
    if form == "id":
        return is_text(value) and 1 <= len(value) <= 64
    if form == "text":
        return is_text(value) and len(value) <= 256
    if form == "number":
        return is_text(value)
    if form == "texts":
        return isinstance(value, list) and all(is_text(one) for one in value)
    if form == "country":
        return isinstance(value, str) and re.fullmatch("[A-Z]{2}", value) is not None
    if form == "time":
        return is_whole(value) and 0 <= value <= LAST_INSTANT_MS
    if form == "duration":
        return is_whole(value) and 0 <= value <= 2_592_000
    if form == "bool":
        return isinstance(value, bool)
    if form == "count":
        return is_whole(value) and 0 <= value < 2**63
    if form in ("micros", "positive", "not_negative"):
        least = {"micros": -MICROS_MAX, "positive": 1, "not_negative": 0}[form]
        return is_whole(value) and least <= value <= MICROS_MAX
    return value in form.split("|")


def with_times(body: dict, fields: dict[str, str]) -> dict:
    """JSON -> the same with times in ms; a text that is no time stays a text, and will not fit."""
    result = dict(body)
    for name, form in fields.items():
        if form.startswith("time") and name in body:
            try:
                result[name] = parse_time(body[name])
            except ValueError:
                if body[name] is not None:
                    result[name] = "no time"
    return result


def check_cdr(body: dict) -> dict:
    """All 14 fields, in the order of the contract; times in ms. Raises Refused."""
    for name, form in CDR_FIELDS.items():
        if not form.endswith("?") and body.get(name) is None:
            raise Refused("field_missing", name)
    for name in body:
        if name not in CDR_FIELDS:
            raise Refused("field_out_of_range", name)
    for name, form in CDR_FIELDS.items():
        if name == "call_type" and isinstance(body[name], str):
            continue
        if body.get(name) is not None and not fits(body[name], form):
            raise Refused("field_out_of_range", name)
    if body["call_type"] not in CALL_TYPES:
        raise Refused("call_type_unknown")
    return {name: body.get(name) for name in CDR_FIELDS}


def check_command(body: dict) -> dict:  # noqa: PLR0912
    """The head and the fields of its kind; nulls filled in. Raises Refused."""
    for name in HEAD_FIELDS:
        if body.get(name) is None:
            raise Refused("field_missing", name)
    is_tick = body["kind"] == "tick"
    for name, form in HEAD_FIELDS.items():
        if not fits(body[name], form) and not (is_tick and name == "tenant_id" and body[name] == ""):
            raise Refused("field_out_of_range", name)
    if body["kind"] not in KIND_FIELDS or (is_tick and body["tenant_id"] != ""):
        raise Refused("command_invalid", "kind")
    fields = KIND_FIELDS[body["kind"]]
    for name in body:
        if name not in fields and name not in HEAD_FIELDS:
            raise Refused("command_invalid", name)
    for name, form in fields.items():
        value = body.get(name)
        if (value is None and not form.endswith("?")) or (value is not None and not fits(value, form)):
            raise Refused("command_invalid", name)
    command = {name: body.get(name) for name in [*HEAD_FIELDS, *fields]}
    kind = command["kind"]
    if kind == "set_user" and len(command["licences"]) > 64:
        raise Refused("command_invalid", "licences")
    if kind == "set_auto_recharge" and command["enabled"] and command["amount_micros"] <= 0:
        raise Refused("command_invalid", "amount_micros")
    if kind == "recharge_result" and command["succeeded"] and command["paid_at"] is None:
        raise Refused("command_invalid", "paid_at")
    if kind == "refund_call" and command["debited_micros"] + command["postpaid_micros"] == 0:
        raise Refused("command_invalid", "amounts")
    return command


# Avro, as single objects: two marker bytes, eight of the schema's fingerprint, the record.


def fingerprint(schema: dict) -> bytes:
    """CRC-64-AVRO of the parsing canonical form, little-endian (Avro specification, "Single-object encoding")."""
    empty = 0xC15D213AA4D7A795
    table = []
    for index in range(256):
        entry = index
        for _ in range(8):
            entry = (entry >> 1) ^ (empty if entry & 1 else 0)
        table.append(entry)
    result = empty
    for byte in fastavro.schema.to_parsing_canonical_form(schema).encode():
        result = (result >> 8) ^ table[(result ^ byte) & 0xFF]
    return result.to_bytes(8, "little")


def without_logical_types(schema: object) -> object:
    if isinstance(schema, dict):
        return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return [without_logical_types(one) for one in schema] if isinstance(schema, list) else schema


_schemas: dict[str, dict[bytes, dict]] = {}


def schemas_of(record: str) -> dict[bytes, dict]:
    """Fingerprint -> schema, of today's version and of those before it."""
    if record not in _schemas:
        paths = [SCHEMAS / f"{record}.avsc", *sorted((SCHEMAS / "history" / record).glob("*.avsc"))]
        plain = [without_logical_types(json.loads(path.read_text())) for path in paths]
        _schemas[record] = {fingerprint(schema): fastavro.parse_schema(schema) for schema in plain}
    return _schemas[record]


def decode(record: str, value: bytes) -> dict:
    """Avro -> plain values. Raises Refused."""
    if len(value) < 10 or value[:2] != b"\xc3\x01":
        raise Refused("payload_not_avro")
    schemas = schemas_of(record)
    schema = schemas.get(value[2:10])
    if schema is None:
        raise Refused("schema_unknown")
    body = io.BytesIO(value[10:])
    try:
        result = fastavro.schemaless_reader(body, schema, next(iter(schemas.values())))
    except Exception as problem:
        raise Refused("payload_not_avro") from problem
    if body.read(1):
        raise Refused("payload_not_avro")
    if record == "account_command":  # a null of another kind says nothing
        own = KIND_FIELDS.get(result["kind"], {})
        result = {key: one for key, one in result.items() if one is not None or key in own or key in HEAD_FIELDS}
    return result


def encode(record: str, body: dict) -> bytes:
    mark, schema = next(iter(schemas_of(record).items()))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, body)
    return b"\xc3\x01" + mark + out.getvalue()


def murmur2(data: bytes) -> int:
    """As org.apache.kafka.common.utils.Utils.murmur2, in 32 bits."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    while len(data) >= 4:
        k = data[0] | data[1] << 8 | data[2] << 16 | data[3] << 24
        k = k * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
        data = data[4:]
    if data:
        for index, byte in enumerate(data):
            h ^= byte << 8 * index
        h = h * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def owner_of(tenant_id: object, partition_count: int) -> int:
    """The tenant's partition; 0 when the tenant cannot be read."""
    if not is_text(tenant_id):
        return 0
    return (murmur2(tenant_id.encode()) & 0x7FFFFFFF) % partition_count
