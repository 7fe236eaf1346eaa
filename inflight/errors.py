"""How a command ends when it fails: one line on standard error that names the fix, and an exit code.

Exit code 2: something outside the command is missing or wrong: an unavailable broker, Elasticsearch or Kibana, a
setting, or an argument. Exit code 1: the command ran and its answer is no, or its job failed.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from inflight.rendering import render_text

UNAVAILABLE, FAILED = 2, 1
_BROKER_ERRORS = ("KafkaTimeoutError", "KafkaException", "KafkaConnectionError", "NoBrokersLeftError")


def print_error(message: object) -> None:
    """Print one line on standard error, with the prefix that all errors have."""
    typer.echo(f"error: {render_text(str(message))}", err=True)


def exit_with(message: object, code: int = UNAVAILABLE) -> typer.Exit:
    """Print an error; return what to raise for it."""
    print_error(message)
    return typer.Exit(code)


def exit_for(
    error: BaseException, *expected: type[BaseException], failed: tuple[type[BaseException], ...] = (), port: str = ""
) -> BaseException:
    """The exception to raise for an error: an expected error is printed and becomes an exit code, a bug stays as it is.

    Errors of Kafka and Elasticsearch clients and of the operating system are always expected.

    Args:
        expected: further kinds of errors whose message names the fix; exit code 2.
        failed: kinds of errors that mean that the job itself failed; exit code 1.
        port: the setting of the port on which the command serves its metrics.
    """
    if isinstance(error, failed):
        return exit_with(error, FAILED)
    message = _message(error, expected, port)
    return error if message is None else exit_with(message)


@contextmanager
def exits(
    *expected: type[BaseException], failed: tuple[type[BaseException], ...] = (), port: str = ""
) -> Iterator[None]:
    """Within the block, errors end the command as `exit_for` says; it describes the arguments."""
    try:
        yield
    except Exception as error:
        raise exit_for(error, *expected, failed=failed, port=port) from error


def _message(error: BaseException, expected: tuple[type[BaseException], ...], port: str) -> str | None:
    # By the names of their classes: only the commands that need a client import it.
    package, kind = type(error).__module__.partition(".")[0], type(error).__name__
    if kind in _BROKER_ERRORS:
        return _broker(error)
    if package in ("elasticsearch", "elastic_transport"):
        return _elasticsearch(error)
    if isinstance(error, expected) or kind in ("UnusableTopics", "ForeignTemplate"):
        return str(error)
    if isinstance(error, OSError):
        if port and error.errno == errno.EADDRINUSE:
            return f"the metrics port is in use: set {port} to another port for a second process; 0 takes any free one"
        # Our own reader raises it after the broker has stopped responding.
        hint = "; check `inflight status`" if isinstance(error, TimeoutError) else ""
        return f"{error}{hint}"
    return None


def require_broker() -> None:
    """Fail at once where nothing listens: clients would try for many seconds.

    Raises:
        typer.Exit: none of the servers in the settings accepts connections; the message says so.
    """
    from inflight.settings import load_settings
    from inflight.stack.probes import anything_listens

    servers = load_settings().kafka_bootstrap_servers
    if not anything_listens(servers):
        raise exit_with(_no_response(servers, "nothing listens there"))


def _broker(error: BaseException) -> str:
    from inflight.settings import load_settings

    cause = error.args[0] if error.args else error
    text = cause.str() if hasattr(cause, "str") else str(error)
    return _no_response(load_settings().kafka_bootstrap_servers, text)


def _no_response(servers: str, text: str) -> str:
    return (
        f"no response from Kafka at {servers} ({text}): check INFLIGHT_KAFKA_BOOTSTRAP_SERVERS and `inflight status`, "
        "or start a broker with `inflight up`"
    )


def _elasticsearch(error: BaseException) -> str:
    from elasticsearch import ApiError

    from inflight.settings import load_settings
    from machine_learning_engineering.settings import redact_url

    url = redact_url(load_settings().elasticsearch_url)
    if isinstance(error, ApiError) and error.meta.status in (401, 403) and "cluster_block" not in str(error):
        return f"Elasticsearch at {url} denies access: check the permissions of INFLIGHT_ELASTICSEARCH_API_KEY"
    if isinstance(error, ApiError):
        # It runs, then.
        return f"Elasticsearch at {url} (INFLIGHT_ELASTICSEARCH_URL) rejects the request: {error}"
    if type(error).__name__ == "TlsError":
        return f"{error}: set INFLIGHT_ELASTICSEARCH_CA_CERTS to the certificates of the authority behind {url}"
    return f"{error}; is Elasticsearch running at {url} (INFLIGHT_ELASTICSEARCH_URL)? Check `inflight status`"
