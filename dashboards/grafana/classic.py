"""The classic dashboard model's classes. Import them from here, before anything else of the SDK.

Importing them warns that v2 is preferred. Classic on purpose: Grafana's file provisioning still refuses a
bare v2 dashboard.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as common_builders
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.builders import stat, table, timeseries
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models import common
    from grafana_foundation_sdk.models import dashboard as models

__all__ = [
    "Builder",
    "Dataquery",
    "JSONEncoder",
    "builders",
    "common",
    "common_builders",
    "models",
    "stat",
    "table",
    "timeseries",
]
