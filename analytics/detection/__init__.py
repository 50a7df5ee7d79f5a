"""The detector: which endpoints became dearer per request than they usually are, when, and by which driver.

A pure function of hourly usage; `backtest` runs it over an export, `analytics.findings` over the stored facts.
"""

from analytics.detection.backtest import Backtest, backtest
from analytics.detection.settings import DetectionSettings
from analytics.detection.usage import UsageError

__all__ = ["Backtest", "DetectionSettings", "UsageError", "backtest"]
