-- The twenty dearest pairs of endpoint and model. Rates are per call: a request may call several models.
SELECT
  endpoint,
  model,
  if(calls > 0 AND unpriced_calls = calls, NULL, sum(facts.cost_usd)) AS spend_usd,
  spend_usd * 1000 / nullIf(calls, 0) AS cost_per_1k_calls_usd,
  sum(facts.calls) AS calls,
  sum(facts.unpriced_calls) AS unpriced_calls,
  sum(facts.cache_read_tokens) / nullIf(sum(facts.cache_reporting_input_tokens), 0) AS cache_hit_ratio
FROM cost_hourly AS facts
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
GROUP BY endpoint, model
ORDER BY spend_usd DESC NULLS LAST, endpoint, model
LIMIT 20
