"""What a command says when its surroundings fail it, or its input: one line that names the fix, and exit code 2.

Exit code 1 is for answers that are a no: nothing found, a promise not kept, records refused.
"""

import errno

import typer

_BROKER_AWAY = ("KafkaTimeoutError", "KafkaException", "KafkaConnectionError")


def stopped(error: BaseException, *expected: type[BaseException], port: str = "") -> BaseException:
    """What to raise: an error of the surroundings is printed and becomes exit code 2, a bug stays what it is.

    Args:
        expected: further kinds of errors that are no bugs, and whose messages name the fix.
        port: the setting of the port on which the command serves its metrics.
    """
    told = _words(error, expected, port)
    if told is None:
        return error
    typer.echo(f"error: {told}", err=True)
    return typer.Exit(2)


def _words(error: BaseException, expected: tuple[type[BaseException], ...], port: str) -> str | None:
    # Clients are told by their names: each is imported by those commands only that need it.
    room, kind = type(error).__module__.partition(".")[0], type(error).__name__
    if kind in _BROKER_AWAY:
        return _broker(error)
    if room in ("elasticsearch", "elastic_transport"):
        return _search_node(error)
    if isinstance(error, expected):
        return str(error)
    if isinstance(error, OSError):
        if port and error.errno == errno.EADDRINUSE:
            return f"the port of the metrics is in use: set {port} to another one for a second process; 0 takes any"
        # The readers' own, which knows no errno: the broker answered, and stopped.
        hint = "; `inflight status` tells what is up" if isinstance(error, TimeoutError) else ""
        return f"{error}{hint}"
    return None


def _broker(error: BaseException) -> str:
    from machine_learning_engineering.settings import load_settings

    reason = error.args[0] if error.args else error
    words = reason.str() if hasattr(reason, "str") else str(error)
    servers = load_settings().kafka_bootstrap_servers
    return f"no answer from Kafka at {servers} ({words}): `inflight status` tells what is up, `inflight up` starts one"


def _search_node(error: BaseException) -> str:
    from elasticsearch import ApiError

    from machine_learning_engineering.settings import load_settings, redact_url

    url = redact_url(load_settings().elasticsearch_url)
    if isinstance(error, ApiError) and error.meta.status in (401, 403):
        return f"the search node {url} refuses: may the key of INFLIGHT_ELASTICSEARCH_API_KEY do this?"
    return f"{error}; is the search node of INFLIGHT_ELASTICSEARCH_URL ({url}) up? `inflight status` tells"
