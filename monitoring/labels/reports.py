"""Reported labels, and which one of a request counts. No I/O."""

from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import msgspec

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.core.validation import redact_decoder_message
from machine_learning_engineering.dead_letters.writer import RejectedRecord
from machine_learning_engineering.events.headers import RecordHeaders
from machine_learning_engineering.events.labels import InvalidLabel, LabelTooLarge, read_label
from machine_learning_engineering.events.record_time import recorded_at
from machine_learning_engineering.events.unreadable import UnreadableRecord

STAGE = "label"
UNDECODABLE = "undecodable_label"
INVALID = "invalid_label"
WRONG_MODEL = "wrong_model_label"
UNMATCHED = "unmatched_label"
REJECTED = "rejected_label"
MAX_SOURCE_BYTES = 256
"""Maximum length of a source that is stored with a label."""


class Record(Protocol):
    """A record of the topic of labels: a Kafka message, or that of a pending label."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> RecordHeaders | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class Rank(NamedTuple):
    """Of two labels of a request, the greater counts: the one observed last and, at the same time, reported last.

    The text breaks a tie of the same millisecond. It makes the outcome independent of the order in which labels arrive.
    """

    observed_at: datetime
    reported_at: datetime
    label: str


NEVER = datetime.min.replace(tzinfo=UTC)
"""Time of observation of a label that has none: any report counts more."""


class Report(NamedTuple):
    """One reported label: `label` is its canonical JSON text, `reported_at` the time of its record."""

    record: Record
    request_id: str
    model: str
    label: str
    observed_at: datetime
    reported_at: datetime

    @property
    def rank(self) -> Rank:
        """Decides between this label and another one of the request."""
        return Rank(self.observed_at, self.reported_at, self.label)

    @property
    def source(self) -> str:
        """The `ce_source` of the record, shortened; empty if it has none that is text."""
        for name, value in self.record.headers() or ():
            if name == "ce_source":
                return (value or b"")[:MAX_SOURCE_BYTES].decode(errors="replace")
        return ""

    def dead_letter(self, reason: str, explanation: str) -> RejectedRecord:
        """The record as a dead letter."""
        return RejectedRecord(self.record, reason, explanation, self.model, self.request_id)


def read(record: Record) -> Report | RejectedRecord:
    """The label of a record, or the record as a dead letter."""
    if isinstance(record, UnreadableRecord):
        return RejectedRecord(record, record.reason, record.explanation)
    try:
        event = read_label(record)
    except InvalidLabel as error:
        return RejectedRecord(record, INVALID, str(error))
    except (LabelTooLarge, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else redact_decoder_message(error)
        return RejectedRecord(record, UNDECODABLE, f"not a label: {why}")
    text = canonical_json(event.label)
    if text is None or text == b"null":
        why = "the label is null" if text == b"null" else "the label is not a readable JSON value"
        return RejectedRecord(record, INVALID, why, event.model, event.request_id)
    reported_at = recorded_at(record) or NEVER
    return Report(record, event.request_id, event.model, text.decode(), event.observed_at, reported_at)


def counts_more(held: Rank | None, report: Report) -> bool:
    """Whether a document that holds a label, or none, has to be written."""
    return held is None or held < report.rank


def compare(held: Rank | None, report: Report) -> str:
    """The result of a report for a document that holds a label, or none.

    Returns:
        "joined" or "replaced" if the document gets another label; "repeated" or "superseded" if not.
    """
    if held is None:
        return "joined"
    if (held.observed_at, held.label) == (report.observed_at, report.label):
        # Written all the same if it was reported later: it beats whatever was reported in between.
        return "repeated"
    return "replaced" if held < report.rank else "superseded"
