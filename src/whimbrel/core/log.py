"""Structured logs: one JSON object a line on standard error, each with the id of the request it belongs to.

1. A line carries a message, a severity, the time and named values. Values come in through `extra` and are written as
   they are, so callers log names, counts and durations and never vectors, metadata or keys of vectors.
2. Secrets have no way in: credentials show no secret in `repr`, and headers and bodies are never logged.
3. The request id follows the request through tasks (`request_id` is a context variable).
4. A message that is a JSON object already, starting with its `event`, becomes part of the line as it is.

Example:
    log.info("request done", extra={"operation": "PutVectors", "status": 200})
"""

import contextlib
import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

ROOT: Final = "whimbrel"
VALUE_CHARS_MAX: Final = 16_384
EVENT_START: Final = '{"event":'

# What every record has; the rest came in through `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being handled, or empty."""


def get_logger(name: str) -> logging.Logger:
    """Returns the logger of a module, below the one that `configure_logging` sets up.

    Args:
        name: the module's `__name__`.
    """
    return logging.getLogger(name if name.startswith(ROOT) else f"{ROOT}.{name}")


def configure_logging(*, level: str, use_json: bool, stream: TextIO | None = None) -> None:
    """Sends the program's own log lines, and the libraries' warnings, to a stream.

    Args:
        level: least severity that is written: `debug`, `info`, `warning` or `error`.
        use_json: JSON lines, or lines for people.
        stream: where to; standard error when None.
    """
    handler = EventHandler(stream or sys.stderr) if use_json else logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if use_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())


def _values(record: logging.LogRecord) -> dict[str, Any]:
    values: dict[str, Any] = {}
    current = request_id.get()
    if current:
        values["request_id"] = current
    values.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
    return values


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: `time`, `level`, `logger`, `message`, then the values."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line without a line end."""
        message = record.getMessage()
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if message.startswith(EVENT_START):
            return f"{json.dumps(line)[:-1]}, {message[1:]}"
        line["message"] = message[:VALUE_CHARS_MAX]
        line.update((name, value) for name, value in _values(record).items() if name not in line)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-VALUE_CHARS_MAX:]
        return json.dumps(line, ensure_ascii=False, default=str)


class EventHandler(logging.StreamHandler[TextIO]):
    """Writes JSON lines; what is one already takes a short way, without a record and a formatter between."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._second = -1
        self._start = ""

    def write_event(self, logger: logging.Logger, level: str, event: str, *, now_s: float) -> None:
        """Writes a line just as a record with this message would be.

        Args:
            logger: whose line it is.
            level: the severity, in lower case.
            event: a JSON object on one line, which begins with `EVENT_START`.
            now_s: the time, seconds since 1970.
        """
        assert event.startswith(EVENT_START)
        second = int(now_s)
        line = f'", "level": "{level}", "logger": "{logger.name}", {event[1:]}\n'
        with self.lock or contextlib.nullcontext():
            if second != self._second:
                self._start = datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
                self._second = second
            millis = int((now_s - second) * 1000)
            try:
                self.stream.write(f'{{"time": "{self._start}.{millis:03}Z{line}')
                self.flush()
            except Exception:  # noqa: BLE001 - as every handler does: a log that fails stops nothing
                self.handleError(logging.makeLogRecord({"msg": event}))


def find_event_handler(logger: logging.Logger) -> EventHandler | None:
    """Returns the one handler of a logger's lines, if that is what `configure_logging` has set up, else None."""
    handlers = logging.getLogger().handlers
    if len(handlers) != 1 or not isinstance(handlers[0], EventHandler) or logger.filters:
        return None
    parent: logging.Logger | None = logger
    while parent is not None and parent.parent is not None:
        if parent.handlers or not parent.propagate:
            return None
        parent = parent.parent
    return handlers[0]


class TextFormatter(logging.Formatter):
    """Writes a record for people: time, severity, message, then `name=value` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line, followed by a traceback when there is one."""
        message, data = record.getMessage(), _values(record)
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if message.startswith(EVENT_START):
            data |= json.loads(message)
            message, trace = data.pop("event"), data.pop("traceback", trace)
        values = "".join(f" {name}={value}" for name, value in data.items() if value != "")
        text = f"{_time(record)} {record.levelname.lower():7} {message}{values}"
        if trace:
            text += "\n" + trace
        # A value must not be able to forge a line of its own.
        first, *rest = text.split("\n")
        return "\n".join([first, *(f"    {line}" for line in rest)])
