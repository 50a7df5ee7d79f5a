"""OTLP in: spans and metric points from any exporter into the store."""

from collector.counts import Count
from collector.errors import CollectorError, JournalError
from collector.grpc_server import GrpcServer, serve_grpc
from collector.http_app import create_http_app
from collector.ingest import Ingest, JournalState, Receipt
from collector.protocol import LOGS, METRICS, TRACES, Encoding, Signal
from collector.settings import CollectorSettings

__all__ = [
    "LOGS",
    "METRICS",
    "TRACES",
    "CollectorError",
    "CollectorSettings",
    "Count",
    "Encoding",
    "GrpcServer",
    "Ingest",
    "JournalError",
    "JournalState",
    "Receipt",
    "Signal",
    "create_http_app",
    "serve_grpc",
]
