"""Grafana's rendering of the catalogue: classic dashboards (schema 42) and provisioning files.

What `build` writes into a directory is checked in beside this file:

dashboards/<name>.json                      one dashboard for each board
provisioning/datasources/pennytrace.yaml    the official ClickHouse data source, settings from the environment
provisioning/dashboards/pennytrace.yaml     the folder that Grafana reads the boards from
"""

from __future__ import annotations

from pathlib import Path

from dashboards.catalogue import BOARDS
from dashboards.grafana.board import board_json
from dashboards.grafana.provisioning import DASHBOARDS, DATA_SOURCE

CHECKED_IN = Path(__file__).parent


def build(directory: Path) -> list[Path]:
    """Write every file into `directory`, made if missing; returns the paths written."""
    texts = {f"dashboards/{board.name}.json": board_json(board) for board in BOARDS}
    texts["provisioning/datasources/pennytrace.yaml"] = DATA_SOURCE
    texts["provisioning/dashboards/pennytrace.yaml"] = DASHBOARDS
    return [_write(directory / name, text) for name, text in texts.items()]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
