"""An order: the rows of one HTTP request, as requests of the stream, with the ids that a retry gets again."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from msgspec import Raw

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.fingerprint import fingerprint
from machine_learning_engineering.events.headers import FINGERPRINT, MAX_TRACEPARENT_BYTES
from machine_learning_engineering.events.schemas import PredictionRequested
from machine_learning_engineering.observability.trace import TRACEPARENT, trace_ids
from producers.gateway.openapi_parts import IDEMPOTENCY_KEY
from producers.gateway.problems import Problem
from producers.gateway.stream import NewRequest
from producers.request_builder import new_traceparent

SEPARATOR = "~"
"""Between the id of a batch and the number of a row. No `Idempotency-Key` contains it."""
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY)
_RECORD_KEY = re.compile("[!-~]{1,256}")
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6}(?:\.\d{1,3})?)\"?")
_MAX_TRACESTATE = 512


class Order(NamedTuple):
    """Rows to predict.

    `request_id` is that of the only row, or of the batch if `many`. If the caller has chosen it, `named` is true: then
    it may be known already. `fingerprint` is of the whole body.
    """

    request_id: str
    model: str
    rows: list[Raw]
    many: bool
    named: bool
    fingerprint: str
    record_key: bytes | None
    traceparent: str
    tracestate: str

    @property
    def ids(self) -> list[str]:
        """The request id of each row."""
        return row_ids(self.request_id, len(self.rows)) if self.many else [self.request_id]

    def request(self, number: int) -> NewRequest:
        """The request of a row."""
        request_id = self.ids[number] if self.many else self.request_id
        event = PredictionRequested(request_id, self.model, self.rows[number], datetime.now(UTC))
        headers = [(TRACEPARENT, self.traceparent.encode()), (FINGERPRINT, self.fingerprint.encode())]
        if self.tracestate:
            headers.append(("tracestate", self.tracestate.encode()))
        key = request_id.encode() if self.record_key is None else self.record_key
        return NewRequest(request_id, key, events.encode(event), self.fingerprint, headers)


class Preference(NamedTuple):
    """How long a caller waits (RFC 7240). `seconds` is None without a wish."""

    seconds: float | None
    respond_async: bool


def new_order(headers: Mapping[str, str], model: str, rows: list[Raw], *, many: bool) -> Order:
    """The order of an HTTP request.

    Raises:
        Problem: a header is malformed.
    """
    wanted = headers.get("idempotency-key")
    if wanted is not None:
        # The draft of the standard wants it in quotes; most clients don't.
        wanted = wanted.strip().removeprefix('"').removesuffix('"')
        if not _IDEMPOTENCY_KEY.fullmatch(wanted):
            message = (
                "Idempotency-Key: use up to 200 letters, digits and . _ : @ = + -, such as a UUID; it becomes the id "
                "of the request"
            )
            raise Problem("malformed-request", message, field="Idempotency-Key")
    record_key = headers.get("x-record-key")
    if record_key is not None and not _RECORD_KEY.fullmatch(record_key):
        message = "X-Record-Key: use 1 to 256 visible ASCII characters"
        raise Problem("malformed-request", message, field="X-Record-Key")
    traceparent = headers.get(TRACEPARENT, "")
    known = len(traceparent) <= MAX_TRACEPARENT_BYTES and trace_ids(traceparent) is not None
    tracestate = headers.get("tracestate", "") if known else ""
    return Order(
        wanted or str(uuid4()),
        model,
        rows,
        many,
        wanted is not None,
        fingerprint_of_body(model, rows, many=many),
        None if record_key is None else record_key.encode(),
        traceparent if known else new_traceparent(),
        tracestate if tracestate.isascii() and len(tracestate) <= _MAX_TRACESTATE else "",
    )


def require_small(order: Order, limit: int) -> None:
    """Check that each row fits into a request of `limit` bytes.

    Raises:
        Problem: one does not; it names the row.
    """
    # What the request adds to the features: names, ids, time.
    allowed = limit - len(order.model) - len(order.request_id) - 200
    for number, row in enumerate(order.rows):
        if len(memoryview(row)) > allowed:
            which = f"rows[{number}]" if order.many else "features"
            raise Problem("too-large", f"{which}: a row may have some {allowed:,} bytes", field=which)


def fingerprint_of_body(model: str, rows: list[Raw], *, many: bool) -> str:
    """What the header `FINGERPRINT` says: for one row as the prediction log has it, for many with their number."""
    if not many:
        return fingerprint(model, rows[0])
    return f"{fingerprint(model, Raw(b'[' + b','.join(map(bytes, rows)) + b']'))}-{len(rows)}"


def rows_of(fingerprint_header: str) -> int:
    """The number of rows that a header says; 0 if the request was not one of a batch."""
    number = fingerprint_header.partition("-")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else 0


def row_ids(batch_id: str, count: int) -> list[str]:
    """The ids of the rows of a batch."""
    return [f"{batch_id}{SEPARATOR}{number}" for number in range(count)]


def preference(prefer: str) -> Preference:
    """Read the header `Prefer`; what it says else is ignored, as the standard wants."""
    parts = [part.strip().lower() for part in prefer.split(",")]
    wait = next((found for part in parts if (found := _WAIT.fullmatch(part))), None)
    return Preference(None if wait is None else float(wait[1]), "respond-async" in parts)
