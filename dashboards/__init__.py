"""One panel catalogue, rendered to Grafana and to the built-in page."""

from dashboards.grafana import build
from dashboards.page import create_page_router

__all__ = ["build", "create_page_router"]
