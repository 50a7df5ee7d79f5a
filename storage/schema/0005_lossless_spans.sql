-- What 0001 did not keep of a ResourceSpans message, tenants in identities, smaller columns, and inserts that survive a
-- power cut.
-- Collectors may be inserting meanwhile: columns come first, then the view changes in one step.
ALTER TABLE otlp_spans
  ADD COLUMN IF NOT EXISTS rr LowCardinality(String),
  ADD COLUMN IF NOT EXISTS ru LowCardinality(String),
  ADD COLUMN IF NOT EXISTS `s.u` Array(String);

-- Ids and series are the sender's to choose, so the tenant belongs to the identity of a row: nobody replaces another's.
-- The engine takes only a new column without a default into the sorting key of a table that has rows, so tenant_in_key
-- repeats `tenant`; the default comes after, and rows from before get it as well. Each older part has a key once, and is
-- therefore sorted by the longer key too.
ALTER TABLE spans
  ADD COLUMN IF NOT EXISTS tenant_in_key LowCardinality(String) CODEC(ZSTD(1)) AFTER tenant,
  MODIFY ORDER BY (service, toStartOfHour(started_at), trace_id, span_id, tenant_in_key);

ALTER TABLE spans MODIFY COLUMN tenant_in_key MATERIALIZED tenant;

ALTER TABLE metric_points
  ADD COLUMN IF NOT EXISTS tenant_in_key LowCardinality(String) CODEC(ZSTD(1)) AFTER tenant,
  MODIFY ORDER BY (metric, service, series, time, tenant_in_key);

ALTER TABLE metric_points MODIFY COLUMN tenant_in_key MATERIALIZED tenant;

-- resource_message is the raw OTLP Resource, of which `resource` is a JSON rendering for queries.
-- end_before_start_ns: by how much the sender's end lay before its start; duration_ns is 0 then.
-- attribute_type_codes: one digit an attribute, in the order of mapKeys(attributes): the field of OTLP's AnyValue that
-- its value came in, 0 for none. The spans of a service have few combinations, so this costs a sixth of an array;
-- attribute_types shows it as one.
ALTER TABLE spans
  ADD COLUMN IF NOT EXISTS resource_message LowCardinality(String) CODEC(ZSTD(1)) AFTER resource,
  ADD COLUMN IF NOT EXISTS resource_schema_url LowCardinality(String) CODEC(ZSTD(1)) AFTER resource_message,
  ADD COLUMN IF NOT EXISTS scope_schema_url LowCardinality(String) CODEC(ZSTD(1)) AFTER scope,
  ADD COLUMN IF NOT EXISTS end_before_start_ns UInt64 CODEC(ZSTD(1)) AFTER duration_ns,
  ADD COLUMN IF NOT EXISTS attribute_type_codes LowCardinality(String) CODEC(ZSTD(1)) AFTER attributes;

ALTER TABLE otlp_spans_to_spans MODIFY QUERY
SELECT
  fromUnixTimestamp64Nano(toInt64(x_t0), 'UTC') AS started_at,
  toFixedString(x_tid, 16) AS trace_id, toFixedString(x_sid, 8) AS span_id, toFixedString(x_pid, 8) AS parent_span_id,
  x_state AS trace_state, x_fl AS flags, x_n AS name, x_kind AS kind, if(x_t1 >= x_t0, x_t1 - x_t0, 0) AS duration_ns,
  if(x_t1 < x_t0, x_t0 - x_t1, 0) AS end_before_start_ns,
  x_st_code AS status_code, x_st_msg AS status_message, svc AS service, res AS resource, rr AS resource_message,
  ru AS resource_schema_url, tenant, sc AS scope, su AS scope_schema_url,
  mapFromArrays(x_a_k, arrayMap(
    (t, s, i, d, b, a, m, y) -> multiIf(t = 's', s, t = 'i', toString(i), t = 'd', toString(d), t = 'b', if(b = 1, 'true', 'false'), concat(a, m, y)),
    x_a_v_t, x_a_v_s, x_a_v_i, x_a_v_d, x_a_v_b, x_a_v_a, x_a_v_m, x_a_v_y)) AS attributes,
  arrayStringConcat(arrayMap(t -> char(48 + t), CAST(x_a_v_t, 'Array(Int8)'))) AS attribute_type_codes, x_ev AS events, x_ln AS links,
  x_da AS dropped_attributes, x_de AS dropped_events, x_dl AS dropped_links,
  fromUnixTimestamp64Nano(toInt64(rcv), 'UTC') AS received_at
