"""Reports as SQL templates with a place for the filter, and how their cells are written. Pure.

18.16 does not push a filter into a view (7 s instead of 0.04 s), so each report's SELECT is a template; a view would be
made from the same one. Every table is read FINAL, and duplicates of calls are left out.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from pipeline.base.calendar import MS_PER_DAY, MS_PER_S, add_months, parse_time
from pipeline.warehouse.store import literal
from pipeline.warehouse.tables import INSTANT_MS_MAX


class PeriodError(ValueError):
    """A period that cannot be meant. One line for a person."""


class UsageFilter(NamedTuple):
    """Which calls: of one tenant or of all, that began at or after `from_ms` and before `to_ms` (None: no bound)."""

    tenant_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


def parse_period(from_text: str | None, to_text: str | None) -> tuple[int | None, int | None]:
    """`2026-03` and `2026-03-31` mean the whole month or day, at both ends; a time with `Z` is exact, the end not
    included. UTC. PeriodError for any other form and for an end that is not after the beginning."""
    from_ms = None if from_text is None else _instant(from_text, is_end=False)
    to_ms = None if to_text is None else _instant(to_text, is_end=True)
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise PeriodError(f"the period ends ({to_text}) before it begins ({from_text})")
    return from_ms, to_ms


def _instant(text: str, *, is_end: bool) -> int:
    try:
        if re.fullmatch(r"\d{4}-\d\d", text):
            month_ms = parse_time(f"{text}-01T00:00:00Z")
            return add_months(month_ms, 1) if is_end else month_ms
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return parse_time(f"{text}T00:00:00Z") + (MS_PER_DAY if is_end else 0)
        return parse_time(text)
    except (ValueError, OverflowError):
        raise PeriodError(f"{text!r} is no day (2026-03-31), month (2026-03) or time (2026-03-31T10:00:00Z)") from None


# Names and order of the administrators' export of 2025. `Charge` is all that was put on the account, fee included.
USAGE_COLUMNS = (
    "UsageId",
    "Call ID",
    "Conference ID",
    "User Location",
    "Microsoft Entra ObjectId",
    "UPN",
    "User Display Name",
    "Caller ID",
    "Call Type",
    "Call Direction",
    "Number Type",
    "Domestic/International",
    "Destination Dialed",
    "Destination Number",
    "External Country",
    "Start Time",
    "End Time",
    "Duration Seconds",
    "Connection Fee",
    "Charge",
    "Currency",
    "Capability",
    "Operator",
    "Source of Call Duration",
    "Administrative Units",
)


def _cents(micros: str) -> str:
    """Two decimals, halves up (R45); exact, as a Decimal."""
    return f"toDecimal64('0.01', 2) * intDiv({micros} + 5000, 10000)"


def _iso_time(instant_ms: str) -> str:
    """As the export writes it: seven digits of a second, `Z`. 18.16 has no leftPad, hence 1000 +."""
    second = f"formatDateTime(toDateTime(intDiv({instant_ms}, 1000), 'UTC'), '%FT%T')"
    return f"concat({second}, '.', substring(toString(1000 + {instant_ms} % 1000), 2), '0000Z')"


# The export leaves the user columns of an attendant's or queue's calls empty, and says where a call went to
# only for calls that go out.
_IS_BOT = "substring(call_type, 1, 5) = 'ucap_'"
_IS_INBOUND = "direction = 'inbound'"

_USAGE_EXPRESSIONS = (
    "usage_id",
    "call_id",
    "conference_id",
    "rating_country",
    f"if({_IS_BOT}, '', user_id)",
    f"if({_IS_BOT}, '', upn)",
    f"if({_IS_BOT}, '', display_name)",
    "caller_number",
    "call_type",
    f"if({_IS_INBOUND}, 'in', 'out')",
    "number_type",
    "multiIf(scope = 'domestic', 'Domestic', scope = 'international', 'International', '')",
    f"if({_IS_INBOUND}, '', destination_name)",
    "callee_number",
    "destination_country",
    _iso_time("start_time_ms"),
    _iso_time("(start_time_ms + 1000 * duration_s)"),
    "duration_s",
    # A call that a pool paid in part owes no fee; one that credits do not pay, none either.
    _cents("if(outcome IN ('charged', 'postpaid'), ifNull(connection_fee_micros, 0), 0)"),
    _cents("(debited_micros + postpaid_micros)"),
    "currency",
    "capability",
    "operator",
    "duration_source",
    "''",
)

_CALL_COLUMNS = """tenant_id, usage_id, call_id, conference_id, rating_country, user_id, caller_number, call_type,
        direction, number_type, scope, destination_name, callee_number, destination_country, start_time_ms, duration_s,
        outcome, connection_fee_micros, debited_micros, postpaid_micros, currency, capability, operator,
        duration_source, ledger_epoch, source_partition, applied_seq"""

_USAGE_TEMPLATE = """SELECT
    {expressions}
