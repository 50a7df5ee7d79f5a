-- Prompt cache: share of input tokens read from it, over the calls that say how many they read. Response
-- cache: share of answers that it gave, the others being calls.
SELECT time, part.1 AS series, part.2 AS value
FROM (
  SELECT
    toDateTime64(toStartOfInterval(hour, toIntervalSecond(greatest({step_seconds:UInt32}, 3600))), 0, 'UTC') AS time,
    arrayJoin([
      ('prompt cache', sum(cache_read_tokens) / nullIf(sum(cache_reporting_input_tokens), 0)),
      ('response cache', sum(response_cache_hits) / nullIf(sum(response_cache_hits) + sum(calls), 0))
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
