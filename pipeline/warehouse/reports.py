"""Every report by its name: its columns, its SQL for a filter, its chart and its view. Pure."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.warehouse.chosen import (
    EVERYTHING,
    Chosen,
    calls_condition,
    months_condition,
    timed_condition,
    users_condition,
)
from pipeline.warehouse.store import literal
from pipeline.warehouse.usage import ReportColumn, select_list, usage_columns, usage_sql, usage_totals_sql

__all__ = ["REPORTS", "Chart", "Report", "ReportColumn", "chart_sql", "report_sql", "view_sql"]


class Chart(NamedTuple):
    """One picture of a report: `value` summed for each `label`, in the currency or unit of the expression `unit`.
    `is_timeline`: the labels are days or months, and the title needs to be followed by which; else the largest first.
    """

    title: str
    label: str
    value: str
    unit: str
    is_timeline: bool


class Report(NamedTuple):
    """`name`: of the command; its view has `_` for `-`. `options`: which of user, capability and country it takes."""

    name: str
    title: str
    about: str
    columns: tuple[ReportColumn, ...]
    template: str
    options: frozenset[str]
    chart: Chart

    @property
    def view(self) -> str:
        return "usage_report" if self.name == "usage" else self.name.replace("-", "_")

    @property
    def is_of_whole_months(self) -> bool:
        """Whether a period of days shows all of the months that it touches."""
        return "{months}" in self.template


def _text(*names: str) -> tuple[ReportColumn, ...]:
    return tuple(ReportColumn(name, "text", name) for name in names)


def _whole(*names: str) -> tuple[ReportColumn, ...]:
    return tuple(ReportColumn(name, "whole", name) for name in names)


def _money(*names: str) -> tuple[ReportColumn, ...]:
    """Of the sums `name`_micros."""
    return tuple(ReportColumn(name, "money", f"toDecimal64('0.000001', 6) * {name}_micros") for name in names)


# Not under its own name: 18.16 would take the sum for the column that it sums.
_POSTPAID = ReportColumn("postpaid", "money", "toDecimal64('0.000001', 6) * later_micros")


def _person(user_id: str) -> str:
    """Whom a chart shows. Two users may have one name, and some have none."""
    named = f"concat(display_name, ' (', substring({user_id}, 1, 8), ')')"
    return f"multiIf(upn != '', upn, display_name != '', {named}, {user_id} != '', {user_id}, 'no user')"


_MONTH = ReportColumn("month", "month", "month")
# The number of a day is the same in every time zone that a server may be set to.
_DAY_OF_CALL = "toDate(toUInt16(intDiv(start_time_ms, 86400000)))"
_MONTH_OF_CALL = f"substring(toString({_DAY_OF_CALL}), 1, 7)"
_PEOPLE = "SELECT tenant_id, user_id, upn, display_name FROM users FINAL WHERE {users}"
_CALL_OPTIONS = frozenset({"user", "capability", "country"})

_DAYS = f"""
    SELECT
        {_DAY_OF_CALL} AS day, tenant_id, destination_country, destination_name AS destination, capability, outcome,
        currency, count() AS calls, sum(duration_s) AS connected_seconds, sum(billable_minutes) AS minutes,
        sum(pool_minutes) AS minutes_from_pools, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE {{calls}}
    GROUP BY day, tenant_id, destination_country, destination, capability, outcome, currency
"""

_DAILY = f"""SELECT
    {{columns}}
FROM ({_DAYS}) AS days
ORDER BY day, tenant_id, destination, destination_country, capability, outcome, currency"""

# 18.16 reads FINAL in one thread for each SELECT. A call's day lies in one month, and the name of a part begins with
# its month, so the months can be shared out: each part is read by one of the SELECTs only. The day comes from a column
# that FINAL reads anyway: one less to read for every row. `_DAYS` itself is the view's text, which is applied already.
_SHARES = 4
_SHARED_DAYS = "    UNION ALL".join(
    _DAYS.replace(_DAY_OF_CALL, "toDate(toUInt16(intDiv(toUInt32(start_time), 86400)))").replace(
        "{calls}", f"{{calls}} AND toUInt32(substring(_part, 1, 6)) % {_SHARES} = {share}"
    )
    for share in range(_SHARES)
)

_TOP = f"""SELECT
    {{columns}}
