-- Model calls a minute, by model; models past the eight busiest together. The divisor is the time that the
-- interval covers: an hour that the range cuts counts whole, except one that is not over yet.
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
  largest AS (SELECT model FROM facts GROUP BY model ORDER BY sum(calls) DESC, model LIMIT 8),
  greatest({step_seconds:UInt32}, 3600) AS step,
  greatest(toUnixTimestamp({until:DateTime64(3, 'UTC')}), toUnixTimestamp(now())) AS now_seconds,
  toUnixTimestamp(toStartOfHour({since:DateTime64(3, 'UTC')})) AS since_seconds,
  toUnixTimestamp(toStartOfHour(addMilliseconds({until:DateTime64(3, 'UTC')}, 3599999))) AS until_seconds
SELECT
  toDateTime64(toStartOfInterval(hour, toIntervalSecond(step)), 0, 'UTC') AS time,
  multiIf(model NOT IN (SELECT model FROM largest), '(other)', model = '', '(none)', model) AS series,
  sum(calls) * 60
    / greatest(least(toUnixTimestamp(time) + step, until_seconds, now_seconds) - greatest(toUnixTimestamp(time), since_seconds), 1)
    AS value
FROM facts
GROUP BY time, series
ORDER BY time, series
