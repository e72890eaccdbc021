-- What analysts read: a view for each report of `pstn report`, made from the same SQL (pipeline/warehouse/reports.py).
-- A filter on a view is slow on old servers, which do not push it down: `pstn report` puts it inside.
CREATE VIEW IF NOT EXISTS usage_report AS
SELECT
    usage_id AS `UsageId`,
    call_id AS `Call ID`,
    conference_id AS `Conference ID`,
    rating_country AS `User Location`,
    if(substring(call_type, 1, 5) = 'ucap_', '', user_id) AS `Microsoft Entra ObjectId`,
    if(substring(call_type, 1, 5) = 'ucap_', '', upn) AS `UPN`,
    if(substring(call_type, 1, 5) = 'ucap_', '', display_name) AS `User Display Name`,
    caller_number AS `Caller ID`,
    call_type AS `Call Type`,
    if(direction = 'inbound', 'in', 'out') AS `Call Direction`,
    number_type AS `Number Type`,
    multiIf(scope = 'domestic', 'Domestic', scope = 'international', 'International', '') AS `Domestic/International`,
    if(direction = 'inbound', '', destination_name) AS `Destination Dialed`,
    callee_number AS `Destination Number`,
    destination_country AS `External Country`,
    concat(formatDateTime(toDateTime(intDiv(start_time_ms, 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + start_time_ms % 1000), 2), '0000Z') AS `Start Time`,
    concat(formatDateTime(toDateTime(intDiv((start_time_ms + 1000 * duration_s), 1000), 'UTC'), '%FT%T'), '.', substring(toString(1000 + (start_time_ms + 1000 * duration_s) % 1000), 2), '0000Z') AS `End Time`,
    duration_s AS `Duration Seconds`,
    toDecimal64('0.01', 2) * intDiv(if(outcome IN ('charged', 'postpaid'), ifNull(connection_fee_micros, 0), 0) + 5000, 10000) AS `Connection Fee`,
    toDecimal64('0.01', 2) * intDiv((debited_micros + postpaid_micros) + 5000, 10000) AS `Charge`,
    currency AS `Currency`,
    capability AS `Capability`,
    operator AS `Operator`,
    duration_source AS `Source of Call Duration`,
    '' AS `Administrative Units`
FROM (
    SELECT
        *
    FROM (
        SELECT tenant_id, usage_id, call_id, conference_id, rating_country, user_id, caller_number, call_type,
        direction, number_type, scope, destination_name, callee_number, destination_country, start_time_ms, duration_s,
        outcome, connection_fee_micros, debited_micros, postpaid_micros, currency, capability, operator,
        duration_source, ledger_epoch, source_partition, applied_seq
        FROM rated_calls FINAL
        WHERE outcome != 'duplicate'
    ) AS calls
    ANY LEFT JOIN (
        SELECT tenant_id, user_id, upn, display_name FROM users FINAL WHERE 1
    ) AS people USING (tenant_id, user_id)
) AS calls
ORDER BY start_time_ms, tenant_id, ledger_epoch, source_partition, applied_seq;

CREATE VIEW IF NOT EXISTS minute_pools AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    country AS `country`,
    licence AS `licence`,
    capability AS `capability`,
    scope AS `scope`,
    total_minutes AS `total_minutes`,
    used_minutes AS `used_minutes`,
    if(total_minutes > used_minutes, total_minutes - used_minutes, 0) AS `left_minutes`
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
                SELECT DISTINCT tenant_id, substring(toString(toDate(toUInt16(intDiv(start_time_ms, 86400000)))), 1, 7) AS month FROM rated_calls FINAL WHERE outcome != 'duplicate'
                UNION ALL
                SELECT DISTINCT tenant_id, month FROM accounts FINAL WHERE 1
                UNION ALL
                SELECT DISTINCT tenant_id, substring(toString(today()), 1, 7) AS month FROM accounts FINAL
                WHERE 1
            ) AS wanted
            ALL INNER JOIN (
                SELECT
                    tenant_id, month AS known_in, `pools.country` AS countries, `pools.sku` AS skus,
                    `pools.scope` AS scopes, `pools.capability` AS capabilities, `pools.minutes` AS minutes
                FROM accounts FINAL
                WHERE 1
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
            WHERE outcome != 'duplicate' AND pool_id != ''
        ) AS drawn
        GROUP BY tenant_id, month, country, licence, scope
    ) AS pieces
    WHERE 1
    GROUP BY tenant_id, month, country, licence, scope
) AS pools
WHERE 1 AND (total_minutes > 0 OR used_minutes > 0)
ORDER BY tenant_id, month, country, licence, scope;