FROM (
    SELECT
        tenant_id, {_MONTH_OF_CALL} AS month, destination_country, destination_name AS destination, currency,
        count() AS calls, sum(billable_minutes) AS minutes, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE {{calls}} AND direction = 'outbound'
    GROUP BY tenant_id, month, destination_country, destination, currency
) AS destinations
ORDER BY charge_micros DESC, minutes DESC, tenant_id, month, destination, destination_country, currency"""

_SPEND = f"""SELECT
    {{columns}}
FROM (
    SELECT
        tenant_id, {_MONTH_OF_CALL} AS month, user_id, currency, count() AS calls, sum(billable_minutes) AS minutes,
        sum(pool_minutes) AS minutes_from_pools, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros) AS from_credits_micros, sum(postpaid_micros) AS later_micros,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE {{calls}}
    GROUP BY tenant_id, month, user_id, currency
) AS spent
ANY LEFT JOIN (
    {_PEOPLE}
) AS people USING (tenant_id, user_id)
ORDER BY tenant_id, month, charge_micros DESC, minutes DESC, user_id, currency"""

_DIAL_OUT = _SPEND.replace("WHERE {calls}", "WHERE {calls} AND call_type = 'conf_out'").replace(
    "sum(debited_micros) AS from_credits_micros", "sum(debited_micros) AS credits_spent_micros"
)

_UNPAID = f"""SELECT
    {{columns}}
FROM (
    SELECT
        tenant_id, {_MONTH_OF_CALL} AS month, outcome,
        if(outcome = 'free_call', 'no_rate_for_destination', reason) AS why, currency,
        count() AS calls, sum(billable_minutes) AS minutes, sum(price_micros) AS lost_micros
    FROM rated_calls FINAL
    WHERE {{calls}} AND outcome IN ('unpaid', 'free_call')
    GROUP BY tenant_id, month, outcome, why, currency
) AS leaks
ORDER BY tenant_id, month, lost_micros DESC, minutes DESC, outcome, why, currency"""

# A pool's id is <tenant>:<group>:<sku>:<scope>:<month>, or <tenant>:conferencing:<sku>:dial_out:<month>. Its size comes
# from the account as it was at the end of that month (the latest state known by then).
_POOLS = f"""SELECT
    {{columns}}
FROM (
    SELECT
        tenant_id, month, country, licence, scope, max(capability_code) AS capability,
        sum(size_minutes) AS total_minutes, sum(drawn_minutes) AS used_minutes
    FROM (
        SELECT
            tenant_id, month, pool_country AS country, pool_sku AS licence, pool_scope AS scope,
            pool_capability AS capability_code, pool_minutes AS size_minutes, toInt64(0) AS drawn_minutes
        FROM (
            SELECT
                tenant_id, month, argMax(countries, known_in) AS countries, argMax(skus, known_in) AS skus,
                argMax(scopes, known_in) AS scopes, argMax(capabilities, known_in) AS capabilities,
                argMax(minutes, known_in) AS minutes
            FROM (
                SELECT DISTINCT tenant_id, {_MONTH_OF_CALL} AS month FROM rated_calls FINAL WHERE {{months_of_calls}}
                UNION ALL
                SELECT DISTINCT tenant_id, month FROM accounts FINAL WHERE {{users}}
                UNION ALL
                SELECT DISTINCT tenant_id, substring(toString(today()), 1, 7) AS month FROM accounts FINAL
                WHERE {{users}}
            ) AS wanted
            ALL INNER JOIN (
                SELECT
                    tenant_id, month AS known_in, `pools.country` AS countries, `pools.sku` AS skus,
                    `pools.scope` AS scopes, `pools.capability` AS capabilities, `pools.minutes` AS minutes
                FROM accounts FINAL
                WHERE {{users}}
            ) AS states USING (tenant_id)
            WHERE known_in <= month
            GROUP BY tenant_id, month
        ) AS months
        ARRAY JOIN
            countries AS pool_country, skus AS pool_sku, scopes AS pool_scope, capabilities AS pool_capability,
            minutes AS pool_minutes
        UNION ALL
        SELECT
            tenant_id, parts[4] AS month, if(parts[1] = 'conferencing', '', parts[1]) AS country, parts[2] AS licence,
            parts[3] AS scope, max(capability) AS capability_code, toInt64(0) AS size_minutes,
            toInt64(sum(pool_minutes)) AS drawn_minutes
        FROM (
            SELECT
                tenant_id, splitByChar(':', substring(pool_id, length(tenant_id) + 2)) AS parts,
                if(outcome = 'included', capability, '') AS capability, pool_minutes
            FROM rated_calls FINAL
            WHERE {{months_of_calls}} AND pool_id != ''
        ) AS drawn
        GROUP BY tenant_id, month, country, licence, scope
    ) AS pieces
    WHERE {{months}}
    GROUP BY tenant_id, month, country, licence, scope
) AS pools
WHERE {{pools}} AND (total_minutes > 0 OR used_minutes > 0)
ORDER BY tenant_id, month, country, licence, scope"""

_STATEMENT = """SELECT
    {columns}
