"""The log: one line per event on stderr, with a time, as text or as JSON.

The lines of a traceback are indented, so that no text from outside can look like an event.
"""

import json
import logging
import logging.config
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from updater.wire.text import one_line

MAX_LINE = 4000  # characters


class OneLine(logging.Formatter):
    """`2026-01-31T12:00:00+0000 INFO meta.service: text`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record), MAX_LINE)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {one_line(line, MAX_LINE)}" for line in lines)


class OneObject(logging.Formatter):
    """`{"time": "...", "level": "INFO", "logger": "meta.service", "message": "text"}`, and "traceback" if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": one_line(record.getMessage(), MAX_LINE),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def config(level: str, form: str = "text") -> dict[str, Any]:
    """Return a dictConfig. level: as `info`; form: text or json."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": OneObject if form == "json" else OneLine}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {"alembic": {"level": "WARNING"}, "asyncio": {"level": "WARNING"}},
    }


def configure(level: str, form: str = "text") -> None:
    logging.config.dictConfig(config(level, form))


def warn(sentences: Iterable[str]) -> None:
    """Log warnings that were found before the log was configured."""
    for sentence in sentences:
        logging.getLogger(__package__).warning("%s", sentence)
