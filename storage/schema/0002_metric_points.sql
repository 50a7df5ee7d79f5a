-- One row is one OTLP metric data point of any kind. Columns that a kind does not have are NULL or empty:
-- a missing minimum is not a minimum of zero.
CREATE TABLE IF NOT EXISTS metric_points (
  time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
  start_time DateTime64(9, 'UTC') CODEC(ZSTD(1)),
  service LowCardinality(String),
  resource LowCardinality(String),
  tenant LowCardinality(String),
  scope LowCardinality(String),
  metric LowCardinality(String),
  unit LowCardinality(String),
  kind Enum8('gauge'=1,'sum'=2,'histogram'=3,'exponential_histogram'=4,'summary'=5),
  temporality Enum8('unspecified'=0,'delta'=1,'cumulative'=2),
  is_monotonic Bool,
  flags UInt32 CODEC(ZSTD(1)),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  series UInt64 MATERIALIZED cityHash64(resource, scope, arraySort(arrayZip(mapKeys(attributes), mapValues(attributes)))) CODEC(ZSTD(1)),
  value Nullable(Float64) CODEC(Gorilla, ZSTD(1)),
  value_int Nullable(Int64) CODEC(ZSTD(1)),
  count Nullable(UInt64) CODEC(ZSTD(1)),
  sum Nullable(Float64) CODEC(ZSTD(1)),
  min Nullable(Float64) CODEC(ZSTD(1)),
  max Nullable(Float64) CODEC(ZSTD(1)),
  bounds Array(Float64) CODEC(ZSTD(1)),
  buckets Array(UInt64) CODEC(ZSTD(1)),
  scale Nullable(Int32) CODEC(ZSTD(1)),
  zero_count Nullable(UInt64) CODEC(ZSTD(1)),
  zero_threshold Nullable(Float64) CODEC(ZSTD(1)),
  positive_offset Nullable(Int32) CODEC(ZSTD(1)),
  negative_offset Nullable(Int32) CODEC(ZSTD(1)),
  negative_buckets Array(UInt64) CODEC(ZSTD(1)),
  quantiles Array(Float64) CODEC(ZSTD(1)),
  quantile_values Array(Float64) CODEC(ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(received_at)
PARTITION BY toYYYYMM(time)
ORDER BY (metric, service, series, time)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS metric_points_to_dirty_hours TO dirty_hours AS
SELECT toDateTime64(toStartOfHour(time), 0, 'UTC') AS hour, toUInt64(1) AS batches FROM metric_points GROUP BY hour;
