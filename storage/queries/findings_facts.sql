-- Hourly facts per series and priced model; versions, tenants and variants are added up. An answer is a
-- model's (a call) or the response cache's (a hit).
SELECT
  hour, service, environment, endpoint, provider, model, tier,
  sum(requests) AS requests, sum(calls) AS calls, sum(unpriced_calls) AS unpriced_calls,
  sum(response_cache_hits) AS response_cache_hits, calls + response_cache_hits AS answers,
  sum(input_tokens) AS input_tokens, sum(cache_reporting_input_tokens) AS cache_reporting_input_tokens,
  sum(fresh_input_tokens) AS fresh_input_tokens,
  sum(cache_read_tokens) AS cache_read_tokens,
  sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens) AS cache_write_tokens,
  sum(output_tokens) AS output_tokens,
  sum(cost_usd) AS cost_usd, sum(cost_fresh_input_usd) AS cost_fresh_input_usd,
  sum(cost_cache_read_usd) AS cost_cache_read_usd, sum(cost_cache_write_usd) AS cost_cache_write_usd,
  sum(cost_output_usd) AS cost_output_usd, sum(cost_gpu_busy_usd) AS cost_gpu_busy_usd
FROM cost_hourly
WHERE hour >= {since:DateTime64(0)} AND hour < {until:DateTime64(0)}
GROUP BY hour, service, environment, endpoint, provider, model, tier
ORDER BY service, environment, endpoint, hour, provider, model, tier
