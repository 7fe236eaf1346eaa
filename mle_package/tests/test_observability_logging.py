"""The service log: every line is ECS JSON, whoever logs it, and none holds a value."""

import asyncio
import gc
import io
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.logging import EcsFormatter, TextFormatter, log_event, request_context
from machine_learning_engineering.observability.rate_limit import RateLimitFilter
from machine_learning_engineering.settings import KernelSettings

CANARY = "CANARY7f3a"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# The fields of ECS 8.11 that a line may have; others have to begin with "inflight.".
ECS = {
    "@timestamp",
    "message",
    "ecs.version",
    "error.message",
    "error.stack_trace",
    "error.type",
    "event.action",
    "event.dataset",
    "log.level",
    "log.logger",
    "process.pid",
    "process.thread.name",
    "service.name",
    "service.node.name",
    "service.type",
    "service.version",
    "span.id",
    "trace.id",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Collections of garbage, of which there are many here, leave out what earlier tests have made."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts back what `start` changes in this process."""
    # What other tests left to the garbage collector, sockets for one, would be complained of in the log of this one.
    gc.collect()
    gc.disable()
    # And what its threads may still have to say of brokers that are gone is not the subject here.
    kafka = logging.getLogger("kafka")
    kafka_disabled, kafka.disabled = kafka.disabled, True
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in (*service_log.OWN_LOGGERS, "stream_app")}
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield
    gc.enable()
    kafka.disabled = kafka_disabled
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def settings(**changes: Any) -> KernelSettings:
    return KernelSettings(_env_file=None, **changes)  # type: ignore[call-arg]


class Log:
    """What a started service wrote."""

    def __init__(self, **changes: Any) -> None:
        self.stream = io.StringIO()
        service_log.configure_logging("worker", settings(**changes), self.stream, packages=["stream_app"])

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def line(self) -> dict[str, Any]:
        (found,) = self.lines()
        return found


@pytest.fixture
def log(restored: None) -> Log:
    return Log()


def fail(value: object) -> None:
    raise ValueError(f"{value} is not a number")


def test_a_line_is_ecs(log: Log) -> None:
    """Who, what, when and how serious, in the fields that Kibana knows."""
    logging.getLogger("stream_app.worker").info("serving %s %s", "diamonds", "3")
    line = log.line()
    assert set(line) <= ECS
    assert (line["log.level"], line["message"]) == ("info", "serving diamonds 3")
    assert (line["service.name"], line["event.dataset"]) == ("inflight-worker", "inflight.worker")
    assert (line["ecs.version"], line["log.logger"]) == ("8.11.0", "stream_app.worker")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["@timestamp"])


def test_a_line_about_a_request_has_its_trace_and_no_text_of_an_exception(log: Log) -> None:
    """Type, place and traceback; what the exception says may be what the customer said."""
    try:
        try:
            fail(CANARY)
        except ValueError as error:
            raise FileNotFoundError(CANARY) from error
    except FileNotFoundError:
        logging.getLogger("stream_app.serving.scorer").warning(
            "it failed", exc_info=True, extra=request_context("r1", "titanic", TRACE)
        )
    line = log.line()
    assert set(line) - ECS == {"inflight.request_id", "inflight.model.name"}
    assert (line["trace.id"], line["span.id"]) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert line["error.type"] == "FileNotFoundError"
    assert "in fail" in line["error.stack_trace"]
    assert "ValueError" in line["error.stack_trace"]
    assert CANARY not in log.stream.getvalue()


def test_exceptions_of_machines_speak_for_themselves(log: Log) -> None:
    """Where no request is concerned: that a connection was refused is what the operator has to know."""
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError:
        logging.getLogger("monitoring.indexer.process").warning("no answer", exc_info=True)
    assert log.line()["error.message"] == "[Errno 111] Connection refused"


