"""A joiner without its consumer, and a search node that it writes to."""

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
from machine_learning_engineering.dead_letters.writer import DeadLetter
from machine_learning_engineering.events.schemas import LabelReported, encode
from monitoring.labels.join import Interrupted, Join
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import Waiting
from monitoring.labels.reports import Rank, Report
from monitoring.labels.resolver import TIERS, LabelResolver
from monitoring.labels.store import Logged, Version, Written

ACCEPTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Record:
    """A Kafka record of a label."""

    def __init__(self, value: bytes | None, offset: int = 0) -> None:
        self._value, self._offset = value, offset

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
        return None


def reported(request_id: str, label: Any, minutes: float = 0, model: str = "diamonds", offset: int = 0) -> Record:
    at = ACCEPTED + timedelta(minutes=minutes)
    return Record(encode(LabelReported(request_id, model, Raw(msgspec.json.encode(label)), at)), offset)


class Node:
    """A search node that holds documents and waiting labels, and fails when it is told to."""

    def __init__(self) -> None:
        self.documents: dict[str, Logged] = {}
        self.shelf: dict[int, Waiting] = {}
        self.before_write: Callable[[], None] = lambda: None
        self.writes = 0
        self.statuses: list[int] = []
        self.calls_to_fail = 0
        self.letters: list[DeadLetter] = []
        self._sequence = 0

    def add(self, request_id: str, model: str = "diamonds", held: Rank | None = None, day: int = 1) -> None:
        self._sequence += 1
        name = f"{request_id}/{day}"
        self.documents[name] = Logged(
            f"inference-logs-2026.03.0{day}", name, self._sequence, 1, request_id, model, "v1", ACCEPTED, held
        )

    def _call(self) -> None:
        if self.calls_to_fail:
            self.calls_to_fail -= 1
            raise NoConnection("away")

    # the log

    def find(self, request_ids: Sequence[str]) -> list[Logged]:
        self._call()
        return [document for document in self.documents.values() if document.request_id in request_ids]

    def look_again(self, documents: Sequence[Logged]) -> list[Logged | None]:
        self._call()
        return [self.documents.get(document.id) for document in documents]

    def write(self, labels: Sequence[tuple[Logged, Report]]) -> list[Written]:
        self._call()
        self.before_write()
        answers = []
        for seen, report in labels:
            status = self.statuses.pop(0) if self.statuses else 200
            now = self.documents.get(seen.id)
            if status != 200:
                answers.append(Written(status, "document_parsing_exception: no" if status == 400 else "", ""))
            elif now is None or now.seq_no != seen.seq_no:
                answers.append(Written(409, "version_conflict_engine_exception: no", ""))
            else:
                self._sequence += 1
                self.writes += 1
                self.documents[seen.id] = now._replace(seq_no=self._sequence, held=report.rank)
                answers.append(Written(200, "", "updated"))
        return answers

    # what waits

    def keep(self, reports: Sequence[Report], now: datetime) -> list[Written]:
        self._call()
        answers = []
        for report in reports:
            offset = report.record.offset()
            answers.append(Written(409 if offset in self.shelf else 201, "", "created"))
            self.shelf.setdefault(offset, Waiting(str(offset), now, [offset], report))
        return answers

    def page(
        self, partitions: Collection[int], ages: tuple[float, float], now: datetime, after: list[Any] | None, size: int
    ) -> list[Waiting]:
        self._call()
        of_age = [one for one in self.shelf.values() if ages[0] <= (now - one.since).total_seconds() < ages[1]]
        ordered = sorted(of_age, key=lambda one: one.place)
        return [one for one in ordered if after is None or one.place > after][:size]

    def remove(self, waiting: Sequence[Waiting]) -> list[bool]:
        self._call()
        return [self.shelf.pop(int(one.id), None) is not None for one in waiting]

    # the broker of dead letters

    def set_aside(self, letters: list[DeadLetter], cancelled: threading.Event) -> bool:
        self.letters += letters
        return True

    def held(self, request_id: str) -> Rank | None:
        [found] = {one.held for one in self.documents.values() if one.request_id == request_id}
        return found


class Letters:
    def __init__(self, node: Node) -> None:
        self.write = node.set_aside


class Calm:
    """Waits no time at all, and only so often."""

    def __init__(self, most: int = 5) -> None:
        self.causes: list[str] = []
        self._most = most

    def wait(self, attempt: int, cause: str, labels: int) -> None:
        self.causes.append(cause)
        if len(self.causes) > self._most:
            raise Interrupted


class Joining:
    """Everything of a joiner but its consumer."""

    def __init__(self, node: Node, refusal: Callable[[str, bytes], str | None] = lambda model, label: None) -> None:
        self.registry = CollectorRegistry()
        self.patience = Calm()
        self.touched: Counter[Version] = Counter()
        self.settling = LabelResolver(
            Settings(_env_file=None, label_joiner_batch_records=3, label_match_timeout=3_600),  # type: ignore[call-arg]
            Join(node, self.patience),
            node,
            Letters(node),
            self.patience,
            LabelJoinerMetrics(self.registry),
            refusal=refusal,
            touched=self._touch,
            cancelled=threading.Event(),
        )

    def _touch(self, versions: Iterable[Version]) -> None:
        self.touched.update(versions)

    def look_up(self) -> None:
        self.settling.start_over()
        for _ in TIERS:
            while self.settling.look_up([0]):
                pass

    def results(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "inflight_labels_total":
                    found[sample.labels["result"]] += int(sample.value)
        return found
