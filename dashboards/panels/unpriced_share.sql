-- Share of billed calls without a known price; NULL without calls.
SELECT sum(unpriced_calls) / nullIf(sum(calls), 0) AS value
FROM cost_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
