-- Derived tables that have rows of these hours from before the run that is committed.
SELECT DISTINCT table
FROM (
  SELECT 'calls_by_generation' AS table, hour, generation FROM calls_by_generation
  UNION ALL SELECT 'cost_hourly_by_generation', hour, generation FROM cost_hourly_by_generation
  UNION ALL SELECT 'replica_hourly_by_generation', hour, generation FROM replica_hourly_by_generation
  UNION ALL SELECT 'gpu_hourly_by_generation', hour, generation FROM gpu_hourly_by_generation
) AS derived
INNER JOIN (SELECT hour, max(generation) AS committed FROM hour_runs GROUP BY hour) AS runs ON derived.hour = runs.hour
WHERE derived.hour >= {first:DateTime64(0)} AND derived.hour <= {last:DateTime64(0)} AND generation < committed
