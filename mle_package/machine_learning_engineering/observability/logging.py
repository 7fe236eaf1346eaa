"""Service log: one line per event on standard error, as ECS JSON or as text.

It covers all messages of a process: its own, those of libraries, warnings and uncaught exceptions. No line holds a
value of a request: of an exception, it shows type and origin, see `core.error_text`.
"""

import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import msgspec

from machine_learning_engineering.core.error_text import is_infrastructure_error, safe_message, stack_trace, type_name
from machine_learning_engineering.core.version import __version__
from machine_learning_engineering.observability.rate_limit import FIELDS, RATE_LIMITED, RateLimitFilter, event_fields
from machine_learning_engineering.observability.trace import trace_ids
from machine_learning_engineering.settings import KernelSettings, load_settings

ECS_VERSION = "8.11.0"
OWN_LOGGERS = ("inflight", "machine_learning_engineering")
"""Loggers of events and of the SDK. Their level is `INFLIGHT_LOG_LEVEL`; libraries log warnings and errors only."""
# Valid in a JSON string, but many programs take them for the end of a line.
_LINE_BREAKS = {ord(char): ascii(char)[1:-1].replace("\\x", "\\u00") for char in "\x85\u2028\u2029"}
_FIELD_NAMES = {
    "error": "error.message",
    "model": "inflight.model.name",
    "version": "inflight.model.version",
    "model_version": "inflight.model.version",
}
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}


def configure_logging(
    service: str, settings: KernelSettings, stream: TextIO | None = None, *, packages: Sequence[str] = ()
) -> None:
    """Send all messages of this process to standard error.

    Args:
        service: Name of the service, such as ``worker``.
        settings: Format and level.
        stream: Replaces standard error.
        packages: Packages of the process, whose loggers get the level of the settings as `OWN_LOGGERS` do.
    """
    stream = sys.stderr if stream is None else stream
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    formatter: logging.Formatter
    if text:
        formatter = TextFormatter(colours=stream.isatty(), values=settings.log_error_values)
    else:
        formatter = EcsFormatter(service, values=settings.log_error_values)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(RateLimitFilter())
    root = logging.getLogger()
    for other in tuple(root.handlers):
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in (*OWN_LOGGERS, *packages):
        logging.getLogger(name).setLevel(settings.log_level.upper())
    warnings.showwarning = partial(_warned, settings.log_error_values)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def request_context(request_id: str, model: str, traceparent: Any = None) -> dict[str, Any]:
    """Return the `extra` of a message about one request: its trace, its id and its model.

    Such messages are rate-limited and never hold the message of an exception.
    """
    fields: dict[str, Any] = {"inflight.request_id": request_id, "inflight.model.name": model}
    if isinstance(traceparent, str) and (trace := trace_ids(traceparent)):
        fields["trace.id"], fields["span.id"] = trace
    return {FIELDS: fields, "about_request": True, **RATE_LIMITED}


def log_event(process: str, event: str, **fields: Any) -> None:
    """Log an event of a process.

    The level is warning if there is an `error` or a `cause`, else info.

    Args:
        process: Name of the process, such as ``indexer``.
        event: Name of the event, such as ``commit_failed``.
        fields: Fields of the event. `traceparent` becomes the trace of the line; `model`, `version` and `request_id`
            name the model and the request.
    """
    if not logging.getLogger().handlers:
        # The process did not call `configure_logging`.
        configure_logging(process, load_settings())
    level = logging.WARNING if "error" in fields or "cause" in fields else logging.INFO
    ecs: dict[str, Any] = {"event.action": event}
    if isinstance(traceparent := fields.pop("traceparent", None), str) and (trace := trace_ids(traceparent)):
        ecs["trace.id"], ecs["span.id"] = trace
    for name, value in fields.items():
        if isinstance(value, BaseException):
            value = safe_message(value)
        ecs[_FIELD_NAMES.get(name, f"inflight.{name}")] = value
    logging.getLogger(f"inflight.{process}").log(level, event.replace("_", " "), extra={FIELDS: ecs})


