"""The oracle sees what is injected: a check that can't fail would prove nothing."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.dead_letters.writer import STAGE
from monitoring.audit.audit import Audit, Letter, Log, Request, Result, audit
from monitoring.audit.heads import Heads, TopicHead

TOPIC = "prediction-requests"


class Run:
    """What topics and index hold after a run in which all went well; a test then breaks it."""

    def __init__(self, requests: int = 0) -> None:
        self.requests: list[Request] = []
        self.results: list[Result] = []
        self.letters: list[Letter] = []
        self.logs: list[Log] = []
        self.index: list[str] = []
        for number in range(requests):
            self.ask(f"r{number}")

    def ask(
        self, request_id: str | None, body: object = "body", *, answer: object = "answer", completed: bool = True
    ) -> None:
        """One more request, answered, logged and indexed."""
        self.accept(request_id, body)
        assert request_id is not None
        self.answer(request_id, answer, completed=completed)
        if request_id not in self.index:
            self.index.append(request_id)

    def accept(self, request_id: str | None, body: object = "body") -> Request:
        offset = len(self.requests)
        self.requests.append(Request(TOPIC, offset % 3, offset, request_id, body, 1_000.0 + offset))
        return self.requests[-1]

    def answer(
        self, request_id: str, answer: object = "answer", *, completed: bool = True, version: str = "v1"
    ) -> None:
        self.results.append(Result(request_id, completed, answer, 2_000.0, version))
        self.logs.append(Log(request_id, 0.002))

    def set_aside(self, request: Request, stage: str = "decode") -> None:
        self.letters.append(Letter(*request[:3], stage, request.request_id))

    def inputs(self, index: bool = True) -> tuple[Any, ...]:
        return self.requests, self.results, self.letters, self.logs, self.index if index else None

    def audit(self, index: bool = True) -> Audit:
        return audit(*self.inputs(index))


def numbers(found: Audit, *names: str) -> dict[str, Any]:
    """The counts that tell of trouble, those that are zero left out."""
    names = names or ("lost", "duplicates", "repeats", "other_versions", "conflicts", "orphans", "unindexed")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_a_run_without_trouble() -> None:
    """Everything adds up."""
    run = Run(5)
    run.ask("bad", answer="error", completed=False)
    run.set_aside(run.accept(None, None))
    found = run.audit()
    assert numbers(found) == {}
    assert (found.accepted, found.completed, found.failed, found.dead_letters) == (7, 5, 1, 1)
    assert (found.results_seen, found.logs_seen, found.indexed_distinct) == (6, 6, 6)
    assert found.passed


def test_nothing_at_all() -> None:
    """Empty topics have no quantiles and no rate."""
    found = Run().audit()
    assert (found.accepted, found.p50_ms, found.p99_ms, found.rate_per_s) == (0, None, None, None)


def test_a_promotion_between_a_crash_and_the_second_answer_is_told_apart() -> None:
    """Two versions may differ; each of them says the same each time."""
    run = Run(2)
    run.answer("r0", "another answer", version="v2")
    found = run.audit()
    assert (numbers(found), found.passed) == ({"other_versions": 1}, True)
    run.answer("r0", "another answer", version="v2")
    assert numbers(run.audit()) == {"other_versions": 1, "repeats": 1}
    run.answer("r0", "a third one", version="v2")
    found = run.audit()
    assert (numbers(found), found.passed) == ({"other_versions": 1, "repeats": 1, "duplicates": 1}, False)


def test_a_request_without_outcome_is_lost() -> None:
    """With an id and without one."""
    run = Run(3)
    run.accept("silent")
    run.accept(None, None)
    found = run.audit()
    assert numbers(found) == {"lost": 2}
    assert not found.passed


def test_one_answer_to_two_requests_leaves_one_lost() -> None:
    """An id that is sent twice is accepted twice."""
    run = Run(1)
    run.accept("r0")
    assert numbers(run.audit()) == {"lost": 1}


def test_the_same_result_again_is_a_repeat() -> None:
    """Harmless, but it is reported, and not counted as an answer more."""
    run = Run(3)
    run.answer("r1")
    run.answer("r1")
    found = run.audit()
    assert numbers(found) == {"repeats": 2}
    assert (found.completed, found.results_seen) == (3, 5)
    assert found.passed


@pytest.mark.parametrize(("answer", "completed"), [("other", True), ("error", False)])
def test_another_result_for_the_same_request_is_a_duplicate(answer: str, completed: bool) -> None:
    """Another prediction, or completed and failed."""
    run = Run(3)
    run.answer("r1", answer, completed=completed)
    found = run.audit()
    assert numbers(found) == {"duplicates": 1}
    assert not found.passed


def test_a_result_for_a_request_that_was_set_aside_is_a_duplicate() -> None:
    """Two visible outcomes of one request."""
    run = Run(2)
    run.set_aside(run.requests[0])
    assert numbers(run.audit())["duplicates"] == 1


def test_a_dead_letter_that_was_replayed_has_one_outcome_each_time() -> None:
    """The first record was set aside, the second one answered."""
    run = Run(1)
    run.set_aside(run.accept("again"))
    run.ask("again")
    found = run.audit()
    assert numbers(found) == {}
    assert (found.accepted, found.completed, found.dead_letters) == (3, 2, 1)


def test_a_dead_letter_twice_counts_once() -> None:
    """A crash between the dead letter and the commit."""
    run = Run(1)
    request = run.accept(None, None)
    run.set_aside(request)
    run.set_aside(request)
    found = run.audit()
    assert numbers(found) == {}
    assert found.dead_letters == 1


def test_a_dead_letter_of_another_topic_excuses_nobody() -> None:
    """Partition and offset are the same, the topic is not."""
    run = Run()
    request = run.accept("r")
    run.letters.append(Letter("elsewhere", request.partition, request.offset, "decode", "r"))
    assert numbers(run.audit()) == {"lost": 1}


def test_an_id_used_for_another_question_is_a_conflict_and_not_a_duplicate() -> None:
    """Each question has its own answer."""
    run = Run(1)
    run.ask("r0", "other body", answer="other")
    assert numbers(run.audit()) == {"conflicts": 1}
    run.answer("r0", "a third")
    assert numbers(run.audit()) == {"conflicts": 1, "duplicates": 1}


def test_a_result_that_nobody_asked_for_is_an_orphan() -> None:
    """And not somebody's answer."""
    run = Run(1)
    run.answer("stranger")
    found = run.audit()
    assert numbers(found) == {"orphans": 1}
    assert found.completed == 1


