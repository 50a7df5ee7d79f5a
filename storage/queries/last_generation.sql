-- The highest generation that any derived row has, finished or not.
SELECT max(generation) AS generation
FROM (
  SELECT max(generation) AS generation FROM hour_runs
  UNION ALL SELECT max(generation) FROM calls_by_generation
  UNION ALL SELECT max(generation) FROM cost_hourly_by_generation
  UNION ALL SELECT max(generation) FROM replica_hourly_by_generation
  UNION ALL SELECT max(generation) FROM gpu_hourly_by_generation
)
