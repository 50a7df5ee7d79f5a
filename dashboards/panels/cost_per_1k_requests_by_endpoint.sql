-- Dollars for a thousand requests in each interval, by endpoint. Not by model: a request may call several.
WITH
  facts AS (
    SELECT hour, endpoint, cost_usd, requests, calls, unpriced_calls
    FROM cost_hourly
    WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
      AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
      AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
      AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
  ),
  largest AS (SELECT endpoint FROM facts GROUP BY endpoint ORDER BY sum(cost_usd) DESC, endpoint LIMIT 8)
SELECT
  toDateTime64(toStartOfInterval(hour, toIntervalSecond(greatest({step_seconds:UInt32}, 3600))), 0, 'UTC') AS time,
  multiIf(endpoint NOT IN (SELECT endpoint FROM largest), '(other)', endpoint = '', '(none)', endpoint) AS series,
  if(sum(calls) > 0 AND sum(unpriced_calls) = sum(calls), NULL, sum(cost_usd) * 1000 / nullIf(sum(requests), 0)) AS value
FROM facts
GROUP BY time, series
ORDER BY time, series
