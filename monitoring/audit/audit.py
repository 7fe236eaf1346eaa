"""The oracle: did every accepted request end in exactly one visible outcome? Counted from topics and index alone.

This module only counts; `monitoring.audit.readers` reads. What the counts mean is said at `Audit`.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from msgspec import Struct

from machine_learning_engineering.dead_letters.writer import STAGE


class Request(NamedTuple):
    """A record of the topic of requests; `request_id` is None where neither value nor key tells it.

    `body` is equal for two requests that ask the same, and `accepted_at` is the broker's time in seconds.
    """

    topic: str
    partition: int
    offset: int
    request_id: str | None
    body: Hashable
    accepted_at: float


class Result(NamedTuple):
    """A record of the topic of results; `content` is the outcome without its times, `completed_at` is in seconds.

    `version` is that of the model, empty where none answered.
    """

    request_id: str
    completed: bool
    content: Hashable
    completed_at: float
    version: str = ""


class Letter(NamedTuple):
    """A dead letter, by its origin."""

    topic: str
    partition: int
    offset: int
    stage: str
    request_id: str | None


class Log(NamedTuple):
    """A record of the topic of logs."""

    request_id: str
    total_seconds: float


class Audit(Struct, frozen=True, kw_only=True):
    """What was found. `accepted` = `completed` + `failed` + `dead_letters` + `lost`, where nothing is wrong.

    At-least-once processing may write a result a second time after a crash. That is a *repeat*: harmless, since it says
    the same. The promise is broken by what is *lost* and by *duplicates*.
    """

    accepted: int
    """Records in the topic of requests: what the broker acknowledged."""
    completed: int
    """Requests answered by a prediction, repeats not counted."""
    failed: int
    """Requests answered by an error, repeats not counted."""
    dead_letters: int
    """Request records that were set aside."""
    index_dead_letters: int
    """Log records that were set aside instead of being indexed."""
    results_seen: int
    """Records in the topic of results, repeats included."""
    logs_seen: int
    """Records in the topic of logs, repeats included."""
    indexed_distinct: int | None
    """Different request ids in the index; None where the index was not read."""
    lost: int
    """Accepted requests with neither result nor dead letter."""
    duplicates: int
    """More than one visible outcome of a request: results of one version that differ, a result for a request that was
    set aside, or more documents in the index than there were requests."""
    repeats: int
    """Results that say again what another one for the same request says."""
    other_versions: int
    """Results by another version of the model than the first one's of the same request: after a crash, or where a
    request was published again, with a promotion in between. The index keeps the first."""
    conflicts: int
    """Request ids that were used again for another question; the index keeps the first. Of such an id only the number
    of answers is audited: whose answer each of them is, nothing tells."""
    orphans: int
    """Results whose id nobody requested."""
    unindexed: int
    """Ids with a result, but neither a document nor a dead letter of the indexer."""
    p50_ms: float | None
    """Median of the time from acceptance to completion, from the logs; None without any."""
    p99_ms: float | None
    rate_per_s: float | None
    """Completed requests per second, from the first acceptance to the last completion."""

    @property
    def kept(self) -> bool:
        """Whether the promise was kept: nothing lost, nothing answered twice."""
        return self.lost == 0 and self.duplicates == 0


class _Answers:
    """What one request id has, in few bytes: most ids have one request and one result."""

    __slots__ = ("bodies", "completed", "contents", "requests", "results")

    def __init__(self) -> None:
        self.requests = 0
        self.bodies: set[Hashable] = set()
        self.results = 0
        self.completed = 0
        self.contents: set[tuple[str, Hashable]] = set()

    def differing(self) -> tuple[int, int]:
        """Contents beyond one a question and version; and contents beyond those, by further versions."""
        if len(self.contents) <= len(self.bodies):
            return 0, 0
        versions = Counter(version for version, _ in self.contents)
        doubled = sum(max(0, count - len(self.bodies)) for count in versions.values())
        return doubled, max(0, len(self.contents) - doubled - len(self.bodies))


def audit(
    requests: Iterable[Request],
    results: Iterable[Result],
    dead_letters: Iterable[Letter],
    logs: Iterable[Log],
    index_ids: Iterable[str] | None,
) -> Audit:
    """Count. Each argument is read once, in this order but the dead letters first.

    Args:
        index_ids: the request id of each document, so an id comes twice if two documents have it; None leaves the
            index out.
    """
    set_aside: set[tuple[str, int, int]] = set()
    not_indexed: set[str] = set()
    index_letters: set[tuple[str, int, int]] = set()
    for letter in dead_letters:
        origin = letter[:3]
        if letter.stage == STAGE:
            index_letters.add(origin)
            if letter.request_id is not None:
                not_indexed.add(letter.request_id)
        else:
            # A set: after a crash the same record may be set aside twice.
            set_aside.add(origin)

    answers: defaultdict[str, _Answers] = defaultdict(_Answers)
    # Known from requests that were set aside only; how many, since each may have put a document into the index.
    refused: Counter[str] = Counter()
    accepted = dead = lost = 0
    first_accepted = float("inf")
    for request in requests:
        accepted += 1
        first_accepted = min(first_accepted, request.accepted_at)
        if request[:3] in set_aside:
            dead += 1
            if request.request_id is not None:
                refused[request.request_id] += 1
        elif request.request_id is None:
            lost += 1
        else:
            found = answers[request.request_id]
            found.requests += 1
            found.bodies.add(request.body)

    results_seen = orphans = 0
    last_completed = 0.0
    for result in results:
        results_seen += 1
        if result.request_id not in answers and result.request_id not in refused:
            orphans += 1
            continue
        found = answers[result.request_id]
        found.results += 1
        found.completed += result.completed
        found.contents.add((result.version, result.content))
        last_completed = max(last_completed, result.completed_at)

    completed = failed = duplicates = repeats = other_versions = conflicts = 0
    for found in answers.values():
        lost += max(0, found.requests - found.results)
        conflicts += max(0, len(found.bodies) - 1)
        visible = min(found.results, found.requests)
        completed += min(found.completed, visible)
        failed += visible - min(found.completed, visible)
        # Each different question may have its own answer of each version, and no question two.
        differing, by_others = found.differing()
        duplicates += differing
        other_versions += by_others
        repeats += max(0, found.results - found.requests - differing - by_others)

    indexed_distinct, unindexed = None, 0
    if index_ids is not None:
        documents = Counter(index_ids)
        indexed_distinct = len(documents)
        for request_id, found in answers.items():
            if found.results and request_id not in documents and request_id not in not_indexed:
                unindexed += 1
        for request_id, count in documents.items():
            if count > 1:
                asked = (answers[request_id].requests if request_id in answers else 0) + refused[request_id]
                duplicates += count - max(1, asked)

    durations, logs_seen = _durations(logs)
    elapsed = last_completed - first_accepted
    return Audit(
        accepted=accepted,
        completed=completed,
        failed=failed,
        dead_letters=dead,
        index_dead_letters=len(index_letters),
        results_seen=results_seen,
        logs_seen=logs_seen,
        indexed_distinct=indexed_distinct,
        lost=lost,
        duplicates=duplicates,
        repeats=repeats,
        other_versions=other_versions,
        conflicts=conflicts,
        orphans=orphans,
        unindexed=unindexed,
        p50_ms=_quantile(durations, 0.50),
        p99_ms=_quantile(durations, 0.99),
        rate_per_s=round(completed / elapsed, 1) if completed and elapsed > 0 else None,
    )


def _durations(logs: Iterable[Log]) -> tuple[list[float], int]:
    """Sorted times in seconds, of each id the first, and the number of logs."""
    first: dict[str, float] = {}
    seen = 0
    for log in logs:
        seen += 1
        first.setdefault(log.request_id, log.total_seconds)
    return sorted(first.values()), seen


def _quantile(ordered: list[float], q: float) -> float | None:
    """Nearest rank, in milliseconds."""
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000, 3) if ordered else None
