"""Findings: what became dearer or less well cached, since when, why and by how many dollars."""

from analytics.findings.detection import FindingsRun, detect, findings
from analytics.findings.explanation import Explanation, explain_change
from analytics.findings.settings import FindingsSettings

__all__ = ["Explanation", "FindingsRun", "FindingsSettings", "detect", "explain_change", "findings"]
