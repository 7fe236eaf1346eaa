"""Checks from topics and index alone that every accepted request has exactly one visible outcome.

This module counts; `monitoring.audit.readers` reads. `Audit` defines the counts.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from machine_learning_engineering.dead_letters.writer import STAGE
from monitoring.audit.heads import Heads


class Request(NamedTuple):
    """A record of the requests topic; `request_id` is None if the value has none that can be read.

    `body` is equal for two requests with equal content. `accepted_at` is the broker's timestamp in seconds. `readable`
    tells whether a worker can read it: if not, it becomes a dead letter.
    """

    topic: str
    partition: int
    offset: int
    request_id: str | None
    body: Hashable
    accepted_at: float
    readable: bool = True


class Result(NamedTuple):
    """A record of the results topic; `content` is the outcome without times, `completed_at` is in seconds.

    `version` is the model's version, empty if the request reached no model. `partition` is that of the result.
    `of_source` tells whether the request came from an existing topic.
    """

    request_id: str
    completed: bool
    content: Hashable
    completed_at: float
    version: str = ""
    partition: int = 0
    of_source: bool = False


class Letter(NamedTuple):
    """A dead letter, by its origin."""

    topic: str
    partition: int
    offset: int
    stage: str
    request_id: str | None


class Log(NamedTuple):
    """A record of the logs topic, with the position of its request; `of_source` if that is on an existing topic."""

    request_id: str
    total_seconds: float
    partition: int = -1
    offset: int = -1
    of_source: bool = False


class Audit(Struct, frozen=True, kw_only=True):
    """The counts: `accepted` = `completed` + `failed` + `dead_letters` + `lost` + `left_out`.

    At-least-once processing may write a result a second time after a crash. Such a *repeat* is harmless, since its
    content is the same. *Lost* and *expired* requests and *duplicates* break the promise.
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
    expired: int
    """Requests that retention deleted before a worker scored them: also lost, and no longer among the `accepted`."""
    left_out: int
    """Requests without an outcome, accepted so long ago that retention may have deleted it."""
    duplicates: int
    """Further visible outcomes of a request: different results of one version, a result for a dead-lettered request, or
    more documents in the index than there were requests. Requests that were sent again with the same id, for example
    after a failure, may have as many outcomes as there were requests."""
    repeats: int
    """Results with the same content as another one for the same request."""
    other_versions: int
    """Results of another model version than the request's first result: it was processed or published again, after a
    promotion. The index keeps the first."""
    conflicts: int
    """Request ids reused for a request with other content; the index keeps the first. For such an id only the number of
    results is audited: which result belongs to which request is unknown."""
    orphans: int
    """Results without a request. Not counted once requests were deleted: theirs may be among them."""
    unindexed: int
    """Request ids with a result, but without a document and a dead letter of the indexer. Requests of days before the
    oldest index are not counted."""
    p50_ms: float | None
    """Median time from acceptance to completion, from the logs; None without logs."""
    p99_ms: float | None
    rate_per_s: float | None
    """Completed requests per second between the first acceptance and the last completion."""

    @property
    def passed(self) -> bool:
        """Whether nothing is lost and nothing has two outcomes."""
        return self.lost == self.expired == self.duplicates == 0


