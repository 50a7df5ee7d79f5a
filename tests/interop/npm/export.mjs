// node export.mjs TRANSPORT COMPRESSION URL SPANS: one request span with its chat children, and two metrics.
import { context, trace } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

const [transport, compression, url, spans] = process.argv.slice(2);
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${transport}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${transport}`);
const resource = resourceFromAttributes({ 'service.name': 'npm', 'service.instance.id': `${transport}-${compression}` });
const to = (path) => ({ url: transport === 'grpc' ? url : `${url}${path}`, compression });

const provider = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter(to('/v1/traces')) })] });
const tracer = provider.getTracer('interop', '1.0');
const root = tracer.startSpan('request');
const inRoot = trace.setSpan(context.active(), root);
for (let tokens = 0; tokens < Number(spans) - 1; tokens++) {
  const attributes = {
    'gen_ai.operation.name': 'chat',
    'gen_ai.usage.input_tokens': tokens,
    'gen_ai.response.time_to_first_chunk': tokens + 0.25,
    'gen_ai.response.finish_reasons': ['stop', 'naïve 日本'],
    'gen_ai.request.stream': true,
  };
  const span = tracer.startSpan('chat', { attributes }, inRoot);
  span.addEvent('first token', { 'delay.s': 0.25 });
  span.end();
}
root.end();
await provider.forceFlush();
await provider.shutdown();

const reader = new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(to('/v1/metrics')), exportIntervalMillis: 60000, exportTimeoutMillis: 20000 });
const meters = new MeterProvider({ resource, readers: [reader] });
meters.getMeter('interop').createCounter('tokens', { unit: '{token}' }).add(7, { model: 'm' });
meters.getMeter('interop').createHistogram('seconds', { unit: 's' }).record(0.3);
await meters.shutdown();
