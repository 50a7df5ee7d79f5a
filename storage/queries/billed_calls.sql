-- Billed calls of a time range in the order in which they started. An empty filter lets everything through.
SELECT
  provider, model, operation,
  input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
  endpoint, service, tenant, variant, environment, service_version, model_version, tier,
  lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id, response_id,
  started_at, duration_ns / 1e6 AS duration_ms, error_type,
  cost_usd, cost_fresh_input_usd, cost_cache_read_usd, cost_cache_write_usd, cost_output_usd, cost_gpu_busy_usd,
  nullIf(toString(unpriced_reason), '') AS unpriced_reason, price_version, usage_note, possible_duplicate
FROM calls
WHERE billable AND started_at >= {since:DateTime64(9)} AND started_at < {until:DateTime64(9)}
  AND hour > addHours({since:DateTime64(9)}, -1) AND hour < {until:DateTime64(9)}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
  AND (empty({provider:Array(String)}) OR has({provider:Array(String)}, provider))
ORDER BY started_at, trace_id, span_id
LIMIT {limit:UInt64}
