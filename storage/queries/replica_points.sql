-- First and last metric point of every replica in every hour: signs of life beside spans.
SELECT
  service,
  if(JSONExtractString(resource, 'service.instance.id') != '',
    JSONExtractString(resource, 'service.instance.id'), JSONExtractString(resource, 'host.name')) AS replica,
  toUnixTimestamp64Nano(toDateTime64(toStartOfHour(time), 9, 'UTC')) AS hour_ns,
  toUnixTimestamp64Nano(min(time)) AS first_ns,
  toUnixTimestamp64Nano(max(time)) AS last_ns
FROM metric_points
WHERE time >= {since:DateTime64(9)} AND time < {until:DateTime64(9)}
GROUP BY service, replica, hour_ns
