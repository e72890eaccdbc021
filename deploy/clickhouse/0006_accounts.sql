-- What an account was set to, one row for each month in which that changed: settings of recharges, and the size of its
-- minute pools with the users and licences of then. The state of a month is that of the latest row up to it.
CREATE TABLE IF NOT EXISTS accounts (
    tenant_id String COMMENT 'the organisation',
    month String COMMENT 'YYYY-MM in which the account was so; of several states the last one',
    country String COMMENT 'country of the organisation, ISO 3166 alpha-2: decides how numbers are masked',
    currency String COMMENT 'ISO 4217 code of the account',
    agreement String COMMENT 'prepaid or postpaid',
    recharge_is_enabled UInt8 COMMENT '1: auto-recharge is on',
    recharge_trigger_micros Int64 COMMENT 'recharge when the balance is below this, millionths of currency',
    recharge_amount_micros Int64 COMMENT 'amount of one recharge, millionths of currency',
    recharge_monthly_budget_micros Nullable(Int64) COMMENT 'most that a month may recharge, millionths of currency; null: no limit',
    `pools.country` Array(String) COMMENT 'country group of each pool, such as DE or US+PR; empty: dial-out of meetings',
    `pools.sku` Array(String) COMMENT 'licence whose minutes they are; the pools columns are Nested',
    `pools.scope` Array(String) COMMENT 'domestic, international or dial_out',
    `pools.capability` Array(String) COMMENT 'code of the licence in reports',
    `pools.minutes` Array(Int64) COMMENT 'size of the pool for the month, in minutes',
    source_offset UInt64 COMMENT 'offset in the credit table; of two states of a month the larger is the later'
) ENGINE = ReplacingMergeTree(source_offset)
ORDER BY (tenant_id, month);
