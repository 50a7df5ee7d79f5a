-- The end of the last month whose spans or metric points retention dropped; NULL when it has dropped none.
SELECT maxOrNull(until) AS until FROM dropped_partitions WHERE table_name IN ('spans', 'metric_points')
