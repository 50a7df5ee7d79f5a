-- A finding is one episode: a rule that held on a series from started_at on, without a gap. It is updated
-- while the episode lasts (ended_at NULL) and closed when it ends. Dimensions that the rule does not look
-- at are ''. drivers and driver_usd stand in parallel and add up to impact_usd.
CREATE TABLE IF NOT EXISTS findings (
  finding_id String,
  rule LowCardinality(String),
  metric LowCardinality(String),
  unit LowCardinality(String),
  service LowCardinality(String),
  environment LowCardinality(String),
  endpoint LowCardinality(String),
  tenant LowCardinality(String),
  started_at DateTime64(0, 'UTC'),
  last_hour DateTime64(0, 'UTC'),
  ended_at Nullable(DateTime64(0, 'UTC')),
  expected Float64,
  actual Float64,
  impact_usd Decimal(38, 12),
  drivers Array(String),
  driver_usd Array(Decimal(38, 12)),
  cause String,
  deploy String,
  is_withdrawn Bool,
  updated_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(updated_at) ORDER BY finding_id;

-- One incident groups the findings of a service's endpoint that overlap in time. Every change of state
-- raises sequence by one.
CREATE TABLE IF NOT EXISTS incidents (
  incident_key String,
  sequence UInt32,
  state Enum8('open'=1,'acknowledged'=2,'resolved'=3),
  service LowCardinality(String),
  environment LowCardinality(String),
  endpoint LowCardinality(String),
  title String,
  cause String,
  deploy String,
  rules Array(String),
  finding_ids Array(String),
  opened_at DateTime64(0, 'UTC'),
  resolved_at Nullable(DateTime64(0, 'UTC')),
  impact_usd Decimal(38, 12),
  drivers Array(String),
  driver_usd Array(Decimal(38, 12)),
  updated_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(updated_at) ORDER BY incident_key;

-- One row per message owed to a destination; sequence is the incident's when the message was made.
CREATE TABLE IF NOT EXISTS deliveries (
  incident_key String,
  sequence UInt32,
  destination LowCardinality(String),
  status Enum8('pending'=1,'sent'=2,'failed'=3),
  channel String,
  message_ts String,
  attempts UInt32,
  error String,
  updated_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(updated_at) ORDER BY (incident_key, destination, sequence);
