-- Every hour that rows came for, how many batches touched it, and how many its last run had seen.
SELECT hour, sum(seen_now) AS batches, sum(seen_then) AS batches_seen, max(has_run) AS has_run
FROM (
  SELECT hour, batches AS seen_now, toUInt64(0) AS seen_then, toUInt8(0) AS has_run FROM dirty_hours
  UNION ALL
  SELECT hour, toUInt64(0), batches_seen, toUInt8(1) FROM hour_runs FINAL
)
GROUP BY hour
ORDER BY hour
