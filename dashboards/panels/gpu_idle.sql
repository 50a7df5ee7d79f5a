-- Dollars paid for self-hosted replicas while no request ran; NULL without replicas.
SELECT if(count() = 0, NULL, sum(idle_usd)) AS value
FROM replica_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
