"""The path of one request: its records in time order, and what is missing. Nothing here does input or output."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from monitoring.runtime.groups import INDEXER, LABEL_JOINER, WORKER

Stage = Literal["request", "result", "log", "shadow", "dead_letter", "label"]
Repeat = Literal["equal", "different"]
STAGES: tuple[Stage, ...] = ("request", "result", "log", "shadow", "dead_letter", "label")
"""In the order in which records with equal timestamps follow one another."""


class Position(NamedTuple):
    """Where a record is: the topic's name has no prefix."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic} {self.partition}:{self.offset}"


class Step(Struct, frozen=True):
    """One record about the request.

    `at` is the record's timestamp: for a request, when the broker accepted it. `repeat` is None for the first record of
    its stage; later ones are `equal` to the first one or `different`. `origin` is the position of the record that a log
    record or a dead letter is about. `details` are the fields to show, by name; values of features, predictions and
    labels are among them only on demand.
    """

    at: datetime
    stage: Stage
    position: Position
    details: dict[str, Any]
    origin: Position | None = None
    repeat: Repeat | None = None


class Document(Struct, frozen=True):
    """The request's document in Elasticsearch."""

    index: str
    id: str
    details: dict[str, Any]


class Path(Struct, frozen=True):
    """All that is known of a request. `omitted` counts, by stage, records beyond the limit; `missing` are sentences."""

    request_id: str
    steps: list[Step]
    documents: list[Document]
    omitted: dict[str, int]
    missing: list[str]

    @property
    def found(self) -> bool:
        """Whether anything is known of it."""
        return bool(self.steps or self.documents)


Committed = Callable[[str, str, int], int | None]
"""Given group, topic and partition: the offset that the group has committed, None if it has committed none."""


def build_path(
    request_id: str,
    steps: Iterable[Step],
    omitted: dict[str, int],
    documents: list[Document] | str,
    committed: Committed,
) -> Path:
    """Put the records of a request in order and state what is missing.

    Args:
        documents: those in the index, or why it could not be asked.
        committed: asked about the positions of records without an outcome only.
    """
    ordered = sorted(steps, key=lambda step: (step.at, STAGES.index(step.stage), step.position))
    found = [] if isinstance(documents, str) else documents
    missing = _missing_outcomes(ordered, committed)
    if isinstance(documents, str):
        missing.append(f"document unknown: {documents}")
    elif not documents:
        missing += _waiting(ordered, "log", "no document yet", INDEXER, "the indexer", committed)
    elif not any(document.details.get("labelled") for document in documents):
        missing += _waiting(
            ordered, "label", "label not in the document yet", LABEL_JOINER, "the label joiner", committed
        )
    return Path(request_id, ordered, found, omitted, missing)


def _missing_outcomes(steps: list[Step], committed: Committed) -> list[str]:
    by_stage = {stage: [step for step in steps if step.stage == stage] for stage in STAGES}
    answered = {step.origin for step in steps if step.origin is not None}
    missing = []
    if steps and not by_stage["request"]:
        missing.append("no request: retention has deleted it, or its id cannot be read, or it is before --since")
    missing += [
        _unanswered("no outcome yet", step, WORKER, "the worker", committed)
        for step in by_stage["request"]
        if step.position not in answered
    ]
    if by_stage["log"] and not by_stage["result"]:
        missing.append("no result: there is a log record, so retention has deleted the result, or it is before --since")
    if by_stage["result"] and not by_stage["log"] and not missing:
        missing.append("no log record: retention has deleted it, or it is before --since")
    return missing


def _waiting(
    steps: list[Step], stage: Stage, what: str, group: str, process: str, committed: Committed
) -> Iterable[str]:
    # The first record counts: later ones have the same document. A rejected one is among the dead letters.
    rejected = {step.origin for step in steps if step.stage == "dead_letter"}
    first = next((step for step in steps if step.stage == stage), None)
    if first is not None and first.position not in rejected:
        yield _unanswered(what, first, group, process, committed)


def _unanswered(what: str, step: Step, group: str, process: str, committed: Committed) -> str:
    topic, partition, offset = step.position
    at = committed(group, topic, partition)
    if at is None:
        return f"{what}: {process} has committed nothing of partition {partition} of {topic}; does it run?"
    if at > offset:
        return (
            f"{what}: {process} has committed offset {at} of partition {partition} of {topic}, after {step.position}: "
            "it is done with this record"
        )
    ahead = offset - at
    return (
        f"{what}: {process} has committed offset {at} of partition {partition} of {topic}; "
        f"{ahead:,} {'record is' if ahead == 1 else 'records are'} ahead of {step.position}"
    )
