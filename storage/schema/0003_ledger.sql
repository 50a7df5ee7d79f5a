-- Derived hours. A run of the job writes the rows of an hour under a new generation and then one row
-- here: that row is the commit. Readers use the views below, which show the newest generation of every
-- hour, so a recomputed hour changes at once or not at all. Older generations are deleted later.
CREATE TABLE IF NOT EXISTS hour_runs (
  hour DateTime64(0, 'UTC'),
  generation UInt64,
  batches_seen UInt64,
  -- Fingerprint of everything but the rows that the hour was computed from: normaliser, prices, rates.
  ruleset LowCardinality(String),
  finished_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(generation) ORDER BY hour;

-- One row per model call, and per answer that the application's own cache gave (response_cache_hit).
-- billable: a leaf model call that was paid for; roll-ups, failed calls and cache answers are not.
-- first_of_request: this row stands for its request (the first call of its trace under its service and
-- endpoint), so that requests can be added up over any dimensions.
-- NULL is unknown, never zero. cost_usd is NULL exactly when unpriced_reason is not ''.
CREATE TABLE IF NOT EXISTS calls_by_generation (
  hour DateTime64(0, 'UTC'),
  generation UInt64,
  started_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  trace_id FixedString(16) CODEC(ZSTD(1)),
  span_id FixedString(8) CODEC(ZSTD(1)),
  service LowCardinality(String),
  service_version LowCardinality(String),
  environment LowCardinality(String),
  endpoint LowCardinality(String),
  tenant LowCardinality(String),
  provider LowCardinality(String),
  model LowCardinality(String),
  model_version LowCardinality(String),
  variant LowCardinality(String),
  tier LowCardinality(String),
  operation LowCardinality(String),
  replica LowCardinality(String),
  response_id String CODEC(ZSTD(1)),
  duration_ns UInt64 CODEC(T64, ZSTD(1)),
  error_type LowCardinality(String),
  billable Bool,
  response_cache_hit Bool,
  first_of_request Bool,
  possible_duplicate Bool,
  input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  fresh_input_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  cache_read_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  cache_write_5m_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  cache_write_1h_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  output_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  reasoning_tokens Nullable(UInt64) CODEC(ZSTD(1)),
  usage_note LowCardinality(String),
  gpu_seconds Nullable(Float64) CODEC(ZSTD(1)),
  gpu_energy_joules Nullable(Float64) CODEC(ZSTD(1)),
  cost_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  cost_fresh_input_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  cost_cache_read_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  cost_cache_write_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  cost_output_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  cost_gpu_busy_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  saved_usd Nullable(Decimal(18, 12)) CODEC(ZSTD(1)),
  unpriced_reason LowCardinality(String),
  price_version LowCardinality(String)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, generation, service, endpoint, model, trace_id, span_id);

CREATE VIEW IF NOT EXISTS calls AS
SELECT * EXCEPT (generation) FROM calls_by_generation
WHERE (hour, generation) IN (SELECT hour, max(generation) FROM hour_runs GROUP BY hour);

-- Hourly facts: sums over calls, one row per combination of dimensions. Unknown usage adds nothing to the
-- sums and one to unpriced_calls. A request is a trace's visit to an endpoint of a service, counted in the
-- row of its first call.
CREATE TABLE IF NOT EXISTS cost_hourly_by_generation (
  hour DateTime64(0, 'UTC'),
  generation UInt64,
  service LowCardinality(String),
  service_version LowCardinality(String),
  environment LowCardinality(String),
  endpoint LowCardinality(String),
  tenant LowCardinality(String),
  provider LowCardinality(String),
  model LowCardinality(String),
  model_version LowCardinality(String),
  variant LowCardinality(String),
  tier LowCardinality(String),
  requests UInt64,
  calls UInt64,
  failed_calls UInt64,
  unpriced_calls UInt64,
  response_cache_hits UInt64,
  unpriced_cache_hits UInt64,
  input_tokens UInt64,
  -- Input tokens of the calls that said how many they read from the prompt cache: the base of its hit ratio.
  cache_reporting_input_tokens UInt64,
  fresh_input_tokens UInt64,
  cache_read_tokens UInt64,
  cache_write_5m_tokens UInt64,
  cache_write_1h_tokens UInt64,
  output_tokens UInt64,
  reasoning_tokens UInt64,
  duration_seconds Float64,
  gpu_seconds Nullable(Float64),
  gpu_energy_joules Nullable(Float64),
  cost_usd Decimal(38, 12),
  cost_fresh_input_usd Decimal(38, 12),
  cost_cache_read_usd Decimal(38, 12),
  cost_cache_write_usd Decimal(38, 12),
  cost_output_usd Decimal(38, 12),
  cost_gpu_busy_usd Decimal(38, 12),
  saved_usd Decimal(38, 12)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, generation, service, endpoint, model);

CREATE VIEW IF NOT EXISTS cost_hourly AS
SELECT * EXCEPT (generation) FROM cost_hourly_by_generation
WHERE (hour, generation) IN (SELECT hour, max(generation) FROM hour_runs GROUP BY hour);

-- What each paid replica cost in an hour: allocated_usd + idle_usd = bill_usd, exactly.
CREATE TABLE IF NOT EXISTS replica_hourly_by_generation (
  hour DateTime64(0, 'UTC'),
  generation UInt64,
  service LowCardinality(String),
  replica LowCardinality(String),
  instance_type LowCardinality(String),
  instance_cost_per_hour_usd Decimal(18, 12),
  up_seconds Float64,
  busy_seconds Float64,
  calls UInt64,
  allocated_usd Decimal(38, 12),
  idle_usd Decimal(38, 12),
  bill_usd Decimal(38, 12)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, generation, service, replica);

CREATE VIEW IF NOT EXISTS replica_hourly AS
SELECT * EXCEPT (generation) FROM replica_hourly_by_generation
WHERE (hour, generation) IN (SELECT hour, max(generation) FROM hour_runs GROUP BY hour);

-- GPU readings of an hour: means over hw.gpu.* metrics where there are any, else over GPU spans. samples is
-- how many spans and points told of the device.
CREATE TABLE IF NOT EXISTS gpu_hourly_by_generation (
  hour DateTime64(0, 'UTC'),
  generation UInt64,
  service LowCardinality(String),
  replica LowCardinality(String),
  gpu_id LowCardinality(String),
  gpu_model LowCardinality(String),
  samples UInt64,
  utilization_mean Nullable(Float64),
  memory_bytes_mean Nullable(Float64),
  energy_joules Nullable(Float64)
) ENGINE = MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, generation, service, replica, gpu_id);

CREATE VIEW IF NOT EXISTS gpu_hourly AS
SELECT * EXCEPT (generation) FROM gpu_hourly_by_generation
WHERE (hour, generation) IN (SELECT hour, max(generation) FROM hour_runs GROUP BY hour);

-- The first hour in which a version of a service or of a model was seen on an endpoint.
CREATE VIEW IF NOT EXISTS deploys AS
SELECT service, environment, endpoint, service_version, model, model_version, min(hour) AS first_hour
FROM cost_hourly
GROUP BY service, environment, endpoint, service_version, model, model_version;
