"""Log lines, for people or as JSON, that tell which request they are of and never its data."""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

request_id: ContextVar[str] = ContextVar("request_id", default="")

# An attribute by which a record carries fields beside its message.
FIELDS: Final = "fields"


def configure(form: Literal["text", "json"], level: str) -> None:
    """Log to standard error, unless the process has been given handlers already."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level.upper())


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message, with the request it is of."""
    fields: dict[str, Any] = dict(getattr(record, FIELDS, {}))
    if identifier := request_id.get():
        fields["request_id"] = identifier
    if record.exc_info and record.exc_info[0] is not None:
        # Where and of what kind, but not the message: array libraries quote data in theirs.
        fields["error"] = record.exc_info[0].__name__
        fields["where"] = " ".join(
            f"{frame.name}:{frame.lineno}"
            for frame in traceback.extract_tb(record.exc_info[2])[-3:]
        )
    return fields


class JsonLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; control characters are escaped by JSON."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        return json.dumps(entry)


class TextLines(logging.Formatter):
    """One line per record for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; line breaks in a message do not make another."""
        said = [f"{name}={value}" for name, value in fields_of(record).items()]
        message = " | ".join(record.getMessage().splitlines())
        return " ".join([_time(record), record.levelname, message, *said])


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
