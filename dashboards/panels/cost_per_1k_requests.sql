-- Dollars for a thousand requests; NULL without requests and where no call has a price. Not by model: a
-- request may call several.
SELECT if(sum(calls) > 0 AND sum(unpriced_calls) = sum(calls), NULL, sum(cost_usd) * 1000 / nullIf(sum(requests), 0)) AS value
FROM cost_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