@pytest.mark.parametrize("write", [lambda one, e: one.error("crashed: %r", e), lambda one, e: one.error(e)])
def test_exceptions_that_a_library_writes_into_its_line_are_told_without_values(log: Log, write: Any) -> None:
    """As Faust does it."""
    write(logging.getLogger("faust.agents"), ValueError(CANARY))
    assert CANARY not in log.stream.getvalue()
    assert "ValueError" in log.line()["message"]


def test_a_task_that_nobody_awaits(log: Log) -> None:
    """asyncio prints the task, and with it the exception."""

    async def main() -> None:
        await asyncio.wait([asyncio.get_running_loop().create_task(asyncio.to_thread(fail, CANARY))])

    asyncio.run(main())
    gc.collect()
    assert "never retrieved" in log.line()["message"]
    assert CANARY not in log.stream.getvalue()


def test_warnings_are_told_by_category_and_place(log: Log) -> None:
    """Scikit-learn quotes the categories that it does not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        service_log.configure_logging("worker", settings(), log.stream)
        warnings.warn(f"Found unknown categories ['{CANARY}']", UserWarning, stacklevel=1)
    assert log.line()["message"].startswith("UserWarning at test_observability_logging.py:")
    assert CANARY not in log.stream.getvalue()


def test_an_uncaught_exception_is_one_line(log: Log) -> None:
    """In the main thread and in others."""
    thread = threading.Thread(target=fail, args=(CANARY,), name="scoring")
    thread.start()
    thread.join()
    try:
        fail(CANARY)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    first, second = log.lines()
    assert (first["message"], first["log.level"]) == ("uncaught exception in thread scoring", "critical")
    assert (second["message"], second["error.type"]) == ("uncaught exception", "ValueError")
    assert "in fail" in second["error.stack_trace"]
    assert CANARY not in log.stream.getvalue()


def test_an_exception_that_nobody_can_catch_is_one_line(log: Log) -> None:
    """Python itself would print it with its text, past all loggers."""

    class Closing:
        def __del__(self) -> None:
            fail(CANARY)

    Closing()
    line = log.line()
    assert (line["message"], line["error.type"]) == ("unraisable exception", "ValueError")
    assert CANARY not in log.stream.getvalue()


class Untellable:
    def __str__(self) -> str:
        raise RuntimeError(CANARY)


@pytest.mark.parametrize(
    ("words", "values"),
    [("%(nme)s", ({"name": CANARY},)), ("%s", (Untellable(),)), (Untellable(), ()), ("%d", (CANARY,))],
)
def test_a_mistake_in_a_line_is_not_told_with_the_values(words: Any, values: tuple[Any, ...]) -> None:
    """Where words and values do not fit, the formatter must not raise: `logging` would print both, and the error."""
    record = logging.LogRecord("careless", logging.WARNING, "x.py", 1, words, values, None)
    for formatter in (EcsFormatter("worker"), TextFormatter(colours=False)):
        assert CANARY not in formatter.format(record)


def test_texts_of_exceptions_where_they_are_asked_for(restored: None) -> None:
    """A data scientist on a machine of one's own."""
    log = Log(log_error_values=True)
    try:
        fail(CANARY)
    except ValueError as error:
        logging.getLogger("stream_app").error("failed: %s", error, exc_info=True, extra=request_context("r", "m"))
    line = log.line()
    assert line["message"] == f"failed: {CANARY} is not a number"
    assert line["error.message"] == f"{CANARY} is not a number"
    assert line["error.stack_trace"].endswith(f"ValueError: {CANARY} is not a number\n")