CREATE VIEW IF NOT EXISTS dial_out_usage AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    user_id AS `organiser_id`,
    upn AS `upn`,
    display_name AS `display_name`,
    calls AS `calls`,
    minutes AS `minutes`,
    minutes_from_pools AS `minutes_from_pools`,
    minutes_charged AS `minutes_charged`,
    toDecimal64('0.000001', 6) * credits_spent_micros AS `credits_spent`,
    toDecimal64('0.000001', 6) * later_micros AS `postpaid`,
    currency AS `currency`
FROM (
    SELECT
        tenant_id, substring(toString(toDate(toUInt16(intDiv(start_time_ms, 86400000)))), 1, 7) AS month, user_id, currency, count() AS calls, sum(billable_minutes) AS minutes,
        sum(pool_minutes) AS minutes_from_pools, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros) AS credits_spent_micros, sum(postpaid_micros) AS later_micros,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE outcome != 'duplicate' AND call_type = 'conf_out'
    GROUP BY tenant_id, month, user_id, currency
) AS spent
ANY LEFT JOIN (
    SELECT tenant_id, user_id, upn, display_name FROM users FINAL WHERE 1
) AS people USING (tenant_id, user_id)
ORDER BY tenant_id, month, charge_micros DESC, minutes DESC, user_id, currency;

CREATE VIEW IF NOT EXISTS credit_statement AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    toDecimal64('0.000001', 6) * opening_micros AS `opening`,
    toDecimal64('0.000001', 6) * funded_micros AS `funded`,
    toDecimal64('0.000001', 6) * refunded_micros AS `refunded`,
    toDecimal64('0.000001', 6) * used_micros AS `used`,
    toDecimal64('0.000001', 6) * forfeited_micros AS `forfeited`,
    toDecimal64('0.000001', 6) * closing_micros AS `closing`,
    toDecimal64('0.000001', 6) * postpaid_micros AS `postpaid`,
    currency AS `currency`
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
            WHERE 1
            GROUP BY tenant_id, currency, month
        ) AS months
        GROUP BY tenant_id, currency
    ) AS accounts
    ARRAY JOIN sums AS month_sums, closings AS closing_micros
) AS statement
WHERE 1
ORDER BY tenant_id, currency, month;

CREATE VIEW IF NOT EXISTS daily_usage AS
SELECT
    day AS `day`,
    tenant_id AS `tenant_id`,
    destination_country AS `destination_country`,
    destination AS `destination`,
    capability AS `capability`,
    outcome AS `outcome`,
    calls AS `calls`,
    connected_seconds AS `connected_seconds`,
    minutes AS `minutes`,
    minutes_from_pools AS `minutes_from_pools`,
    minutes_charged AS `minutes_charged`,
    toDecimal64('0.000001', 6) * charge_micros AS `charge`,
    currency AS `currency`
FROM (
    SELECT
        toDate(toUInt16(intDiv(start_time_ms, 86400000))) AS day, tenant_id, destination_country, destination_name AS destination, capability, outcome,
        currency, count() AS calls, sum(duration_s) AS connected_seconds, sum(billable_minutes) AS minutes,
        sum(pool_minutes) AS minutes_from_pools, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE outcome != 'duplicate'
    GROUP BY day, tenant_id, destination_country, destination, capability, outcome, currency
) AS days
ORDER BY day, tenant_id, destination, destination_country, capability, outcome, currency;

CREATE VIEW IF NOT EXISTS unpaid_calls AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    outcome AS `outcome`,
    why AS `reason`,
    calls AS `calls`,
    minutes AS `minutes`,
    toDecimal64('0.000001', 6) * lost_micros AS `lost`,
    currency AS `currency`
FROM (
    SELECT
        tenant_id, substring(toString(toDate(toUInt16(intDiv(start_time_ms, 86400000)))), 1, 7) AS month, outcome,
        if(outcome = 'free_call', 'no_rate_for_destination', reason) AS why, currency,
        count() AS calls, sum(billable_minutes) AS minutes, sum(price_micros) AS lost_micros
    FROM rated_calls FINAL
    WHERE outcome != 'duplicate' AND outcome IN ('unpaid', 'free_call')
    GROUP BY tenant_id, month, outcome, why, currency
) AS leaks
ORDER BY tenant_id, month, lost_micros DESC, minutes DESC, outcome, why, currency;