FROM (
  SELECT svc, res, rr, ru, tenant, rcv, sc::LowCardinality(String) AS sc, su::LowCardinality(String) AS su,
    y_tid, y_sid, y_pid, y_state, y_n, y_kind, y_t0, y_t1, y_da, y_de, y_dl, y_fl, y_st_msg, y_st_code, y_ev, y_ln,
    y_a_k, y_a_v_t, y_a_v_s, y_a_v_b, y_a_v_i, y_a_v_d, y_a_v_a, y_a_v_m, y_a_v_y
  FROM otlp_spans
  ARRAY JOIN `s.c` AS sc, `s.u` AS su,
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

-- The array becomes an alias. It is added first because an earlier try may have ended after dropping it.
ALTER TABLE spans ADD COLUMN IF NOT EXISTS
  attribute_types Array(Enum8('no'=0,'s'=1,'b'=2,'i'=3,'d'=4,'a'=5,'m'=6,'y'=7));

ALTER TABLE spans
  UPDATE attribute_type_codes = arrayStringConcat(arrayMap(t -> char(48 + t), CAST(attribute_types, 'Array(Int8)')))
  WHERE attribute_type_codes = '' AND notEmpty(attribute_types) SETTINGS mutations_sync = 2;

ALTER TABLE spans DROP COLUMN IF EXISTS attribute_types SETTINGS mutations_sync = 2;

ALTER TABLE spans ADD COLUMN IF NOT EXISTS
  attribute_types Array(Enum8('no'=0,'s'=1,'b'=2,'i'=3,'d'=4,'a'=5,'m'=6,'y'=7))
  ALIAS CAST(arrayMap(code -> toInt8(code), extractAll(attribute_type_codes, '.')), 'Array(Enum8(''no''=0,''s''=1,''b''=2,''i''=3,''d''=4,''a''=5,''m''=6,''y''=7))');

-- Measured with benchmarks/disk.py. T64 keeps the low bits that times of one hour differ in; ids are random, so
-- compressing them again gains nothing; a string's size beside its text, not in a column of its own, halves attributes'
-- overhead. attributes has no codec of its own, so that parts of last week and before are packed harder.
ALTER TABLE spans
  MODIFY COLUMN started_at CODEC(T64('bit'), ZSTD(1)),
  MODIFY COLUMN span_id CODEC(NONE),
  MODIFY COLUMN parent_span_id CODEC(ZSTD(3)),
  MODIFY COLUMN trace_state CODEC(ZSTD(1)),
  MODIFY COLUMN flags CODEC(T64, ZSTD(1)),
  MODIFY COLUMN name CODEC(ZSTD(1)),
  MODIFY COLUMN kind CODEC(T64, ZSTD(1)),
  MODIFY COLUMN status_code CODEC(T64, ZSTD(1)),
  MODIFY COLUMN service CODEC(ZSTD(1)),
  MODIFY COLUMN resource CODEC(ZSTD(1)),
  MODIFY COLUMN tenant CODEC(ZSTD(1)),
  MODIFY COLUMN scope CODEC(ZSTD(1)),
  MODIFY COLUMN attributes CODEC(Default);

ALTER TABLE spans MODIFY SETTING
  string_serialization_version = 'single_stream', default_compression_codec = 'ZSTD(1)',
  fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE spans MODIFY TTL toDateTime(received_at) + INTERVAL 7 DAY RECOMPRESS CODEC(ZSTD(6))
SETTINGS materialize_ttl_after_modify = 0;

-- A journal segment is deleted after its insert, so what an insert wrote must be on the disk by then.
ALTER TABLE metric_points MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;

ALTER TABLE dirty_hours MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1;