class _Outcomes:
    """The requests and results of one id, in few bytes: most ids have one of each."""

    __slots__ = (
        "accepted_at",
        "bodies",
        "completed",
        "contents",
        "partition",
        "readable",
        "requests",
        "results",
        "topic",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.accepted_at = math.inf
        self.topic = ""
        self.partition = 0
        self.readable = True
        self.bodies: set[Hashable] = set()
        self.results = 0
        self.completed = 0
        self.contents: set[tuple[str, Hashable]] = set()

    def differing(self) -> tuple[int, int]:
        """Contents beyond one per request and version, and contents of further versions."""
        allowed = max(self.requests, len(self.bodies))
        if len(self.contents) <= allowed:
            return 0, 0
        versions = Counter(version for version, _ in self.contents)
        doubled = sum(max(0, count - allowed) for count in versions.values())
        return doubled, max(0, len(self.contents) - doubled - allowed)


def audit(
    requests: Iterable[Request],
    results: Iterable[Result],
    dead_letters: Iterable[Letter],
    logs: Iterable[Log],
    index_ids: Iterable[str] | None,
    *,
    heads: Heads | None = None,
    indexed_since: float = 0.0,
    sources: Mapping[str, Heads] | None = None,
) -> Audit:
    """Count. Each argument is read once: dead letters first, then in the order of the arguments.

    Args:
        index_ids: the request id of each document, repeated if several documents have it; None skips the index.
        heads: what retention has taken; None if it has taken nothing, or if a part of the requests is audited.
        indexed_since: start of the oldest day that the index holds, in seconds since 1970.
        sources: what retention has taken of existing topics, by their full names.
    """
    heads, sources = heads or Heads(), sources or {}
    requests_deleted = any(one.requests_deleted for one in (heads, *sources.values()))
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
    accepted = dead = lost = left_out = 0
    first_accepted = float("inf")
    for request in requests:
        accepted += 1
        first_accepted = min(first_accepted, request.accepted_at)
        if request[:3] in dead_lettered:
            dead += 1
            if request.request_id is not None:
                rejected_ids[request.request_id] += 1
        elif request.request_id is None:
            since = sources.get(request.topic, heads).judged_since(request.partition, readable=False)
            if request.accepted_at < since:
                left_out += 1
            else:
                lost += 1
        else:
            found = outcomes[request.request_id]
            found.requests += 1
            found.bodies.add(request.body)
            found.accepted_at = min(found.accepted_at, request.accepted_at)
            found.topic, found.partition = request.topic, request.partition
            found.readable = request.readable

    results_seen = 0
    orphans: Counter[int] = Counter()
    orphans_of_sources: Counter[int] = Counter()
    orphan_ids: set[str] = set()
    last_completed = 0.0
    for result in results:
        results_seen += 1
        if result.request_id not in outcomes and result.request_id not in rejected_ids:
            # Repeats too, unless they may be those of requests that were deleted: these count once.
            if not requests_deleted or result.request_id not in orphan_ids:
                (orphans_of_sources if result.of_source else orphans)[result.partition] += 1
            if requests_deleted:
                orphan_ids.add(result.request_id)
            continue
        found = outcomes[result.request_id]
        found.results += 1
        found.completed += result.completed
        found.contents.add((result.version, result.content))
        last_completed = max(last_completed, result.completed_at)

    completed = failed = duplicates = repeats = other_versions = conflicts = 0
    for found in outcomes.values():
        missing = max(0, found.requests - found.results)
        since = sources.get(found.topic, heads).judged_since(found.partition, readable=found.readable)
        if missing and found.accepted_at < since:
            left_out += missing
        else:
            lost += missing
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
            if not found.results or found.accepted_at < indexed_since:
                continue
            if request_id not in documents and request_id not in not_indexed:
                unindexed += 1
        for request_id, count in documents.items():
            # Of a request that was deleted, nobody knows how often it was sent.
            if count > 1 and not requests_deleted:
                requested = (outcomes[request_id].requests if request_id in outcomes else 0) + rejected_ids[request_id]
                duplicates += count - max(1, requested)

    durations, logs_seen, logged = _durations(logs, heads)
    set_aside = {origin[1:] for origin in dead_lettered if origin[0] not in sources}
    expired = heads.expired(orphans, set_aside, logged) + sum(one.skipped() for one in sources.values())
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
        expired=expired,
        left_out=left_out,
        duplicates=duplicates,
        repeats=repeats,
        other_versions=other_versions,
        conflicts=conflicts,
        orphans=0 if requests_deleted else orphans.total() + orphans_of_sources.total(),
        unindexed=unindexed,
        p50_ms=_quantile(durations, 0.50),
        p99_ms=_quantile(durations, 0.99),
        rate_per_s=round(completed / elapsed, 1) if completed and elapsed > 0 else None,
    )


def _durations(logs: Iterable[Log], heads: Heads) -> tuple[list[float], int, dict[int, set[int]]]:
    """Sorted durations in seconds, one of each id; the number of logs; and the offsets of deleted requests."""
    first: dict[str, float] = {}
    logged: defaultdict[int, set[int]] = defaultdict(set)
    seen = 0
    for log in logs:
        seen += 1
        first.setdefault(log.request_id, log.total_seconds)
        marks = heads.requests.marks.get(log.partition)
        if marks is not None and log.offset < marks.low and not log.of_source:
            logged[log.partition].add(log.offset)
    return sorted(first.values()), seen, logged


def _quantile(ordered: list[float], q: float) -> float | None:
    """The quantile by the nearest rank, in milliseconds: the smallest value that a share `q` of all does not exceed."""
    return round(ordered[max(0, math.ceil(q * len(ordered)) - 1)] * 1000, 3) if ordered else None
