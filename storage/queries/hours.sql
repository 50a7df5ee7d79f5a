-- Every hour that rows came for: how many batches touched it, and of its last run, if there was one, how many it
-- had seen and under which ruleset.
SELECT
  hour, sum(seen_now) AS batches, sum(seen_then) AS batches_seen,
  CAST(max(committed) AS Bool) AS has_run, max(rules) AS ruleset
FROM (
  SELECT hour, batches AS seen_now, toUInt64(0) AS seen_then, 0 AS committed, '' AS rules FROM dirty_hours
  UNION ALL
  SELECT hour, toUInt64(0), batches_seen, 1, toString(ruleset) FROM hour_runs FINAL
)
GROUP BY hour
ORDER BY hour
