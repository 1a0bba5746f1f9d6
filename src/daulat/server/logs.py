"""Structured logs through the standard library: text for eyes, JSON lines for machines.

A log line holds ids, names, numbers and codes. Contents, keys and headers are never given to a
logger.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import IO, Any, Literal

from daulat.server.trace import Trace

logger = logging.getLogger("daulat.server")

# What a record has of itself; everything else on it was given as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")


def configure(
    level: str, form: Literal["text", "json"] = "text", stream: IO[str] | None = None
) -> None:
    """Send all logs to `stream` (standard error), once; libraries speak from warnings upwards."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("daulat").setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def request_line(trace: Trace) -> None:
    """One line for one request, when it is over."""
    fields: dict[str, Any] = {
        "request": trace.id,
        "method": trace.method,
        "route": trace.route,
        "status": trace.status,
        "seconds": round(time.monotonic() - trace.started, 4),
        "key": trace.caller,
        "record": trace.exchange,
        "model": trace.model,
        "error": trace.error,
    }
    if trace.usage:
        fields["prompt_tokens"] = trace.usage.prompt_tokens
        fields["completion_tokens"] = trace.usage.completion_tokens
    if trace.first_event is not None:
        fields["first_event"] = round(trace.first_event - trace.started, 4)
    kept = {name: value for name, value in fields.items() if value != ""}
    logger.info("request", extra=kept)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the fields, a trace."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Text(logging.Formatter):
    """`time level logger message name=value …`, a trace on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {name}={value}" for name, value in _fields(record).items())
        # One record, one line: a value from outside must not be able to forge a second one.
        text = f"{record.getMessage()}{pairs}".replace("\n", "\\n").replace("\r", "\\r")
        line = f"{_time(record)} {record.levelname.lower():7} {record.name} {text}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
