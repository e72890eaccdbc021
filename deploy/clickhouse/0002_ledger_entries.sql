-- One row for each posting of a ledger entry; the postings of an entry sum to zero.
CREATE TABLE IF NOT EXISTS ledger_entries (
    tenant_id String COMMENT 'the organisation whose books these are',
    entry_id String COMMENT 'identifier of the entry; its postings share it',
    kind String COMMENT 'funding, usage, postpaid_usage, forfeiture or refund',
    occurred_at_ms Int64 COMMENT 'broker''s time of the record that caused the entry, milliseconds since 1970 in UTC',
    occurred_at DateTime('UTC') DEFAULT toDateTime(intDiv(occurred_at_ms, 1000), 'UTC') COMMENT 'the same, to the second',
    currency String COMMENT 'ISO 4217 code of the amount',
    account String COMMENT 'credits:<lot>, credits:overdraft, revenue:usage, receivable:postpaid, payments or revenue:forfeited',
    amount_micros Int64 COMMENT 'millionths of currency; owed to the customer or earned is positive, held or receivable is negative',
    usage_id String COMMENT 'call that caused the entry; empty: none',
    lot_id String COMMENT 'lot that the entry is about; empty: none',
    recharge_id String COMMENT 'recharge that the entry is about; empty: none',
    source_topic String COMMENT 'topic of the record that caused the entry',
    source_partition Int32 COMMENT 'partition of that record',
    source_offset Int64 COMMENT 'offset of that record',
    ledger_epoch Int64 COMMENT 'tells a rebuilt ledger from its predecessor, milliseconds since 1970',
    applied_seq Int64 COMMENT 'place in the order in which the partition''s ledger applied records',
    entry_index Int32 COMMENT 'which entry of the record, from 0',
    posting_index Int32 COMMENT 'which posting of the entry, from 0'
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant_id, occurred_at, ledger_epoch, source_partition, applied_seq, entry_index, posting_index);
