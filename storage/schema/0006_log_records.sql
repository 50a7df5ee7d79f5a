-- Log records, kept only where the collector is told to. One row is one OTLP LogRecord; `time` is that of
-- observation, else of receipt, where the sender gave none. body: text as it is, everything else as JSON. Ids are
-- lower-case hex, '' where there is none. A record has no id of its own, so everything that was sent is its identity, and so is the
-- tenant: nobody replaces another's.
CREATE TABLE IF NOT EXISTS log_records (
  time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  observed_time Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
  service LowCardinality(String),
  resource LowCardinality(String),
  tenant LowCardinality(String),
  scope LowCardinality(String),
  severity_number Int32 CODEC(ZSTD(1)),
  severity_text LowCardinality(String),
  event_name LowCardinality(String),
  body String CODEC(ZSTD(1)),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  trace_id String CODEC(ZSTD(1)),
  span_id String CODEC(ZSTD(1)),
  flags UInt32 CODEC(ZSTD(1)),
  record UInt64 MATERIALIZED cityHash64(tuple(observed_time), resource, scope, severity_number, severity_text, event_name, body, arraySort(arrayZip(mapKeys(attributes), mapValues(attributes))), flags) CODEC(ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  INDEX trace trace_id TYPE bloom_filter(0.001) GRANULARITY 4
) ENGINE = ReplacingMergeTree(received_at)
PARTITION BY toYYYYMM(time)
ORDER BY (service, toStartOfHour(time), time, trace_id, span_id, tenant, record)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;
