"""What a process says of itself: one line for each event, as ECS JSON or as text, on standard error.

Everything that is logged takes this way: our own lines, those of libraries, warnings and uncaught exceptions. No line
holds a value of a request: exceptions are told by type and place, see `error_text`.
"""

import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import msgspec

from machine_learning_engineering import __version__
from machine_learning_engineering.core.error_text import is_infrastructure_error, safe_message, stack_trace, type_name
from machine_learning_engineering.observability.rate_limit import FIELDS, RATE_LIMITED, RateLimitFilter, event_fields
from machine_learning_engineering.observability.trace import trace_ids
from machine_learning_engineering.settings import KernelSettings

ECS_VERSION = "8.11.0"
OWN_LOGGERS = ("machine_learning_engineering", "inflight", "model", "monitoring", "producers", "stream_app")
"""Loggers that obey `INFLIGHT_LOG_LEVEL`; those of libraries say warnings and errors only."""
# JSON allows them in a text, and many a program takes them for the end of a line.
_LINE_BREAKS = {ord(char): ascii(char)[1:-1].replace("\\x", "\\u00") for char in "\x85\u2028\u2029"}
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}


def configure_logging(service: str, settings: KernelSettings, stream: TextIO | None = None) -> None:
    """Send all that this process logs to standard error, under the name of a service, such as ``worker``."""
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
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    warnings.showwarning = partial(_warned, settings.log_error_values)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def request_context(request_id: str, model: str, traceparent: Any = None) -> dict[str, Any]:
    """The `extra` of a line about one request: its trace, its id and its model.

    Such lines never hold the text of an exception, and of many that are alike only the first few are written.
    """
    fields: dict[str, Any] = {"inflight.request_id": request_id, "inflight.model": model}
    if isinstance(traceparent, str) and (trace := trace_ids(traceparent)):
        fields["trace.id"], fields["span.id"] = trace
    return {FIELDS: fields, "about_request": True, **RATE_LIMITED}


def log_event(process: str, event: str, **fields: Any) -> None:
    """Log an event of a process by its name, such as ``commit_failed``, with fields of its own.

    It is a warning where there is an `error` or a `cause`. `traceparent` becomes the trace of the line, and `model` and
    `request_id` name the request.
    """
    if not logging.getLogger().handlers:
        # A process whose command did not begin with `start`.
        from machine_learning_engineering.settings import load_settings

        configure_logging(process, load_settings())
    level = logging.WARNING if "error" in fields or "cause" in fields else logging.INFO
    ecs: dict[str, Any] = {"event.action": event}
    if isinstance(traceparent := fields.pop("traceparent", None), str) and (trace := trace_ids(traceparent)):
        ecs["trace.id"], ecs["span.id"] = trace
    for name, value in fields.items():
        if isinstance(value, BaseException):
            value = safe_message(value)
        ecs["error.message" if name == "error" else f"inflight.{name}"] = value
    logging.getLogger(f"monitoring.{process}").log(level, event.replace("-", " "), extra={FIELDS: ecs})


class EcsFormatter(logging.Formatter):
    """One JSON object a line, in the fields of the Elastic Common Schema; our own are `inflight.*`."""

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
        """The line, without its line break."""
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
            # A lone surrogate, or what can't be JSON: escaped, so that the line is written all the same.
            return self._encoder.encode({name: ascii(value) for name, value in line.items()}).decode()
        return text if text.isascii() else text.translate(_LINE_BREAKS)


class TextFormatter(logging.Formatter):
    """A line for a person at a terminal, and below it the traceback, if there is one."""

    def __init__(self, *, colours: bool, values: bool = False) -> None:
        super().__init__()
        self._colours = colours
        self._values = values

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its last line break."""
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
    """The text of a line. An exception in it, as many libraries write, is told in words without values."""
    if values:
        return record.getMessage()
    told: Any = record.args
    if isinstance(told, tuple):
        told = tuple(map(_told, told))
    elif isinstance(told, Mapping):
        told = {name: _told(value) for name, value in told.items()}
    text = safe_message(record.msg) if isinstance(record.msg, BaseException) else _text(record.msg)
    try:
        text = text % told if told else text
    except Exception:
        # Words and values do not fit, or a value can't be told: `logging` would print them with what was raised.
        return text
    # Below its first line asyncio prints the objects that were involved, with their exceptions.
    return text.partition("\n")[0] if record.name == "asyncio" else text


def _told(value: Any) -> Any:
    return safe_message(value) if isinstance(value, BaseException) else value


def _error(record: logging.LogRecord, *, values: bool) -> dict[str, Any]:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    plain = not hasattr(record, "about_request")
    found = {"error.type": type_name(error), "error.stack_trace": stack_trace(error, infrastructure_messages=plain, all_messages=values)}
    if values or (plain and is_infrastructure_error(error)):
        found["error.message"] = str(error)
    return found


def _as_text(value: Any) -> str:
    return safe_message(value) if isinstance(value, BaseException) else _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__} that can't be told>"


def _one_line(value: Any) -> str:
    """A value for a terminal: nothing in it breaks the line or moves the cursor."""
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
    """Log a warning of Python. Scikit-learn's, for one, quote the categories that they do not know."""
    told = f"{kind.__name__} at {Path(path).name}:{number}"
    logging.getLogger("py.warnings").warning("%s", f"{told}: {text}" if values else told)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("inflight").critical("uncaught exception", exc_info=(kind, error, trace))


def _unraisable(found: Any) -> None:
    """Log what came up where nobody can catch it: in a destructor, or in a function that C code calls."""
    error = found.exc_value
    logging.getLogger("inflight").error(
        "exception where none can be raised", exc_info=(found.exc_type, error, found.exc_traceback) if error else None
    )


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is None or issubclass(found.exc_type, SystemExit):
        return
    thread = found.thread.name if found.thread else "unknown"
    logging.getLogger("inflight").critical(
        "uncaught exception in thread %s", thread, exc_info=(found.exc_type, found.exc_value, found.exc_traceback)
    )
