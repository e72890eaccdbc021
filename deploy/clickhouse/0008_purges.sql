-- Whose personal data is to be gone: `pstn purge` writes a row, and every later run does it again, since the topics may
-- bring such data back for as long as they keep it.
CREATE TABLE IF NOT EXISTS purges (
    tenant_id String COMMENT 'the organisation',
    user_id String COMMENT 'the user; empty: everybody of the organisation',
    before_ms Int64 COMMENT 'calls that began and records that came before this lose numbers and names, milliseconds since 1970 in UTC',
    asked_at DateTime('UTC') DEFAULT toDateTime(intDiv(before_ms, 1000), 'UTC') COMMENT 'the same, to the second'
) ENGINE = ReplacingMergeTree(before_ms)
ORDER BY (tenant_id, user_id);
