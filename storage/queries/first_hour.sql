-- The first hour that has facts; NULL before there are any.
SELECT minOrNull(hour) AS hour FROM cost_hourly
