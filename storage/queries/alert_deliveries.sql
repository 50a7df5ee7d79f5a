SELECT
  incident_key, sequence, destination, toString(status) AS status, channel, message_ts, attempts, error, updated_at
FROM deliveries FINAL
ORDER BY incident_key, destination, sequence
