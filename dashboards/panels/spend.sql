-- Dollars of all priced calls; NULL without facts and where no call has a price: unknown is not zero.
SELECT if(count() = 0 OR (sum(calls) > 0 AND sum(unpriced_calls) = sum(calls)), NULL, sum(cost_usd)) AS value
FROM cost_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
