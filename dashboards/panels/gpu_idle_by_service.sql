-- Dollars paid for idle replicas in each interval, by service.
SELECT
  toDateTime64(toStartOfInterval(hour, toIntervalSecond(greatest({step_seconds:UInt32}, 3600))), 0, 'UTC') AS time,
  if(service = '', '(none)', service) AS series,
  sum(idle_usd) AS value
FROM replica_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
GROUP BY time, series
ORDER BY time, series
