"""Metrics of engines that only offer them to Prometheus: fetched, read, and handed to ingest as OTLP."""
