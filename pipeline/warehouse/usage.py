"""The PSTN usage report: the 25 columns of the administrators' export of 2025, as SQL with a place for the filter.

18.16 does not push a filter into a view (7 s instead of 0.04 s), so a report's SELECT is a template; its view is made
from the same one. Every table is read FINAL, and duplicates of calls are left out. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.warehouse.chosen import Chosen, calls_condition, users_condition


class ReportColumn(NamedTuple):
    """A column as readers know it, and the SQL that makes it.

    `kind`: text, whole, money (six decimals), cents (two), time (RFC 3339 text), day (a date) or month (YYYY-MM).
    """

    name: str
    kind: str
    expression: str


def cents(micros: str) -> str:
    """Two decimals, halves up (R45); exact, as a Decimal."""
    return f"toDecimal64('0.01', 2) * intDiv({micros} + 5000, 10000)"


def _iso_time(instant_ms: str) -> str:
    """As the export writes it: seven digits of a second, `Z`. 18.16 has no leftPad, hence 1000 +."""
    second = f"formatDateTime(toDateTime(intDiv({instant_ms}, 1000), 'UTC'), '%FT%T')"
    return f"concat({second}, '.', substring(toString(1000 + {instant_ms} % 1000), 2), '0000Z')"


# Number masking of the outside party by the organisation's country (domain page, section 2): stars at the end.
MASKED_DIGITS = {3: ("BE", "DE", "DK", "ES", "FI", "IT", "NL", "NO", "SE"), 4: ("CH", "FR")}


def _masked(number: str) -> str:
    cases = []
    for digits, countries in MASKED_DIGITS.items():
        listed = ", ".join(f"'{country}'" for country in countries)
        hidden = f"concat(substring({number}, 1, length({number}) - {digits}), '{'*' * digits}')"
        cases.append(f"organisation IN ({listed}), {hidden}")
    # A short number belongs to nobody, and a text that is shorter than its stars holds nothing to hide.
    return f"if(length({number}) <= 6, {number}, multiIf({', '.join(cases)}, {number}))"


# The export leaves the user columns of an attendant's or queue's calls empty, and says where a call went to
# only for calls that go out.
_IS_BOT = "substring(call_type, 1, 5) = 'ucap_'"
_IS_INBOUND = "direction = 'inbound'"
_CALLER = "caller_number"
_CALLEE = "callee_number"

# `Charge` is all that was put on the account, fee included.
_COLUMNS = (
    ReportColumn("UsageId", "text", "usage_id"),
    ReportColumn("Call ID", "text", "call_id"),
    ReportColumn("Conference ID", "text", "conference_id"),
    ReportColumn("User Location", "text", "rating_country"),
    ReportColumn("Microsoft Entra ObjectId", "text", f"if({_IS_BOT}, '', user_id)"),
    ReportColumn("UPN", "text", f"if({_IS_BOT}, '', upn)"),
    ReportColumn("User Display Name", "text", f"if({_IS_BOT}, '', display_name)"),
    ReportColumn("Caller ID", "text", _CALLER),
    ReportColumn("Call Type", "text", "call_type"),
    ReportColumn("Call Direction", "text", f"if({_IS_INBOUND}, 'in', 'out')"),
    ReportColumn("Number Type", "text", "number_type"),
    ReportColumn(
        "Domestic/International",
        "text",
        "multiIf(scope = 'domestic', 'Domestic', scope = 'international', 'International', '')",
    ),
    ReportColumn("Destination Dialed", "text", f"if({_IS_INBOUND}, '', destination_name)"),
    ReportColumn("Destination Number", "text", _CALLEE),
    ReportColumn("External Country", "text", "destination_country"),
    ReportColumn("Start Time", "time", _iso_time("start_time_ms")),
    ReportColumn("End Time", "time", _iso_time("(start_time_ms + 1000 * duration_s)")),
    ReportColumn("Duration Seconds", "whole", "duration_s"),
    # A call that a pool paid in part owes no fee; one that credits do not pay, none either.
    ReportColumn(
        "Connection Fee", "cents", cents("if(outcome IN ('charged', 'postpaid'), ifNull(connection_fee_micros, 0), 0)")
    ),
    ReportColumn("Charge", "cents", cents("(debited_micros + postpaid_micros)")),
    ReportColumn("Currency", "text", "currency"),
    ReportColumn("Capability", "text", "capability"),
    ReportColumn("Operator", "text", "operator"),
    ReportColumn("Source of Call Duration", "text", "duration_source"),
    ReportColumn("Administrative Units", "text", "''"),
)
USAGE_COLUMNS = tuple(column.name for column in _COLUMNS)

_CALL_COLUMNS = """tenant_id, usage_id, call_id, conference_id, rating_country, user_id, caller_number, call_type,
        direction, number_type, scope, destination_name, callee_number, destination_country, start_time_ms, duration_s,
        outcome, connection_fee_micros, debited_micros, postpaid_micros, currency, capability, operator,
        duration_source, ledger_epoch, source_partition, applied_seq"""

_NAMED_CALLS = """SELECT
        *
    FROM (
        SELECT {call_columns}
        FROM rated_calls FINAL
        WHERE {calls}
    ) AS calls
    ANY LEFT JOIN (
        SELECT tenant_id, user_id, upn, display_name FROM users FINAL WHERE {users}
    ) AS people USING (tenant_id, user_id)"""

_OF_ORGANISATIONS = """SELECT
        *
    FROM (
    {named}
    ) AS named
    ANY LEFT JOIN (
        SELECT tenant_id, argMax(country, month) AS organisation FROM accounts FINAL WHERE {users} GROUP BY tenant_id
    ) AS organisations USING (tenant_id)"""

_TEMPLATE = """SELECT
    {columns}
FROM (
    {calls}
) AS calls
ORDER BY start_time_ms, tenant_id, ledger_epoch, source_partition, applied_seq"""

_TOTALS_TEMPLATE = """SELECT
    currency, count(), sum(duration_s), sum(debited_micros + postpaid_micros)
FROM rated_calls FINAL
WHERE {calls}
GROUP BY currency
ORDER BY currency"""


def usage_columns(*, is_masking: bool) -> tuple[ReportColumn, ...]:
    """The 25, in the export's order; with the other party's number masked as its country's law asks, if wished."""
    if not is_masking:
        return _COLUMNS
    shown = {
        _CALLER: f"if({_IS_INBOUND}, {_masked(_CALLER)}, {_CALLER})",
        _CALLEE: f"if({_IS_INBOUND}, {_CALLEE}, {_masked(_CALLEE)})",
    }
    return tuple(column._replace(expression=shown.get(column.expression, column.expression)) for column in _COLUMNS)


def usage_sql(chosen: Chosen, *, is_masking: bool = False) -> str:
    """USAGE_COLUMNS in their order, calls by start."""
    users = users_condition(chosen)
    calls = _NAMED_CALLS.format(call_columns=_CALL_COLUMNS, calls=calls_condition(chosen), users=users)
    if is_masking:
        calls = _OF_ORGANISATIONS.format(named=calls, users=users)
    return _TEMPLATE.format(columns=select_list(usage_columns(is_masking=is_masking)), calls=calls)


def usage_totals_sql(chosen: Chosen) -> str:
    """For each currency: currency, calls, connected seconds, charge in micros."""
    return _TOTALS_TEMPLATE.format(calls=calls_condition(chosen))


def select_list(columns: tuple[ReportColumn, ...]) -> str:
    """The expressions under the columns' names."""
    return ",\n    ".join(f"{column.expression} AS `{column.name}`" for column in columns)
