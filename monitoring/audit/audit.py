"""Checks from topics and index alone that every accepted request has exactly one visible outcome.

This module counts; `monitoring.audit.readers` reads. `Audit` defines the counts.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from msgspec import Struct

from machine_learning_engineering.dead_letters.writer import STAGE


class Request(NamedTuple):
    """A record of the requests topic; `request_id` is None if the value has none that can be read.

    `body` is equal for two requests with equal content. `accepted_at` is the broker's timestamp in seconds.
    """

    topic: str
    partition: int
    offset: int
    request_id: str | None
    body: Hashable
    accepted_at: float


class Result(NamedTuple):
    """A record of the results topic; `content` is the outcome without times, `completed_at` is in seconds.

    `version` is the model's version, empty if the request reached no model.
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
    """A record of the logs topic."""

    request_id: str
    total_seconds: float


class Audit(Struct, frozen=True, kw_only=True):
    """The counts. If nothing is wrong, `accepted` = `completed` + `failed` + `dead_letters` + `lost`.

    At-least-once processing may write a result a second time after a crash. Such a *repeat* is harmless, since its
    content is the same. *Lost* requests and *duplicates* break the promise.
    """

    accepted: int
    """Records in the requests topic: those that the broker acknowledged."""
    completed: int
    """Requests with a prediction, without repeats."""
    failed: int
    """Requests with an error, without repeats."""
    dead_letters: int
    """Request records that became dead letters."""
    index_dead_letters: int
    """Log records that became dead letters of the indexer."""
    results_seen: int
    """Records in the results topic, including repeats."""
    logs_seen: int
    """Records in the logs topic, including repeats."""
    indexed_distinct: int | None
    """Distinct request ids in the index; None if the index was not read."""
    lost: int
    """Accepted requests without result and dead letter."""
    duplicates: int
    """Further visible outcomes of a request: different results of one version, a result for a dead-lettered request, or
    more documents in the index than there were requests."""
    repeats: int
    """Results with the same content as another one for the same request."""
    other_versions: int
    """Results of another model version than the request's first result: it was processed or published again, after a
    promotion. The index keeps the first."""
    conflicts: int
    """Request ids reused for a request with other content; the index keeps the first. For such an id only the number of
    results is audited: which result belongs to which request is unknown."""
    orphans: int
    """Results without a request."""
    unindexed: int
    """Request ids with a result, but without a document and a dead letter of the indexer."""
    p50_ms: float | None
    """Median time from acceptance to completion, from the logs; None without logs."""
    p99_ms: float | None
    rate_per_s: float | None
    """Completed requests per second between the first acceptance and the last completion."""

    @property
    def passed(self) -> bool:
        """Whether nothing is lost and nothing has two outcomes."""
        return self.lost == 0 and self.duplicates == 0


class _Outcomes:
    """The requests and results of one id, in few bytes: most ids have one of each."""

    __slots__ = ("bodies", "completed", "contents", "requests", "results")

    def __init__(self) -> None:
        self.requests = 0
        self.bodies: set[Hashable] = set()
        self.results = 0
        self.completed = 0
        self.contents: set[tuple[str, Hashable]] = set()

    def differing(self) -> tuple[int, int]:
        """Contents beyond one per request body and version, and contents of further versions."""
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
    """Count. Each argument is read once: dead letters first, then in the order of the arguments.

    Args:
        index_ids: the request id of each document, repeated if several documents have it; None skips the index.
    """
    dead_lettered: set[tuple[str, int, int]] = set()
    not_indexed: set[str] = set()
    index_dead_letters: set[tuple[str, int, int]] = set()
    for letter in dead_letters:
        origin = letter[:3]
        if letter.stage == STAGE:
            index_dead_letters.add(origin)
            if letter.request_id is not None:
                not_indexed.add(letter.request_id)
        else:
            # A set: after a crash the same record may be dead-lettered twice.
            dead_lettered.add(origin)

    outcomes: defaultdict[str, _Outcomes] = defaultdict(_Outcomes)
    # Ids of dead-lettered requests, counted, since each may have a document in the index.
    rejected_ids: Counter[str] = Counter()
    accepted = dead = lost = 0
    first_accepted = float("inf")
    for request in requests:
        accepted += 1
        first_accepted = min(first_accepted, request.accepted_at)
        if request[:3] in dead_lettered:
            dead += 1
            if request.request_id is not None:
                rejected_ids[request.request_id] += 1
        elif request.request_id is None:
            lost += 1
        else:
            found = outcomes[request.request_id]
            found.requests += 1
            found.bodies.add(request.body)

    results_seen = orphans = 0
    last_completed = 0.0
    for result in results:
        results_seen += 1
        if result.request_id not in outcomes and result.request_id not in rejected_ids:
            orphans += 1
            continue
        found = outcomes[result.request_id]
        found.results += 1
        found.completed += result.completed
        found.contents.add((result.version, result.content))
        last_completed = max(last_completed, result.completed_at)

    completed = failed = duplicates = repeats = other_versions = conflicts = 0
    for found in outcomes.values():
        lost += max(0, found.requests - found.results)
        conflicts += max(0, len(found.bodies) - 1)
        visible = min(found.results, found.requests)
        completed += min(found.completed, visible)
        failed += visible - min(found.completed, visible)
        # Each distinct request body may have one result per version.
        differing, by_others = found.differing()
        duplicates += differing
        other_versions += by_others
        repeats += max(0, found.results - found.requests - differing - by_others)

    indexed_distinct, unindexed = None, 0
    if index_ids is not None:
        documents = Counter(index_ids)
        indexed_distinct = len(documents)
        for request_id, found in outcomes.items():
            if found.results and request_id not in documents and request_id not in not_indexed:
                unindexed += 1
        for request_id, count in documents.items():
            if count > 1:
                requested = (outcomes[request_id].requests if request_id in outcomes else 0) + rejected_ids[request_id]
                duplicates += count - max(1, requested)

    durations, logs_seen = _durations(logs)
    elapsed = last_completed - first_accepted
    return Audit(
        accepted=accepted,
        completed=completed,
        failed=failed,
        dead_letters=dead,
        index_dead_letters=len(index_dead_letters),
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
    """Sorted durations in seconds, the first one of each id, and the number of logs."""
    first: dict[str, float] = {}
    seen = 0
    for log in logs:
        seen += 1
        first.setdefault(log.request_id, log.total_seconds)
    return sorted(first.values()), seen


def _quantile(ordered: list[float], q: float) -> float | None:
    """The element at index `q` * n of the sorted values, in milliseconds."""
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000, 3) if ordered else None
