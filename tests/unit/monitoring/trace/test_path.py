"""The order of a request's records, and what is missing."""

from datetime import UTC, datetime, timedelta

from monitoring.runtime.groups import INDEXER, LABEL_JOINER, WORKER
from monitoring.trace.path import Document, Path, Position, Stage, Step, build_path

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = Position("prediction-requests", 2, 47)
INDEXED = [Document("inference-logs-2026.03.01", "r", {"outcome": "completed"})]


def step(stage: Stage, offset: int = 0, *, after: float = 0.0, origin: Position | None = None) -> Step:
    topic = {"request": "prediction-requests", "log": "prediction-logs", "label": "prediction-labels"}
    position = Position(topic.get(stage, stage), 2, offset)
    return Step(NOW + timedelta(seconds=after), stage, position, {}, origin)


def path(
    *steps: Step, documents: list[Document] | str = INDEXED, committed: dict[str, int] | None = None
) -> tuple[Path, list[tuple[str, str, int]]]:
    asked = []

    def offset(group: str, topic: str, partition: int) -> int | None:
        asked.append((group, topic, partition))
        return (committed or {}).get(group)

    return build_path("r", steps, {}, documents, offset), asked


def test_records_are_ordered_by_time_and_then_by_stage() -> None:
    """Clocks of broker and worker have milliseconds: equal ones are common."""
    log, result, request = step("log", 1, origin=REQUEST), step("result"), step("request", 47)
    earlier = step("label", after=-5)
    found, _ = path(log, result, request, earlier)
    assert [one.stage for one in found.steps] == ["label", "request", "result", "log"]


def test_a_complete_path_has_nothing_missing_and_asks_nobody() -> None:
    """Committed offsets cost a request to the broker each."""
    found, asked = path(step("request", 47), step("result"), step("log", origin=REQUEST))
    assert (found.missing, asked, found.found) == ([], [], True)


def test_a_request_without_outcome_has_the_distance_to_the_committed_offset() -> None:
    """So that one sees whether the worker is slow or dead."""
    found, asked = path(step("request", 47), documents=[], committed={WORKER: 41})
    assert asked == [(WORKER, "prediction-requests", 2)]
    assert found.missing == [
        "no outcome yet: the worker has committed offset 41 of partition 2 of prediction-requests; "
        "6 records are ahead of prediction-requests 2:47"
    ]
    (nothing,) = path(step("request", 47), documents=[])[0].missing
    assert "has committed nothing of partition 2" in nothing
    (done,) = path(step("request", 47), documents=[], committed={WORKER: 48})[0].missing
    assert "it is done with this record" in done


def test_a_dead_letter_is_an_outcome() -> None:
    """There is no result then, no log record and no document."""
    found, asked = path(step("request", 47), step("dead_letter", origin=REQUEST), documents=[])
    assert (found.missing, asked) == ([], [])


def test_each_duplicate_needs_an_outcome_of_its_own() -> None:
    """The first one's does not count for the second."""
    steps = step("request", 47), step("request", 50, after=1), step("result"), step("log", origin=REQUEST)
    found, _ = path(*steps, committed={WORKER: 50})
    assert len(found.missing) == 1
    assert found.missing[0].endswith("0 records are ahead of prediction-requests 2:50")


def test_a_log_record_without_a_document_waits_for_the_indexer() -> None:
    """Unless the log record itself is a dead letter."""
    answered = step("request", 47), step("result"), step("log", 9, origin=REQUEST)
    found, _ = path(*answered, documents=[], committed={INDEXER: 8})
    assert found.missing[0].endswith("1 record is ahead of prediction-logs 2:9")
    rejected = step("dead_letter", origin=Position("prediction-logs", 2, 9))
    assert path(*answered, rejected, documents=[])[0].missing == []


def test_a_label_that_is_not_in_the_document_waits_for_the_label_joiner() -> None:
    """Without a label there is nothing to join."""
    answered = step("request", 47), step("result"), step("log", origin=REQUEST)
    _, asked = path(*answered, step("label", 3))
    assert asked == [(LABEL_JOINER, "prediction-labels", 2)]
    labelled = [Document("inference-logs-2026.03.01", "r", {"labelled": True})]
    assert path(*answered, step("label", 3), documents=labelled)[0].missing == []


def test_an_unreachable_elasticsearch_is_missing_knowledge_and_no_missing_document() -> None:
    """The topics are shown all the same."""
    found, _ = path(step("request", 47), step("result"), step("log", origin=REQUEST), documents="no response")
    assert found.missing == ["document unknown: no response"]
    assert not path(documents="no response")[0].found


def test_records_that_retention_deleted_are_named() -> None:
    """Topics lose their heads independently."""
    log_only, _ = path(step("log", origin=REQUEST))
    assert [reason.partition(":")[0] for reason in log_only.missing] == ["no request", "no result"]
