-- Mean utilisation of a service's GPUs: the mean of their hourly means, each hour of each GPU counting once.
-- Hours without readings are gaps.
SELECT
  toDateTime64(toStartOfInterval(hour, toIntervalSecond(greatest({step_seconds:UInt32}, 3600))), 0, 'UTC') AS time,
  if(service = '', '(none)', service) AS series,
  avg(if(isFinite(utilization_mean), utilization_mean, NULL)) AS value
FROM gpu_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
GROUP BY time, series
ORDER BY time, series
