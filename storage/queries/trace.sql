-- The spans of one trace as they were sent, each once. Duplicates are removed here and not with FINAL, which would
-- read whole ranges of the key instead of the granules that the index on trace_id names.
SELECT
  toUnixTimestamp64Nano(started_at) AS start_ns, duration_ns, end_before_start_ns, trace_id, span_id, parent_span_id,
  trace_state, flags, name, kind, status_code, status_message,
  resource, resource_message, resource_schema_url, scope, scope_schema_url,
  mapKeys(attributes) AS attribute_keys, mapValues(attributes) AS attribute_values, attribute_type_codes,
  events, links, dropped_attributes, dropped_events, dropped_links
FROM spans
WHERE trace_id = toFixedString(unhex({trace_id:String}), 16)
ORDER BY received_at DESC
LIMIT 1 BY service, toStartOfHour(started_at), span_id, tenant
LIMIT {spans_max:UInt32}
