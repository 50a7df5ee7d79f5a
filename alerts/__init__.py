"""Incidents and who is told of them: reads findings, writes incidents and deliveries, talks to Slack."""

from alerts.delivery import DeliveryRun, deliver
from alerts.errors import (
    AlertError,
    IncidentNotFoundError,
    IncidentStateError,
    SlackError,
    SlackRateLimitedError,
    SlackRefusedError,
    SlackUnavailableError,
)
from alerts.grouping import Incident
from alerts.incidents import acknowledge, incidents, resolve, update_incidents
from alerts.settings import AlertSettings, SlackSettings
from alerts.slack import check_slack

__all__ = [
    "AlertError",
    "AlertSettings",
    "DeliveryRun",
    "Incident",
    "IncidentNotFoundError",
    "IncidentStateError",
    "SlackError",
    "SlackRateLimitedError",
    "SlackRefusedError",
    "SlackSettings",
    "SlackUnavailableError",
    "acknowledge",
    "check_slack",
    "deliver",
    "incidents",
    "resolve",
    "update_incidents",
]
