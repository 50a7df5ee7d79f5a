-- Derived tables that have rows of these hours that are neither committed nor of the run that asks.
SELECT table
FROM (
  SELECT 'calls_by_generation' AS table, hour, generation FROM calls_by_generation
  UNION ALL SELECT 'cost_hourly_by_generation', hour, generation FROM cost_hourly_by_generation
  UNION ALL SELECT 'replica_hourly_by_generation', hour, generation FROM replica_hourly_by_generation
  UNION ALL SELECT 'gpu_hourly_by_generation', hour, generation FROM gpu_hourly_by_generation
)
WHERE hour >= {first:DateTime64(0)} AND hour <= {last:DateTime64(0)} AND generation < {generation:UInt64}
  AND (hour, generation) NOT IN (SELECT hour, max(generation) FROM hour_runs GROUP BY hour)
GROUP BY table