def test_a_document_that_is_missing_is_unindexed() -> None:
    """Unless the indexer has set its log aside."""
    run = Run(3)
    run.index.remove("r1")
    assert numbers(run.audit()) == {"unindexed": 1}
    run.letters.append(Letter("prediction-logs", 0, 9, STAGE, "r1"))
    found = run.audit()
    assert numbers(found) == {}
    assert (found.index_dead_letters, found.dead_letters) == (1, 0)


def test_two_documents_of_one_request_are_a_duplicate() -> None:
    """In the indices of two days."""
    run = Run(2)
    run.index.append("r1")
    found = run.audit()
    assert numbers(found) == {"duplicates": 1}
    assert found.indexed_distinct == 2


def test_two_documents_of_two_requests_are_none() -> None:
    """The same request, sent before and after midnight."""
    run = Run(2)
    run.ask("r1")
    run.index.append("r1")
    assert numbers(run.audit()) == {}


def test_without_the_index_nothing_is_said_about_it() -> None:
    """None, not zero."""
    found = Run(2).audit(index=False)
    assert (found.indexed_distinct, found.unindexed) == (None, 0)


def test_quantiles_and_rate() -> None:
    """Of 100 requests, the logs in any order and one of them twice."""
    run = Run(100)
    run.logs = [Log(f"r{number}", (number + 1) / 1000) for number in reversed(range(100))] + [Log("r0", 99.0)]
    found = run.audit()
    assert (found.p50_ms, found.p99_ms) == (50.0, 99.0)
    assert found.rate_per_s == 0.1


faults = st.lists(
    st.tuples(st.sampled_from(["lose", "repeat", "duplicate", "orphan", "unindex", "double"]), st.integers(0, 19))
)


@given(faults, st.randoms(use_true_random=False))
def test_every_fault_is_counted_whatever_the_others(injected: Iterable[tuple[str, int]], shuffle: Any) -> None:
    """One kind of fault a request, any number of them, and the records of each topic in any order."""
    run = Run(20)
    expected = dict.fromkeys(("lost", "repeats", "duplicates", "orphans", "unindexed"), 0)
    touched = {number: kind for kind, number in injected}
    for number, kind in touched.items():
        request_id = f"r{number}"
        match kind:
            case "lose":
                run.results = [result for result in run.results if result.request_id != request_id]
                run.index.remove(request_id)
                expected["lost"] += 1
            case "repeat":
                run.answer(request_id)
                expected["repeats"] += 1
            case "duplicate":
                run.answer(request_id, "different")
                expected["duplicates"] += 1
            case "orphan":
                run.answer(f"orphan-{number}")
                expected["orphans"] += 1
            case "unindex":
                run.index.remove(request_id)
                expected["unindexed"] += 1
            case "double":
                run.index.append(request_id)
                expected["duplicates"] += 1
    for records in (run.requests, run.results, run.logs, run.index):
        shuffle.shuffle(records)
    found = run.audit()
    assert numbers(found) == {name: count for name, count in expected.items() if count}
    assert found.accepted == found.completed + found.failed + found.dead_letters + found.lost


