-- Which months retention dropped from which table, written down before they are dropped: hours that can no longer
-- be computed from what came keep the dollars that they have. month is the
-- partition, such as 202607, and until its end.
CREATE TABLE IF NOT EXISTS dropped_partitions (
  table_name LowCardinality(String),
  month String,
  until DateTime64(0, 'UTC'),
  rows UInt64,
  dropped_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(dropped_at) ORDER BY (table_name, month)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What was derived from a dropped month is the only copy of its dollars.
ALTER TABLE hour_runs MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE calls_by_generation MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE cost_hourly_by_generation MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE replica_hourly_by_generation MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE gpu_hourly_by_generation MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
