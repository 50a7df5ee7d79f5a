-- GPU readings that came as metrics, added up per hour and device. Utilisation is 0 to 1, memory is bytes.
SELECT
  toDateTime64(toStartOfHour(time), 0, 'UTC') AS hour,
  service,
  if(JSONExtractString(resource, 'service.instance.id') != '',
    JSONExtractString(resource, 'service.instance.id'), JSONExtractString(resource, 'host.name')) AS replica,
  attributes['hw.id'] AS gpu_id,
  anyLast(if(attributes['hw.name'] != '', attributes['hw.name'], attributes['hw.model'])) AS gpu_model,
  countIf(metric = 'hw.gpu.utilization') AS utilization_count,
  sumIf(ifNull(value, toFloat64(value_int)), metric = 'hw.gpu.utilization') AS utilization_sum,
  countIf(metric = 'hw.gpu.memory.usage') AS memory_count,
  sumIf(ifNull(value, toFloat64(value_int)), metric = 'hw.gpu.memory.usage') AS memory_sum
FROM metric_points FINAL
WHERE metric IN ('hw.gpu.utilization', 'hw.gpu.memory.usage')
  AND time >= {since:DateTime64(9)} AND time < {until:DateTime64(9)}
  AND isFinite(ifNull(value, toFloat64(value_int)))
GROUP BY hour, service, replica, gpu_id
