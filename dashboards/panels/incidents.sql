-- Incidents that were open at some time in the range, unresolved ones first.
SELECT
  toString(state) AS state,
  toDateTime64(opened_at, 0, 'UTC') AS opened_at,
  service,
  endpoint,
  title,
  cause,
  deploy,
  impact_usd,
  toDateTime64(resolved_at, 0, 'UTC') AS resolved_at
FROM incidents FINAL
WHERE opened_at < {until:DateTime64(3, 'UTC')}
  AND (resolved_at IS NULL OR resolved_at >= {since:DateTime64(3, 'UTC')})
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
ORDER BY state = 'resolved', opened_at DESC, incident_key
LIMIT 100