FROM (
    SELECT
        tenant_id, currency, month_sums.1 AS month, closing_micros - month_sums.7 AS opening_micros,
        month_sums.2 AS funded_micros, month_sums.3 AS refunded_micros, month_sums.4 AS used_micros,
        month_sums.5 AS forfeited_micros, closing_micros, month_sums.6 AS postpaid_micros
    FROM (
        SELECT
            tenant_id, currency,
            arraySort(groupArray((month, funded, refunded, used, forfeited, postpaid, net))) AS sums,
            arrayCumSum(arrayMap(m -> m.7, sums)) AS closings
        FROM (
            SELECT
                tenant_id, currency,
                substring(toString(toDate(toUInt16(intDiv(occurred_at_ms, 86400000)))), 1, 7) AS month,
                sumIf(amount_micros, kind = 'funding' AND account LIKE 'credits:%') AS funded,
                sumIf(amount_micros, kind = 'refund' AND account LIKE 'credits:%') AS refunded,
                -sumIf(amount_micros, kind = 'usage' AND account LIKE 'credits:%') AS used,
                -sumIf(amount_micros, kind = 'forfeiture' AND account LIKE 'credits:%') AS forfeited,
                -sumIf(amount_micros, account = 'receivable:postpaid') AS postpaid,
                sumIf(amount_micros, account LIKE 'credits:%') AS net
            FROM ledger_entries FINAL
            WHERE {users}
            GROUP BY tenant_id, currency, month
        ) AS months
        GROUP BY tenant_id, currency
    ) AS accounts
    ARRAY JOIN sums AS month_sums, closings AS closing_micros
) AS statement
WHERE {months}
ORDER BY tenant_id, currency, month"""

# Both sides by the instant at which the ledger applied the call.
_RECONCILIATION = """SELECT
    {columns}
