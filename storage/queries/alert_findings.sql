SELECT
  finding_id, rule, metric, unit, service, environment, endpoint, started_at, last_hour, ended_at,
  expected, actual, impact_usd, drivers, driver_usd, cause, deploy, is_withdrawn
FROM findings FINAL
ORDER BY started_at, finding_id
