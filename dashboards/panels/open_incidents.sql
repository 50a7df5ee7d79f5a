-- Incidents that are not resolved, whenever they opened.
SELECT count() AS value
FROM incidents FINAL
WHERE state != 'resolved'
  AND (empty({service:Array(String)}) OR has({service:Array(String)}, service))
  AND (empty({endpoint:Array(String)}) OR has({endpoint:Array(String)}, endpoint))
