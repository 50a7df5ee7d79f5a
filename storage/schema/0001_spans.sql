-- One row of the Null table is one OTLP ResourceSpans message, decoded by the engine (storage/otlp.py has
-- its protobuf schema). Flattened columns plan faster than one nested Tuple, and names are short because
-- every insert plans the view's text again.
CREATE TABLE IF NOT EXISTS otlp_spans (
  svc LowCardinality(String), res LowCardinality(String), tenant LowCardinality(String), rcv UInt64,
  `s.c` Array(String),
  `s.p.tid` Array(Array(String)), `s.p.sid` Array(Array(String)), `s.p.pid` Array(Array(String)),
  `s.p.state` Array(Array(String)), `s.p.n` Array(Array(String)), `s.p.kind` Array(Array(Int32)),
  `s.p.t0` Array(Array(UInt64)), `s.p.t1` Array(Array(UInt64)),
  `s.p.da` Array(Array(UInt32)), `s.p.de` Array(Array(UInt32)), `s.p.dl` Array(Array(UInt32)),
  `s.p.fl` Array(Array(UInt32)),
  `s.p.st.msg` Array(Array(String)), `s.p.st.code` Array(Array(Int32)),
  `s.p.ev` Array(Array(Array(String))), `s.p.ln` Array(Array(Array(String))),
  `s.p.a.k` Array(Array(Array(String))),
  `s.p.a.v.t` Array(Array(Array(Enum8('no'=0,'s'=1,'b'=2,'i'=3,'d'=4,'a'=5,'m'=6,'y'=7)))),
  `s.p.a.v.s` Array(Array(Array(String))), `s.p.a.v.b` Array(Array(Array(UInt8))),
  `s.p.a.v.i` Array(Array(Array(Int64))), `s.p.a.v.d` Array(Array(Array(Float64))),
  `s.p.a.v.a` Array(Array(Array(String))), `s.p.a.v.m` Array(Array(Array(String))),
  `s.p.a.v.y` Array(Array(Array(String)))
) ENGINE = Null;

