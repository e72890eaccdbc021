-- Who the users are, for reports that name them: the latest state of each user in the credit table.
CREATE TABLE IF NOT EXISTS users (
    tenant_id String COMMENT 'the organisation',
    user_id String COMMENT 'the user, as in rated_calls.user_id',
    upn String COMMENT 'sign-in name; empty: none',
    display_name String COMMENT 'name; empty: none',
    country String COMMENT 'the user''s country, ISO 3166 alpha-2; empty: the tenant''s',
    is_resource_account UInt8 COMMENT '1: an attendant or a queue, not a person',
    source_offset UInt64 COMMENT 'offset in the credit table; of two states the larger is the later'
) ENGINE = ReplacingMergeTree(source_offset)
ORDER BY (tenant_id, user_id);
