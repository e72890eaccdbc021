"""Bad input is a value: a closed list of reasons, in the order in which they are checked."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a record could not be rated or obeyed (`rejected.reason`)."""

    PAYLOAD_NOT_AVRO = "payload_not_avro"
    SCHEMA_UNKNOWN = "schema_unknown"
    FIELD_MISSING = "field_missing"
    FIELD_OUT_OF_RANGE = "field_out_of_range"
    CALL_TYPE_UNKNOWN = "call_type_unknown"
    NUMBER_INVALID = "number_invalid"
    TENANT_UNKNOWN = "tenant_unknown"
    USAGE_ID_REUSED = "usage_id_reused"
    CALL_IN_FUTURE = "call_in_future"
    CALL_TOO_OLD = "call_too_old"
    USER_UNKNOWN = "user_unknown"
    COMMAND_INVALID = "command_invalid"
    CURRENCY_MISMATCH = "currency_mismatch"
    RECHARGE_UNKNOWN = "recharge_unknown"
    ALREADY_REFUNDED = "already_refunded"


class Rejected(NamedTuple):
    """One refusal. `detail` is a sentence for a person; the ids are None where they could not be read."""

    reason: Reason
    detail: str
    tenant_id: str | None = None
    usage_id: str | None = None
    command_id: str | None = None


class InvariantBroken(AssertionError):
    """The books contradict themselves. The worker stops before the next write; never caught below `app`."""
