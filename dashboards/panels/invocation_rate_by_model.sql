-- Model calls a minute, by model; models past the eight busiest together.
WITH
  facts AS (
    SELECT hour, model, calls
    FROM cost_hourly
    WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
      AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
      AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
      AND (empty({model:Array(String)}) OR has({model:Array(String)}, model))
      AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
  ),
  largest AS (SELECT model FROM facts GROUP BY model ORDER BY sum(calls) DESC, model LIMIT 8)
SELECT
  toDateTime64(toStartOfInterval(hour, toIntervalSecond(greatest({step_seconds:UInt32}, 3600))), 0, 'UTC') AS time,
  multiIf(model NOT IN (SELECT model FROM largest), '(other)', model = '', '(none)', model) AS series,
  sum(calls) * 60 / greatest({step_seconds:UInt32}, 3600) AS value
FROM facts
GROUP BY time, series
ORDER BY time, series
