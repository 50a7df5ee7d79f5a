-- What the calls that the response cache answered would have cost; NULL without facts and where no answer's
-- worth is known.
SELECT
  if(count() = 0 OR (sum(response_cache_hits) > 0 AND sum(unpriced_cache_hits) = sum(response_cache_hits)),
    NULL, sum(saved_usd)) AS value
FROM cost_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
