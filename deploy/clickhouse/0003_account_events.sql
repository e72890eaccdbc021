-- One row for each notice: recharges, zero balances, pools at 80 and 100 %, lots that expire, and so on.
CREATE TABLE IF NOT EXISTS account_events (
    tenant_id String COMMENT 'the organisation that the notice is about',
    event_id String COMMENT 'identifier of the notice; the same input gives the same',
    user_id String COMMENT 'user that the notice is about; empty: the whole tenant',
    kind String COMMENT 'recharge_requested, balance_zero, pool_exhausted and so on',
    occurred_at_ms Int64 COMMENT 'broker''s time of the record that caused the notice, milliseconds since 1970 in UTC',
    occurred_at DateTime('UTC') DEFAULT toDateTime(intDiv(occurred_at_ms, 1000), 'UTC') COMMENT 'the same, to the second',
    amount_micros Nullable(Int64) COMMENT 'amount that the notice is about, millionths of currency; null: none',
    balance_micros Int64 COMMENT 'balance just after the notice''s own effect, millionths of currency',
    currency String COMMENT 'ISO 4217 code of the amounts',
    `details.name` Array(String) COMMENT 'names of further facts, such as recharge_id; with details.value a Nested column',
    `details.value` Array(String) COMMENT 'values of the facts named in details.name',
    source_topic String COMMENT 'topic of the record that caused the notice',
    source_partition Int32 COMMENT 'partition of that record',
    source_offset Int64 COMMENT 'offset of that record',
    ledger_epoch Int64 COMMENT 'tells a rebuilt ledger from its predecessor, milliseconds since 1970',
    applied_seq Int64 COMMENT 'place in the order in which the partition''s ledger applied records',
    event_index Int32 COMMENT 'which notice of the record, from 0'
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant_id, occurred_at, ledger_epoch, source_partition, applied_seq, event_index);
