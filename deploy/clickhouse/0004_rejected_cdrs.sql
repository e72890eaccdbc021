-- One row for each call record or command that was refused, and for each result that the loader could not read.
-- Of the latter, the source is the place of the result itself, and ledger_epoch and applied_seq are 0.
CREATE TABLE IF NOT EXISTS rejected_cdrs (
    tenant_id String COMMENT 'the organisation; empty: not readable',
    reason String COMMENT 'why, of a closed list: payload_not_avro, number_invalid, tenant_unknown and so on',
    detail String COMMENT 'why, as a sentence for a person',
    usage_id String COMMENT 'call that was refused; empty: none or not readable',
    command_id String COMMENT 'command that was refused; empty: none or not readable',
    received_at_ms Int64 COMMENT 'when the broker took the record, milliseconds since 1970 in UTC',
    received_at DateTime('UTC') DEFAULT toDateTime(intDiv(received_at_ms, 1000), 'UTC') COMMENT 'the same, to the second',
    original String COMMENT 'the record as it came: bytes',
    source_topic String COMMENT 'topic of the record',
    source_partition Int32 COMMENT 'partition of the record',
    source_offset Int64 COMMENT 'offset of the record',
    ledger_epoch Int64 COMMENT 'tells a rebuilt ledger from its predecessor, milliseconds since 1970',
    applied_seq Int64 COMMENT 'place in the order in which the partition''s ledger applied records'
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (tenant_id, received_at, ledger_epoch, source_partition, applied_seq, source_topic, source_offset);