FROM (
    SELECT
        tenant_id, substring(toString(toDate(toUInt16(intDiv(applied_at_ms, 86400000)))), 1, 7) AS month, currency,
        sum(is_call) AS calls, sum(debited) AS debited_by_calls_micros, sum(entered) AS debited_by_ledger_micros,
        sum(deferred) AS postpaid_by_calls_micros, sum(receivable) AS postpaid_by_ledger_micros,
        sum(posted) AS sum_of_postings_micros
    FROM (
        SELECT
            tenant_id, received_at_ms AS applied_at_ms, currency, toInt64(outcome != 'duplicate') AS is_call,
            debited_micros AS debited, toInt64(0) AS entered, postpaid_micros AS deferred, toInt64(0) AS receivable,
            toInt64(0) AS posted
        FROM rated_calls FINAL
        WHERE {applied}
        UNION ALL
        SELECT
            tenant_id, occurred_at_ms AS applied_at_ms, currency, toInt64(0) AS is_call, toInt64(0) AS debited,
            if(kind = 'usage' AND account LIKE 'credits:%', -amount_micros, toInt64(0)) AS entered,
            toInt64(0) AS deferred,
            if(kind = 'postpaid_usage' AND account = 'receivable:postpaid', -amount_micros, toInt64(0)) AS receivable,
            amount_micros AS posted
        FROM ledger_entries FINAL
        WHERE {entries}
    ) AS sides
    GROUP BY tenant_id, month, currency
) AS books
ORDER BY tenant_id, month, currency"""

_CALL_SUMS = _whole("minutes_from_pools", "minutes_charged")

REPORTS: dict[str, Report] = {
    report.name: report
    for report in (
        Report(
            "usage",
            "PSTN usage",
            "The PSTN usage report, with the names that administrators know from their export.",
            usage_columns(is_masking=False),
            "",
            _CALL_OPTIONS,
            Chart("Charge", f"toString({_DAY_OF_CALL})", "debited_micros + postpaid_micros", "currency", True),
        ),
        Report(
            "minute-pools",
            "Minute pools",
            "Minutes of the licences by month and country: total, used and left.",
            (
                *_text("tenant_id"),
                _MONTH,
                *_text("country", "licence", "capability", "scope"),
                *_whole("total_minutes", "used_minutes"),
                ReportColumn(
                    "left_minutes", "whole", "if(total_minutes > used_minutes, total_minutes - used_minutes, 0)"
                ),
            ),
            _POOLS,
            frozenset({"capability", "country"}),
            Chart(
                "Minutes used",
                "concat(country, if(country = '', '', ' '), licence, ' ', scope)",
                "used_minutes",
                "'minutes'",
                False,
            ),
        ),
        Report(
            "dial-out-usage",
            "Audio conferencing dial-out",
            "Dial-out of meetings by organiser: minutes and credits spent.",
            (
                *_text("tenant_id"),
                _MONTH,
                ReportColumn("organiser_id", "text", "user_id"),
                *_text("upn", "display_name"),
                *_whole("calls", "minutes"),
                *_CALL_SUMS,
                *_money("credits_spent"),
                _POSTPAID,
                *_text("currency"),
            ),
            _DIAL_OUT,
            _CALL_OPTIONS,
            Chart("Credits spent", _person("organiser_id"), "credits_spent", "currency", False),
        ),
        Report(
            "credit-statement",
            "Communications Credits",
            "Prepaid credits by month: opening balance, what came and went, closing balance.",
            (
                *_text("tenant_id"),
                _MONTH,
                *_money("opening", "funded", "refunded", "used", "forfeited", "closing", "postpaid"),
                *_text("currency"),
            ),
            _STATEMENT,
            frozenset(),
            Chart("Credits used", "month", "used", "currency", True),
        ),
        Report(
            "daily-usage",
            "Daily usage",
            "Calls, minutes and charge by day, destination, capability and outcome.",
            (
                ReportColumn("day", "day", "day"),
                *_text("tenant_id", "destination_country", "destination", "capability", "outcome"),
                *_whole("calls", "connected_seconds", "minutes"),
                *_CALL_SUMS,
                *_money("charge"),
                *_text("currency"),
            ),
            _DAILY,
            _CALL_OPTIONS,
            Chart("Charge", "toString(day)", "charge", "currency", True),
        ),
        Report(
            "unpaid-calls",
            "Unpaid calls",
            "Calls that nobody paid for, by reason: how many, and what they would have cost.",
            (
                *_text("tenant_id"),
                _MONTH,
                *_text("outcome"),
                ReportColumn("reason", "text", "why"),
                *_whole("calls", "minutes"),
                *_money("lost"),
                *_text("currency"),
            ),
            _UNPAID,
            _CALL_OPTIONS,
            Chart("Unpaid calls", "reason", "calls", "'calls'", False),
        ),
        Report(
            "top-destinations",
            "Top destinations",
            "Where calls go to, the dearest first.",
            (
                *_text("tenant_id"),
                _MONTH,
                *_text("destination_country", "destination"),
                *_whole("calls", "minutes", "minutes_charged"),
                *_money("charge"),
                *_text("currency"),
            ),
            _TOP,
            _CALL_OPTIONS,
            Chart("Charge by destination", "destination", "charge", "currency", False),
        ),
        Report(
            "spend-by-user",
            "Spend by user",
            "What each user's calls took, by month.",
            (
                *_text("tenant_id"),
                _MONTH,
                *_text("user_id", "upn", "display_name"),
                *_whole("calls", "minutes"),
                *_CALL_SUMS,
                *_money("from_credits"),
                _POSTPAID,
                *_money("charge"),
                *_text("currency"),
            ),
            _SPEND,
            _CALL_OPTIONS,
            Chart("Charge by user", _person("user_id"), "charge", "currency", False),
        ),
        Report(
            "reconciliation",
            "Calls against ledger",
            "Rated calls and ledger entries by month, side by side; pstn reconcile asks the topics too.",
            (
                *_text("tenant_id"),
                _MONTH,
                *_whole("calls"),
                *_money("debited_by_calls", "debited_by_ledger", "postpaid_by_calls", "postpaid_by_ledger"),
                *_money("sum_of_postings"),
                ReportColumn(
                    "agrees",
                    "text",
                    "if(debited_by_calls_micros = debited_by_ledger_micros AND postpaid_by_calls_micros ="
                    " postpaid_by_ledger_micros AND sum_of_postings_micros = 0, 'yes', 'no')",
                ),
                *_text("currency"),
            ),
            _RECONCILIATION,
            frozenset(),
            Chart("Debits of calls", "month", "debited_by_calls", "currency", True),
        ),
    )
}


def report_sql(report: Report, chosen: Chosen = EVERYTHING, *, is_masking: bool = False) -> str:
    """The report's rows for a filter. `is_masking` concerns the usage report alone: no other has telephone numbers."""
    if report.name == "usage":
        return usage_sql(chosen, is_masking=is_masking)
    is_of_everybody = chosen.tenant_id is None
    return _filled(report, report.template.replace(_DAYS, _SHARED_DAYS) if is_of_everybody else report.template, chosen)