def heads(
    requests: tuple[int, int] = (0, 0), results: int = 0, dead_letters: int = 0, logs: int = 0, **fields: Any
) -> Heads:
    """One partition of each topic: its low and high mark, and that it was read."""
    marks = {0: requests}
    found = Heads(
        TopicHead(marks),
        TopicHead({0: (results, 100)}),
        TopicHead({0: (dead_letters, 100)}),
        TopicHead({0: (logs, 100)}),
        **fields,
    )
    found.requests.read[0] = requests[1] - requests[0]
    return found


def test_results_that_retention_took_are_not_lost_requests() -> None:
    """A request without one is judged if it was accepted after the oldest result that is left."""
    run = Run()
    for number in range(20):
        run.accept(f"r{number}")
    for number in range(10, 19):
        run.answer(f"r{number}")
    found = heads((0, 20), results=10)
    found.results.note(0, 1_010.0)
    audited = audit(*run.inputs(), heads=found)
    assert (audited.left_out, audited.lost, audited.completed) == (10, 1, 9)
    assert audited.accepted == audited.completed + audited.lost + audited.left_out
    assert not audited.passed


def test_without_any_result_nothing_can_be_said() -> None:
    """Nor is anything lost, then."""
    run = Run()
    run.accept("r0")
    audited = audit(*run.inputs(), heads=heads((0, 1), results=100))
    assert (audited.left_out, audited.lost, audited.passed) == (1, 0, True)


def test_dead_letters_that_retention_took_excuse_no_readable_request() -> None:
    """A worker answers those; the others became dead letters."""
    run = Run()
    run.requests.append(Request(TOPIC, 0, 0, None, None, 1_000.0, False))
    run.requests.append(Request(TOPIC, 0, 1, "r1", "body", 1_000.0))
    audited = audit(*run.inputs(), heads=heads((0, 2), dead_letters=100))
    assert (audited.left_out, audited.lost) == (1, 1)


def test_results_of_requests_that_retention_took_are_no_orphans() -> None:
    """They were answered: nothing expired."""
    run = Run()
    for number in range(5):
        run.answer(f"r{number}")
    run.answer("r0")
    run.logs = []
    audited = audit(*run.inputs(), heads=heads((5, 5)))
    assert (audited.orphans, audited.expired, audited.passed) == (0, 0, True)


@pytest.mark.parametrize(("logs", "expired"), [([], 8), ([3], 7), (list(range(8)), 0)])
def test_requests_that_were_deleted_before_they_were_scored_break_the_promise(logs: list[int], expired: int) -> None:
    """They left neither a log nor a result nor a dead letter."""
    run = Run()
    run.logs = [Log(f"r{offset}", 0.1, 0, offset) for offset in logs]
    audited = audit(*run.inputs(), heads=heads((8, 8)))
    assert (audited.expired, audited.passed) == (expired, not expired)


def test_what_the_worker_has_yet_to_read_and_can_not_is_expired() -> None:
    """Its committed offset is before the first request that is left, whatever else retention took."""
    found = heads((8, 12), results=5, logs=5, committed={0: 5})
    assert audit([], [], [], [], None, heads=found).expired == 3
    assert audit([], [], [], [], None, heads=heads((8, 12), results=5, logs=5, committed={0: 8})).expired == 0
    assert audit([], [], [], [], None, heads=heads((8, 12), committed={0: 5}, whole=False)).expired == 0


def test_markers_of_transactions_are_no_requests() -> None:
    """Where there are some among what is left, deleted offsets can't be counted."""
    found = heads((8, 12))
    found.requests.read[0] = 2
    assert audit([], [], [], [], None, heads=found).expired == 0


def test_a_hole_in_the_logs_is_expired() -> None:
    """Also where retention has taken the first logs; a single offset may be a marker."""
    run = Run()
    run.logs = [Log(f"r{offset}", 0.1, 0, offset) for offset in (3, 4, 6, 11)]
    assert audit(*run.inputs(), heads=heads((20, 20), results=5, logs=5)).expired == 4


def test_a_request_that_failed_and_is_sent_again_has_two_outcomes() -> None:
    """Which is no more than there were requests."""
    run = Run()
    run.ask("r1", answer="error", completed=False)
    run.ask("r1", answer="answer")
    audited = run.audit()
    assert numbers(audited) == {}
    assert (audited.failed, audited.completed, audited.passed) == (1, 1, True)
    run.answer("r1", "another")
    assert run.audit().duplicates == 1


def test_days_without_an_index_are_not_unindexed() -> None:
    """Retention took their indices; a request of a day that has one must be in it."""
    run = Run(5)
    run.index = []
    audited = audit(*run.inputs(), indexed_since=1_003.0)
    assert audited.unindexed == 2


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (101, 51, 100), (1_000, 500, 990)]
)
def test_a_quantile_is_the_nearest_rank(count: int, p50: int, p99: int) -> None:
    """The smallest value that this share of all values does not exceed."""
    run = Run(count)
    run.logs = [Log(f"r{number}", (number + 1) / 1000) for number in range(count)]
    audited = run.audit()
    assert (audited.p50_ms, audited.p99_ms) == (p50, p99)