class EcsFormatter(logging.Formatter):
    """Formats a record as a line of JSON with fields of the Elastic Common Schema; custom fields are `inflight.*`."""

    def __init__(self, service: str, *, values: bool = False) -> None:
        super().__init__()
        self._values = values
        self._own = {
            "ecs.version": ECS_VERSION,
            "service.name": f"inflight-{service}",
            "service.type": "inflight",
            "service.version": __version__,
            "service.node.name": socket.gethostname(),
            "event.dataset": f"inflight.{service}",
            "process.pid": os.getpid(),
        }
        self._encoder = msgspec.json.Encoder(enc_hook=_as_text)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "@timestamp": at.replace("+00:00", "Z"),
            "log.level": record.levelname.lower(),
            "message": message(record, values=self._values),
            **self._own,
            "process.thread.name": record.threadName,
            "log.logger": record.name,
            **event_fields(record),
            **_error(record, values=self._values),
        }
        try:
            text = self._encoder.encode(line).decode()
        except (ValueError, TypeError, RecursionError):
            # A lone surrogate, or a value that JSON cannot hold: escape everything rather than lose the line.
            return self._encoder.encode({name: ascii(value) for name, value in line.items()}).decode()
        return text if text.isascii() else text.translate(_LINE_BREAKS)


class TextFormatter(logging.Formatter):
    """Formats a record as a line for a terminal, followed by the traceback if there is one."""

    def __init__(self, *, colours: bool, values: bool = False) -> None:
        super().__init__()
        self._colours = colours
        self._values = values

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its last line break."""
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        error = _error(record, values=self._values)
        trace = error.pop("error.stack_trace", "")
        if error.get("error.message") in (None, error.get("error.type")):
            error.pop("error.message", None)
        fields = {name: value for name, value in {**event_fields(record), **error}.items() if name != "event.action"}
        tail = "".join(f"  {name.removeprefix('inflight.')}={_one_line(value)}" for name, value in fields.items())
        level = f"{record.levelname:<8}"
        if self._colours and record.levelno in _COLOURS:
            level = f"\033[{_COLOURS[record.levelno]}m{level}\033[0m"
        line = f"{at} {level} {record.name}: {_one_line(message(record, values=self._values))}{tail}"
        return f"{line}\n{trace.rstrip()}" if trace else line


def message(record: logging.LogRecord, *, values: bool = False) -> str:
    """Return the message of a record. Exceptions among its arguments are replaced by their safe descriptions."""
    if values:
        return record.getMessage()
    args: Any = record.args
    if isinstance(args, tuple):
        args = tuple(map(_safe, args))
    elif isinstance(args, Mapping):
        args = {name: _safe(value) for name, value in args.items()}
    text = safe_message(record.msg) if isinstance(record.msg, BaseException) else _text(record.msg)
    try:
        text = text % args if args else text
    except Exception:
        # The arguments do not fit the format, or one cannot be formatted: `logging` would print them with a traceback.
        return text
    # After the first line, asyncio prints the objects involved, with their exceptions.
    return text.partition("\n")[0] if record.name == "asyncio" else text


def _safe(value: Any) -> Any:
    return safe_message(value) if isinstance(value, BaseException) else value


def _error(record: logging.LogRecord, *, values: bool) -> dict[str, Any]:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    plain = not hasattr(record, "about_request")
    found = {
        "error.type": type_name(error),
        "error.stack_trace": stack_trace(error, infrastructure_messages=plain, all_messages=values),
    }
    if values or (plain and is_infrastructure_error(error)):
        found["error.message"] = str(error)
    return found


def _as_text(value: Any) -> str:
    return safe_message(value) if isinstance(value, BaseException) else _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__} that cannot be formatted>"


def _one_line(value: Any) -> str:
    """Escape what would break the line or move the cursor of a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def _warned(
    values: bool,
    text: Warning | str,
    kind: type[Warning],
    path: str,
    number: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a Python warning without its message: scikit-learn's, for example, quote unknown categories."""
    origin = f"{kind.__name__} at {Path(path).name}:{number}"
    logging.getLogger("py.warnings").warning("%s", f"{origin}: {text}" if values else origin)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("inflight").critical("uncaught exception", exc_info=(kind, error, trace))


def _unraisable(found: Any) -> None:
    """Log an exception that cannot propagate: in a destructor, or in a function that C code calls."""
    error = found.exc_value
    logging.getLogger("inflight").error(
        "unraisable exception", exc_info=(found.exc_type, error, found.exc_traceback) if error else None
    )


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is None or issubclass(found.exc_type, SystemExit):
        return
    thread = found.thread.name if found.thread else "unknown"
    logging.getLogger("inflight").critical(
        "uncaught exception in thread %s", thread, exc_info=(found.exc_type, found.exc_value, found.exc_traceback)
    )
