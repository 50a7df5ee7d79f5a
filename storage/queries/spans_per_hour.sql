-- How many spans (duplicates counted) started in each hour of a range.
SELECT toDateTime64(toStartOfHour(started_at), 0, 'UTC') AS hour, count() AS spans
FROM spans
WHERE started_at >= {since:DateTime64(9)} AND started_at < {until:DateTime64(9)}
GROUP BY hour
ORDER BY hour