CREATE VIEW IF NOT EXISTS top_destinations AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    destination_country AS `destination_country`,
    destination AS `destination`,
    calls AS `calls`,
    minutes AS `minutes`,
    minutes_charged AS `minutes_charged`,
    toDecimal64('0.000001', 6) * charge_micros AS `charge`,
    currency AS `currency`
FROM (
    SELECT
        tenant_id, substring(toString(toDate(toUInt16(intDiv(start_time_ms, 86400000)))), 1, 7) AS month, destination_country, destination_name AS destination, currency,
        count() AS calls, sum(billable_minutes) AS minutes, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE outcome != 'duplicate' AND direction = 'outbound'
    GROUP BY tenant_id, month, destination_country, destination, currency
) AS destinations
ORDER BY charge_micros DESC, minutes DESC, tenant_id, month, destination, destination_country, currency;

CREATE VIEW IF NOT EXISTS spend_by_user AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    user_id AS `user_id`,
    upn AS `upn`,
    display_name AS `display_name`,
    calls AS `calls`,
    minutes AS `minutes`,
    minutes_from_pools AS `minutes_from_pools`,
    minutes_charged AS `minutes_charged`,
    toDecimal64('0.000001', 6) * from_credits_micros AS `from_credits`,
    toDecimal64('0.000001', 6) * later_micros AS `postpaid`,
    toDecimal64('0.000001', 6) * charge_micros AS `charge`,
    currency AS `currency`
FROM (
    SELECT
        tenant_id, substring(toString(toDate(toUInt16(intDiv(start_time_ms, 86400000)))), 1, 7) AS month, user_id, currency, count() AS calls, sum(billable_minutes) AS minutes,
        sum(pool_minutes) AS minutes_from_pools, sum(charged_minutes) AS minutes_charged,
        sum(debited_micros) AS from_credits_micros, sum(postpaid_micros) AS later_micros,
        sum(debited_micros + postpaid_micros) AS charge_micros
    FROM rated_calls FINAL
    WHERE outcome != 'duplicate'
    GROUP BY tenant_id, month, user_id, currency
) AS spent
ANY LEFT JOIN (
    SELECT tenant_id, user_id, upn, display_name FROM users FINAL WHERE 1
) AS people USING (tenant_id, user_id)
ORDER BY tenant_id, month, charge_micros DESC, minutes DESC, user_id, currency;

CREATE VIEW IF NOT EXISTS reconciliation AS
SELECT
    tenant_id AS `tenant_id`,
    month AS `month`,
    calls AS `calls`,
    toDecimal64('0.000001', 6) * debited_by_calls_micros AS `debited_by_calls`,
    toDecimal64('0.000001', 6) * debited_by_ledger_micros AS `debited_by_ledger`,
    toDecimal64('0.000001', 6) * postpaid_by_calls_micros AS `postpaid_by_calls`,
    toDecimal64('0.000001', 6) * postpaid_by_ledger_micros AS `postpaid_by_ledger`,
    toDecimal64('0.000001', 6) * sum_of_postings_micros AS `sum_of_postings`,
    if(debited_by_calls_micros = debited_by_ledger_micros AND postpaid_by_calls_micros = postpaid_by_ledger_micros AND sum_of_postings_micros = 0, 'yes', 'no') AS `agrees`,
    currency AS `currency`
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
        WHERE 1
        UNION ALL
        SELECT
            tenant_id, occurred_at_ms AS applied_at_ms, currency, toInt64(0) AS is_call, toInt64(0) AS debited,
            if(kind = 'usage' AND account LIKE 'credits:%', -amount_micros, toInt64(0)) AS entered,
            toInt64(0) AS deferred,
            if(kind = 'postpaid_usage' AND account = 'receivable:postpaid', -amount_micros, toInt64(0)) AS receivable,
            amount_micros AS posted
        FROM ledger_entries FINAL
        WHERE 1
    ) AS sides
    GROUP BY tenant_id, month, currency
) AS books
ORDER BY tenant_id, month, currency;
