-- What the ledger knows of the calls of one trace, which began in these hours.
SELECT
  lower(hex(span_id)) AS span_id, service, toUnixTimestamp64Nano(started_at) AS start_ns, provider, model, endpoint, tenant, billable, response_cache_hit,
  input_tokens, cache_read_tokens, output_tokens, cost_usd, saved_usd, unpriced_reason
FROM calls
WHERE hour >= {first:DateTime64(0)} AND hour <= {last:DateTime64(0)}
  AND trace_id = toFixedString(unhex({trace_id:String}), 16)
ORDER BY started_at, span_id
