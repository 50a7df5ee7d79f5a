-- Tokens in each interval. Fresh input, cache reads and cache writes together are all input.
SELECT time, part.1 AS series, part.2 AS value
FROM (
  SELECT
    toDateTime64(toStartOfInterval(hour, toIntervalSecond(greatest({step_seconds:UInt32}, 3600))), 0, 'UTC') AS time,
    arrayJoin([
      ('fresh input', sum(fresh_input_tokens)),
      ('cache read', sum(cache_read_tokens)),
      ('cache write', sum(cache_write_5m_tokens) + sum(cache_write_1h_tokens)),
      ('output', sum(output_tokens))
    ]) AS part
  FROM cost_hourly
  WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
    AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
    AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
    AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
    AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
  GROUP BY time
)
ORDER BY time, series
