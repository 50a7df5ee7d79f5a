-- Findings that touch the time from `since` on, newest first; open_only leaves closed ones out.
SELECT
  finding_id, rule, metric, unit, service, environment, endpoint, tenant, started_at, last_hour, ended_at,
  expected, actual, impact_usd, drivers, driver_usd, cause, deploy, is_withdrawn, updated_at
FROM findings FINAL
WHERE (ended_at IS NULL OR ended_at >= {since:DateTime64(0)})
  AND (NOT {open_only:Bool} OR ended_at IS NULL)
  AND ({withdrawn_too:Bool} OR NOT is_withdrawn)
ORDER BY started_at DESC, service, environment, endpoint, rule, metric
