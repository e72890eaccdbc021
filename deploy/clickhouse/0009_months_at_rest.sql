-- A month that nothing was added to for a day becomes one part, and FINAL has nothing to do in it: rows that came twice
-- are gone, and reports of everybody take a third less. A late call costs at most one more merge of its month a day.
-- Needs ClickHouse 23.3.
ALTER TABLE rated_calls MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

ALTER TABLE ledger_entries MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

ALTER TABLE account_events MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