def test_an_event_of_a_process(log: Log) -> None:
    """Its name is for programs, its fields are under a roof of their own."""
    log_event("indexer", "commit_failed", error="broker away", records=7, traceparent=TRACE)
    line = log.line()
    assert (line["event.action"], line["message"], line["error.message"]) == (
        "commit_failed",
        "commit failed",
        "broker away",
    )
    assert (line["inflight.records"], line["log.level"]) == (7, "warning")
    assert line["trace.id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert set(line) - ECS == {"inflight.records"}


def test_libraries_say_warnings_only_and_we_what_was_asked_for(restored: None) -> None:
    """At the level debug a library may well print what it was given."""
    log = Log(log_level="debug")
    for name in ("stream_app.runtime.scheduler", "elastic_transport.transport", "faust"):
        logging.getLogger(name).debug("x")
        logging.getLogger(name).info("x")
    assert [line["log.logger"] for line in log.lines()] == [
        "stream_app.runtime.scheduler",
        "stream_app.runtime.scheduler",
    ]


class Unprintable:
    def __str__(self) -> str:
        return "\ud800 in a text"


@example("\x85\u2028\u2029\n\x1c")
@given(st.text() | st.integers() | st.floats() | st.binary() | st.lists(st.text()) | st.builds(Unprintable))
def test_whatever_is_logged_a_line_is_one_line_of_json(value: Any) -> None:
    """Line breaks, lone surrogates, NaN, bytes, objects."""
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "%s", (value,), None)
    record.inflight_fields = {"inflight.value": value}
    line = EcsFormatter("worker").format(record)
    assert len(line.splitlines()) == 1
    assert set(json.loads(line)) <= ECS | {"inflight.value"}
    text = TextFormatter(colours=False).format(record)
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_on_a_terminal_lines_are_for_people(restored: None) -> None:
    """In colour, unless one asks for JSON."""
    for changes, is_json in (({}, False), ({"log_format": "ecs"}, True)):
        stream = Terminal()
        service_log.configure_logging("worker", settings(**changes), stream)
        log_event("indexer", "commit_failed", error="away")
        assert stream.getvalue().startswith("{") == is_json
        assert ("\033[33mWARNING" in stream.getvalue()) == (not is_json)
        assert "commit failed" in stream.getvalue()


def test_of_many_complaints_that_are_alike_the_first_few_are_written(restored: None) -> None:
    """And the next one after a while says how many were not."""
    log = Log()
    logger = logging.getLogger("stream_app.serving.scorer")
    for number in range(100):
        logger.warning("it failed", extra=request_context(str(number), "titanic"))
    assert len(log.lines()) == RateLimitFilter.MAX_LINES
    logger.warning("another place", extra=request_context("x", "titanic"))
    assert log.lines()[-1]["message"] == "another place"
    (kept,) = logging.getLogger().handlers
    (found,) = kept.filters
    assert isinstance(found, RateLimitFilter)
    found.SECONDS = -1.0
    for number in range(2):
        logger.warning("no matter", extra=request_context(str(number), "diamonds"))
    assert "inflight.lines_withheld" not in log.lines()[-1]


def test_the_number_of_withheld_lines_is_told() -> None:
    """With the first line that passes again."""
    complaints = RateLimitFilter()

    def record() -> logging.LogRecord:
        found = logging.LogRecord("x", logging.INFO, "x.py", 1, "x", (), None)
        found.__dict__.update(request_context("r", "m"))
        return found

    assert [complaints.filter(record()) for _ in range(RateLimitFilter.MAX_LINES + 5)].count(False) == 5
    complaints.SECONDS = -1.0
    last = record()
    assert complaints.filter(last)
    assert last.inflight_fields["inflight.lines_withheld"] == 5  # type: ignore[attr-defined]


def test_a_process_that_dies_of_a_bug_leaves_one_line_of_json() -> None:
    """Without any preparation but its first event."""
    program = (
        "from machine_learning_engineering.observability.logging import log_event\n"
        f"log_event('drift-monitor', 'started')\nfloat('{CANARY}')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    first, last = map(json.loads, done.stderr.splitlines())
    assert (first["service.name"], first["event.action"]) == ("inflight-drift-monitor", "started")
    assert (last["log.level"], last["error.type"]) == ("critical", "ValueError")
    assert CANARY not in done.stderr.replace(f"float('{CANARY}')", "")
