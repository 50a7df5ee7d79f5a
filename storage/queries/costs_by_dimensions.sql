-- Sums of the hourly facts that begin in [since, until), one row per combination of dimensions.
SELECT
  service, service_version, environment, endpoint, tenant, provider, model, model_version, variant, tier,
  sum(requests) AS requests,
  sum(calls) AS calls,
  sum(failed_calls) AS failed_calls,
  sum(unpriced_calls) AS unpriced_calls,
  sum(response_cache_hits) AS response_cache_hits,
  sum(unpriced_cache_hits) AS unpriced_cache_hits,
  sum(input_tokens) AS input_tokens,
  sum(cache_reporting_input_tokens) AS cache_reporting_input_tokens,
  sum(fresh_input_tokens) AS fresh_input_tokens,
  sum(cache_read_tokens) AS cache_read_tokens,
  sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
  sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
  sum(output_tokens) AS output_tokens,
  sum(reasoning_tokens) AS reasoning_tokens,
  sum(duration_seconds) AS duration_seconds,
  sum(cost_usd) AS cost_usd,
  sum(saved_usd) AS saved_usd
FROM cost_hourly
WHERE hour >= {since:DateTime64(0)} AND hour < {until:DateTime64(6)}
GROUP BY service, service_version, environment, endpoint, tenant, provider, model, model_version, variant, tier
