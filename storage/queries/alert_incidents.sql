SELECT
  incident_key, sequence, toString(state) AS state, service, environment, endpoint, title, cause, deploy,
  rules, finding_ids, opened_at, resolved_at, impact_usd, drivers, driver_usd, updated_at
FROM incidents FINAL
WHERE empty({states:Array(String)}) OR has({states:Array(String)}, toString(state))
ORDER BY opened_at, incident_key
