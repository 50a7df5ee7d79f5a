"""Log lines: a constant sentence, then its fields as name=value."""

from __future__ import annotations

import json
import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
# They warn of every attempt; when the last one fails, an error of ours says so. uvicorn's warn of each client that
# speaks something else, which is counted.
_TALKATIVE = ("urllib3", "clickhouse_connect", "uvicorn.error")
# It says twice a minute that a job ran, which the job's own line says better.
_BELOW_WARNING = ("apscheduler", "httpx2", "uvicorn")


class FieldsFormatter(logging.Formatter):
    """Time, level, logger, sentence, and whatever the caller gave as `extra`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line without a traceback."""
        fields = (f" {name}={_shown(value)}" for name, value in vars(record).items() if name not in _STANDARD)
        return super().formatMessage(record) + "".join(fields)


def _shown(value: object) -> str:
    return str(value) if isinstance(value, int | float) else json.dumps(value, default=str, ensure_ascii=False)


def log_to_stderr() -> None:
    """Warnings and worse; `serve` lowers the level to INFO."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _BELOW_WARNING:
        logging.getLogger(name).setLevel(logging.WARNING)
