-- Requests, those that the response cache answered included. Not by model: a request may call several.
SELECT if(count() = 0, NULL, sum(requests)) AS value
FROM cost_hourly
WHERE hour >= toStartOfHour({since:DateTime64(3, 'UTC')}) AND hour < {until:DateTime64(3, 'UTC')}
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
  AND (empty({tenant:Array(String)}) OR has({tenant:Array(String)}, tenant))