def _filled(report: Report, template: str, chosen: Chosen) -> str:
    return template.format(
        columns=select_list(report.columns),
        calls=calls_condition(chosen),
        users=users_condition(chosen),
        months=months_condition(chosen, "month"),
        months_of_calls=calls_condition(_whole_months(chosen)),
        applied=timed_condition(chosen, "received_at"),
        entries=timed_condition(chosen, "occurred_at"),
        pools=_pools_condition(chosen),
    )


def view_sql(report: Report) -> str:
    """The view that shows the whole report, numbers not masked: analysts have the tables anyway."""
    whole = usage_sql(EVERYTHING) if report.name == "usage" else _filled(report, report.template, EVERYTHING)
    return f"CREATE VIEW IF NOT EXISTS {report.view} AS\n{whole}"


def chart_sql(report: Report, chosen: Chosen) -> str:
    """Rows of label, unit, sum and number of rows for the report's chart."""
    chart = report.chart
    order = "label, unit" if chart.is_timeline else "total DESC, label, unit"
    if report.name == "usage":
        rows, value = f"rated_calls FINAL WHERE {calls_condition(chosen)}", _money_of(chart.value)
    else:
        rows, value = f"(\n{report_sql(report, chosen)}\n) AS report", f"sum({chart.value})"
    return (
        f"SELECT {chart.label} AS label, {chart.unit} AS unit, {value} AS total, count()\nFROM {rows}\n"
        f"GROUP BY label, unit ORDER BY {order}"
    )


def totals_sql(report: Report, chosen: Chosen) -> str:
    """For each currency (`''`: none): the number of rows, then the sum of each whole and money column, in order."""
    if report.name == "usage":
        return usage_totals_sql(chosen)
    currency = "currency" if any(column.name == "currency" for column in report.columns) else "''"
    sums = ", ".join(f"sum({column.name})" for column in summed_columns(report))
    return (
        f"SELECT {currency} AS unit, count(), {sums} FROM (\n{report_sql(report, chosen)}\n) AS report"
        " GROUP BY unit ORDER BY unit"
    )


def summed_columns(report: Report) -> tuple[ReportColumn, ...]:
    """Those whose sum over rows means something: a balance's does not."""
    return tuple(
        column
        for column in report.columns
        if column.kind in ("whole", "money", "cents") and column.name not in ("opening", "closing")
    )


def _money_of(micros: str) -> str:
    return f"toDecimal64('0.000001', 6) * sum({micros})"


def _whole_months(chosen: Chosen) -> Chosen:
    """Pools last whole months, so the days inside do not matter; neither do the filters of single calls."""
    return Chosen(tenant_id=chosen.tenant_id)


def _pools_condition(chosen: Chosen) -> str:
    conditions = ["1"]
    if chosen.capability is not None:
        conditions.append(f"capability = {literal(chosen.capability)}")
    if chosen.country is not None:
        country = literal(chosen.country)
        conditions.append(f"has(splitByChar('+', country), {country})")
    return " AND ".join(conditions)