FROM (
    SELECT {call_columns}
    FROM rated_calls FINAL
    WHERE {calls}
) AS calls
ANY LEFT JOIN (
    SELECT tenant_id, user_id, upn, display_name FROM users FINAL WHERE {users}
) AS people USING (tenant_id, user_id)
ORDER BY start_time_ms, tenant_id, ledger_epoch, source_partition, applied_seq"""

_TOTALS_TEMPLATE = """SELECT
    currency, count(), sum(duration_s), sum(debited_micros + postpaid_micros)
FROM rated_calls FINAL
WHERE {calls}
GROUP BY currency
ORDER BY currency"""


def usage_sql(chosen: UsageFilter) -> str:
    """The PSTN usage report: USAGE_COLUMNS in their order, calls by start."""
    expressions = ",\n    ".join(
        f"{expression} AS `{name}`" for expression, name in zip(_USAGE_EXPRESSIONS, USAGE_COLUMNS, strict=True)
    )
    return _USAGE_TEMPLATE.format(
        expressions=expressions,
        call_columns=_CALL_COLUMNS,
        calls=_calls_condition(chosen),
        users="1" if chosen.tenant_id is None else f"tenant_id = {literal(chosen.tenant_id)}",
    )


def usage_totals_sql(chosen: UsageFilter) -> str:
    """For each currency: currency, calls, connected seconds, charge in micros."""
    return _TOTALS_TEMPLATE.format(calls=_calls_condition(chosen))


def _calls_condition(chosen: UsageFilter) -> str:
    """Seconds choose the partitions and the part of the key; milliseconds make the bounds exact."""
    conditions = ["outcome != 'duplicate'"]
    if chosen.tenant_id is not None:
        conditions.append(f"tenant_id = {literal(chosen.tenant_id)}")
    if chosen.from_ms is not None:
        conditions.append(
            f"start_time >= toDateTime({_clipped_s(chosen.from_ms)}, 'UTC') AND start_time_ms >= {chosen.from_ms}"
        )
    if chosen.to_ms is not None:
        conditions.append(
            f"start_time <= toDateTime({_clipped_s(chosen.to_ms)}, 'UTC') AND start_time_ms < {chosen.to_ms}"
        )
    return " AND ".join(conditions)


def _clipped_s(instant_ms: int) -> int:
    """Seconds as a `DateTime` can hold them."""
    return min(max(instant_ms, 0), INSTANT_MS_MAX) // MS_PER_S


# What a spreadsheet would compute, and not a telephone number with or without a masked tail.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_TELEPHONE_NUMBER = re.compile(r"\+[0-9]+\**")


def cell_text(value: object) -> str:
    """A value as text: money always with its two decimals (engines drop a zero at the end), null as nothing."""
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return "" if value is None else str(value)


def csv_cell(value: object) -> str:
    """`cell_text` that no spreadsheet takes for a formula: such a text gets an apostrophe in front."""
    text = cell_text(value)
    if isinstance(value, str) and _FORMULA.match(text) and not _TELEPHONE_NUMBER.fullmatch(text):
        return "'" + text
    return text
