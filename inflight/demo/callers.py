"""Callers of the gateway: they post diamonds over HTTP, each with a key, and retry with it until they are answered."""

import http.client
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CALLERS = 8
ANSWER_SECONDS = 120.0
"""A request that has no answer after this time ends the demo."""
_RETRY_SECONDS = 0.2
_PART = 25
_PASSING = frozenset({409, 429, 503, 504})


class NotAnswered(RuntimeError):
    """A request over HTTP got an error, or no answer in time. The message has the status and the problem."""


def post_diamonds(
    port: int, rows: Sequence[dict[str, Any]], prefix: str, on_answers: Callable[[int], None] = lambda answers: None
) -> None:
    """Post rows to `/v1/diamonds/value`, eight at a time, until each is answered.

    Args:
        port: of a gateway on this machine, without keys.
        rows: features of diamonds.
        prefix: of the request ids.
        on_answers: called with the number of further answers, by this thread.

    Raises:
        NotAnswered: a request was not answered with 200.
    """
    parts = [rows[start : start + _PART] for start in range(0, len(rows), _PART)]
    pool = ThreadPoolExecutor(CALLERS, "caller")
    try:
        calls = [pool.submit(_post_all, port, part, f"{prefix}{number:03d}") for number, part in enumerate(parts)]
        for call in calls:
            on_answers(call.result())
    finally:
        pool.shutdown(cancel_futures=True)


def _post_all(port: int, rows: Sequence[dict[str, Any]], prefix: str) -> int:
    """Post rows over one connection; return their number."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        for number, row in enumerate(rows):
            _post(connection, json.dumps(row), f"{prefix}-{number:03d}")
        return len(rows)
    finally:
        connection.close()


def _post(connection: http.client.HTTPConnection, body: str, request_id: str) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": request_id, "Prefer": "wait=30"}
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            connection.request("POST", "/v1/diamonds/value", body, headers)
            response = connection.getresponse()
            content = response.read()
            if response.status == 200:
                return
            reason = f"status {response.status}: {content[:500].decode(errors='replace')}"
            if response.status not in _PASSING:
                raise NotAnswered(f"the gateway answered {request_id} with {reason}")
        except (OSError, http.client.HTTPException) as error:
            # The next request opens a new connection.
            connection.close()
            reason = f"no answer ({type(error).__name__})"
        if time.monotonic() > deadline:
            raise NotAnswered(f"the gateway has not answered {request_id} within {ANSWER_SECONDS:.0f} s: {reason}")
        time.sleep(_RETRY_SECONDS)
