-- Values to filter tenant by, the dearest first.
SELECT tenant AS value
FROM cost_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
GROUP BY value
ORDER BY sum(cost_usd) DESC, value
LIMIT 500
