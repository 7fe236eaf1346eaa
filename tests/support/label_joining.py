"""A label joiner without its consumer, and an Elasticsearch that it writes to."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from elastic_transport import ConnectionError as NoConnection
from msgspec import Raw
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.writer import RejectedRecord
from machine_learning_engineering.events.schemas import LabelReported, encode
from monitoring.elastic.bulk import BulkItem
from monitoring.labels.join import Join
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import PendingLabel
from monitoring.labels.reports import Rank, Report
from monitoring.labels.resolver import TIERS, LabelResolver
from monitoring.labels.store import LoggedRequest
from monitoring.model_version import ModelVersion
from monitoring.runtime.batch_reader import Interrupted

ACCEPTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WRITTEN = ACCEPTED + timedelta(days=3)
"""When labels come, by the broker's clock."""


class Record:
    """A Kafka record of a label."""

    def __init__(
        self,
        value: bytes | None,
        offset: int = 0,
        at: datetime = WRITTEN,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        self._value, self._offset, self._at, self._headers = value, offset, at, headers

    def topic(self) -> str:
        return "prediction-labels"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return b"key"

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self._headers) or None

    def timestamp(self) -> tuple[int, int]:
        return 2, int(self._at.timestamp() * 1000)


def reported(
    request_id: str, label: Any, minutes: float = 0, model: str = "diamonds", offset: int = 0, at: datetime = WRITTEN
) -> Record:
    """A label that was observed some minutes after its request, and written at a time by the broker's clock."""
    observed_at = ACCEPTED + timedelta(minutes=minutes)
    return Record(encode(LabelReported(request_id, model, Raw(msgspec.json.encode(label)), observed_at)), offset, at)


class Node:
    """Holds documents and pending labels, and fails when told to."""

    def __init__(self) -> None:
        self.documents: dict[str, LoggedRequest] = {}
        self.pending: dict[int, PendingLabel] = {}
        self.before_write: Callable[[], None] = lambda: None
        self.writes = 0
        self.statuses: list[int] = []
        self.calls_to_fail = 0
        self.blocked: set[str] = set()
        """Indices that are blocked for writes."""
        self.dead_letters: list[RejectedRecord] = []
        self._sequence = 0

    def add(self, request_id: str, model: str = "diamonds", held: Rank | None = None, day: int = 1) -> None:
        self._sequence += 1
        name = f"{request_id}/{day}"
        self.documents[name] = LoggedRequest(
            f"inference-logs-2026.03.0{day}", name, self._sequence, 1, request_id, model, "v1", ACCEPTED, held
        )

    def _call(self) -> None:
        if self.calls_to_fail:
            self.calls_to_fail -= 1
            raise NoConnection("away")

    # the log

    def find(self, request_ids: Sequence[str]) -> list[LoggedRequest]:
        self._call()
        return [document for document in self.documents.values() if document.request_id in request_ids]

    def reread(self, documents: Sequence[LoggedRequest]) -> list[LoggedRequest | None]:
        self._call()
        return [self.documents.get(document.id) for document in documents]

    def write(self, labels: Sequence[tuple[LoggedRequest, Report]]) -> list[BulkItem]:
        self._call()
        self.before_write()
        items = []
        for seen, report in labels:
            status = self.statuses.pop(0) if self.statuses else 200
            now = self.documents.get(seen.id)
            if seen.index_name in self.blocked:
                reason = f"index [{seen.index_name}] blocked by: [FORBIDDEN/8/index write (api)];"
                items.append(BulkItem(403, {"type": "cluster_block_exception", "reason": reason}))
            elif status != 200:
                error = {"type": "document_parsing_exception", "reason": "no"} if status == 400 else None
                items.append(BulkItem(status, error))
            elif now is None or now.seq_no != seen.seq_no:
                items.append(BulkItem(409, {"type": "version_conflict_engine_exception", "reason": "no"}))
            else:
                self._sequence += 1
                self.writes += 1
                self.documents[seen.id] = now._replace(seq_no=self._sequence, held=report.rank)
                items.append(BulkItem(200))
        return items

    # pending labels

    def park(self, reports: Sequence[Report], now: datetime) -> list[BulkItem]:
        self._call()
        items = []
        for report in reports:
            offset = report.record.offset()
            items.append(BulkItem(409 if offset in self.pending else 201))
            self.pending.setdefault(offset, PendingLabel(str(offset), now, [offset], report))
        return items

    def page(
        self, partitions: Collection[int], ages: tuple[float, float], now: datetime, after: list[Any] | None, size: int
    ) -> list[PendingLabel]:
        self._call()
        of_age = [one for one in self.pending.values() if ages[0] <= (now - one.since).total_seconds() < ages[1]]
        ordered = sorted(of_age, key=lambda one: one.sort)
        return [one for one in ordered if after is None or one.sort > after][:size]

    def remove(self, labels: Sequence[PendingLabel]) -> list[bool]:
        self._call()
        return [self.pending.pop(int(one.id), None) is not None for one in labels]

    # the broker of dead letters

    def write_dead_letters(self, dead_letters: list[RejectedRecord], cancelled: threading.Event) -> bool:
        self.dead_letters += dead_letters
        return True

    def held(self, request_id: str) -> Rank | None:
        [found] = {one.held for one in self.documents.values() if one.request_id == request_id}
        return found


class DeadLetters:
    def __init__(self, node: Node) -> None:
        self.write = node.write_dead_letters


class NoWait:
    """Waits no time at all, and at most `most` times."""

    def __init__(self, most: int = 5) -> None:
        self.causes: list[str] = []
        self._most = most

    def wait(self, attempt: int, cause: str, labels: int) -> None:
        self.causes.append(cause)
        if len(self.causes) > self._most:
            raise Interrupted


class Joining:
    """Everything of a joiner but its consumer."""

    def __init__(
        self, node: Node, rejection_reason: Callable[[str, bytes], str | None] = lambda model, label: None
    ) -> None:
        self.registry = CollectorRegistry()
        self.backoff = NoWait()
        self.dirty: Counter[ModelVersion] = Counter()
        self.resolver = LabelResolver(
            Settings(_env_file=None, label_joiner_batch_records=3, label_match_timeout=3_600),  # type: ignore[call-arg]
            Join(node, self.backoff.wait),  # type: ignore[arg-type]
            node,  # type: ignore[arg-type]
            DeadLetters(node),  # type: ignore[arg-type]
            self.backoff.wait,
            LabelJoinerMetrics(self.registry),
            rejection_reason=rejection_reason,
            mark_dirty=self._mark_dirty,
            cancelled=threading.Event(),
        )

    def _mark_dirty(self, versions: Iterable[ModelVersion]) -> None:
        self.dirty.update(versions)

    def look_up(self) -> None:
        self.resolver.start_over()
        for _ in TIERS:
            while self.resolver.look_up([0]):
                pass

    def results(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "inflight_labels_total" and sample.value:
                    found[sample.labels["result"]] += int(sample.value)
        return found