-- What came, untouched. Identity of a span: (service, hour, trace, span). Sorted so that the spans of a
-- trace are neighbours, which is what makes ids compress.
-- attributes: scalars as text; arrays, key-value lists and bytes as their raw OTLP message, told apart by
-- attribute_types (s text, b bool, i int, d double, a array, m key-value list, y bytes, no null), which
-- stands in the order of mapKeys(attributes). events, links and scope are raw OTLP messages as well.
CREATE TABLE IF NOT EXISTS spans (
  started_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  trace_id FixedString(16) CODEC(ZSTD(1)),
  span_id FixedString(8) CODEC(ZSTD(1)),
  parent_span_id FixedString(8) CODEC(ZSTD(1)),
  trace_state LowCardinality(String),
  flags UInt32 CODEC(ZSTD(1)),
  name LowCardinality(String),
  kind Int32 CODEC(ZSTD(1)),
  duration_ns UInt64 CODEC(T64, ZSTD(1)),
  status_code Int32 CODEC(ZSTD(1)),
  status_message String CODEC(ZSTD(1)),
  service LowCardinality(String),
  resource LowCardinality(String),
  tenant LowCardinality(String),
  scope LowCardinality(String),
  attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  attribute_types Array(Enum8('no'=0,'s'=1,'b'=2,'i'=3,'d'=4,'a'=5,'m'=6,'y'=7)) CODEC(ZSTD(1)),
  events Array(String) CODEC(ZSTD(1)),
  links Array(String) CODEC(ZSTD(1)),
  dropped_attributes UInt32 CODEC(ZSTD(1)),
  dropped_events UInt32 CODEC(ZSTD(1)),
  dropped_links UInt32 CODEC(ZSTD(1)),
  received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  INDEX trace trace_id TYPE bloom_filter(0.001) GRANULARITY 4
) ENGINE = ReplacingMergeTree(received_at)
PARTITION BY toYYYYMM(started_at)
ORDER BY (service, toStartOfHour(started_at), trace_id, span_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS otlp_spans_to_spans TO spans AS
SELECT
  fromUnixTimestamp64Nano(toInt64(x_t0), 'UTC') AS started_at,
  toFixedString(x_tid, 16) AS trace_id, toFixedString(x_sid, 8) AS span_id, toFixedString(x_pid, 8) AS parent_span_id,
  x_state AS trace_state, x_fl AS flags, x_n AS name, x_kind AS kind, if(x_t1 >= x_t0, x_t1 - x_t0, 0) AS duration_ns,
  x_st_code AS status_code, x_st_msg AS status_message, svc AS service, res AS resource, tenant, sc AS scope,
  mapFromArrays(x_a_k, arrayMap(
    (t, s, i, d, b, a, m, y) -> multiIf(t = 's', s, t = 'i', toString(i), t = 'd', toString(d), t = 'b', if(b = 1, 'true', 'false'), concat(a, m, y)),
    x_a_v_t, x_a_v_s, x_a_v_i, x_a_v_d, x_a_v_b, x_a_v_a, x_a_v_m, x_a_v_y)) AS attributes,
  x_a_v_t AS attribute_types, x_ev AS events, x_ln AS links,
  x_da AS dropped_attributes, x_de AS dropped_events, x_dl AS dropped_links,
  fromUnixTimestamp64Nano(toInt64(rcv), 'UTC') AS received_at
FROM (
  SELECT svc, res, tenant, rcv, sc::LowCardinality(String) AS sc,
    y_tid, y_sid, y_pid, y_state, y_n, y_kind, y_t0, y_t1, y_da, y_de, y_dl, y_fl, y_st_msg, y_st_code, y_ev, y_ln,
    y_a_k, y_a_v_t, y_a_v_s, y_a_v_b, y_a_v_i, y_a_v_d, y_a_v_a, y_a_v_m, y_a_v_y
  FROM otlp_spans
  ARRAY JOIN `s.c` AS sc,
    `s.p.tid` AS y_tid, `s.p.sid` AS y_sid, `s.p.pid` AS y_pid, `s.p.state` AS y_state, `s.p.n` AS y_n, `s.p.kind` AS y_kind,
    `s.p.t0` AS y_t0, `s.p.t1` AS y_t1, `s.p.da` AS y_da, `s.p.de` AS y_de, `s.p.dl` AS y_dl, `s.p.fl` AS y_fl,
    `s.p.st.msg` AS y_st_msg, `s.p.st.code` AS y_st_code, `s.p.ev` AS y_ev, `s.p.ln` AS y_ln,
    `s.p.a.k` AS y_a_k, `s.p.a.v.t` AS y_a_v_t, `s.p.a.v.s` AS y_a_v_s, `s.p.a.v.b` AS y_a_v_b, `s.p.a.v.i` AS y_a_v_i,
    `s.p.a.v.d` AS y_a_v_d, `s.p.a.v.a` AS y_a_v_a, `s.p.a.v.m` AS y_a_v_m, `s.p.a.v.y` AS y_a_v_y)
ARRAY JOIN
  y_tid AS x_tid, y_sid AS x_sid, y_pid AS x_pid, y_state AS x_state, y_n AS x_n, y_kind AS x_kind, y_t0 AS x_t0, y_t1 AS x_t1,
  y_da AS x_da, y_de AS x_de, y_dl AS x_dl, y_fl AS x_fl, y_st_msg AS x_st_msg, y_st_code AS x_st_code, y_ev AS x_ev, y_ln AS x_ln,
  y_a_k AS x_a_k, y_a_v_t AS x_a_v_t, y_a_v_s AS x_a_v_s, y_a_v_b AS x_a_v_b, y_a_v_i AS x_a_v_i, y_a_v_d AS x_a_v_d,
  y_a_v_a AS x_a_v_a, y_a_v_m AS x_a_v_m, y_a_v_y AS x_a_v_y;

-- Which hours received rows. `batches` only grows, so an hour is dirty exactly when its sum differs from
-- what the last finished run of that hour had seen (hour_runs.batches_seen); no clock is compared.
CREATE TABLE IF NOT EXISTS dirty_hours (
  hour DateTime64(0, 'UTC'),
  batches UInt64
) ENGINE = SummingMergeTree ORDER BY hour
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS spans_to_dirty_hours TO dirty_hours AS
SELECT toDateTime64(toStartOfHour(started_at), 0, 'UTC') AS hour, toUInt64(1) AS batches FROM spans GROUP BY hour;
