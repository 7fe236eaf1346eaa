"""Labels: which one of a request counts, in whatever order they come, and what becomes of each."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec
import pytest
from elastic_transport import ConnectionError as NoConnection
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events import LabelReported, encode
from machine_learning_engineering.settings import Settings
from monitoring.dead_letters import DeadLetter
from monitoring.labels import joiner, settling
from monitoring.labels.join import Interrupted, Join
from monitoring.labels.metrics import JoinerMetrics
from monitoring.labels.reports import NEVER, Rank, Report, read
from monitoring.labels.settling import TIERS, Settling
from monitoring.labels.store import Logged, Version, Written
from monitoring.labels.waiting import Waiting

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


class Prepared:
    def prepare(self) -> None:
        pass


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
        self.settling = Settling(
            Settings(_env_file=None, joiner_batch_records=3, joiner_label_patience=3_600),  # type: ignore[call-arg]
            Join(node, self.patience),
            node,
            Letters(node),
            self.patience,
            JoinerMetrics(self.registry),
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


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def joining(node: Node) -> Joining:
    return Joining(node)


REPORTS = st.lists(
    st.tuples(
        st.sampled_from(["r1", "r2", "r3"]),
        st.sampled_from([1, 2.5, True, "good", [1, 2]]),
        st.sampled_from([0, 0.5, 7, 7, 3_000]),
    ),
    max_size=12,
)


@given(REPORTS, st.integers(0, 2**32), st.integers(1, 5), st.sets(st.sampled_from(["r1", "r2", "r3"])))
@settings(max_examples=300, deadline=None)
def test_any_order_and_repetition_gives_the_same_labels(
    reports: list[tuple[str, Any, float]], seed: int, size: int, late: set[str]
) -> None:
    """In batches of any size, each reported once or thrice, some before their request is logged."""
    expected: dict[str, Rank] = {}
    for request_id, label, minutes in reports:
        found = read(reported(request_id, label, minutes))
        assert isinstance(found, Report)
        expected[request_id] = max(found.rank, expected.get(request_id, found.rank))
    chance = random.Random(seed)
    again = [report for report in reports for _ in range(chance.choice([1, 3]))]
    chance.shuffle(again)
    node = Node()
    joining = Joining(node)
    for request_id in {"r1", "r2", "r3"} - late:
        node.add(request_id)
    records = [reported(*report, offset=number) for number, report in enumerate(again)]
    for start in range(0, len(records), size):
        joining.settling.take(records[start : start + size])
        if chance.random() < 0.3:
            joining.look_up()
    for request_id in late:
        node.add(request_id)
    joining.look_up()
    assert {name: node.held(name) for name in expected} == expected
    assert node.shelf == {}
    # Each report has one result, and each request is joined once.
    assert sum(joining.results().values()) == len(records)
    assert joining.results()["joined"] == len(expected)
    assert node.letters == []


@given(REPORTS, st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_two_joiners_at_once_give_the_same_labels(reports: list[tuple[str, Any, float]], seed: int) -> None:
    """The other one writes at the worst moment: after we looked, before we write."""
    chance = random.Random(seed)
    node = Node()
    for request_id in ("r1", "r2", "r3"):
        node.add(request_id)
    records = [reported(*report, offset=number) for number, report in enumerate(reports)]
    other, ours = Joining(node), Joining(node)
    theirs = list(records)
    chance.shuffle(theirs)

    def interfere() -> None:
        node.before_write = lambda: None
        other.settling.take([theirs.pop() for _ in range(min(len(theirs), 2))])
        node.before_write = interfere if theirs else lambda: None

    node.before_write = interfere
    ours.settling.take(records)
    found = [read(record) for record in records]
    ranks = {
        name: max(one.rank for one in found if isinstance(one, Report) and one.request_id == name)
        for name in {report[0] for report in reports}
    }
    assert {name: node.held(name) for name in ranks} == ranks


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable-label"),
        (b"{", "undecodable-label"),
        (b"[" * 100_000, "undecodable-label"),
        (b'{"request_id":"r1","model":"m","label":1}', "undecodable-label"),
        (b'{"request_id":"","model":"m","label":1,"observed_at":"2026-01-01T00:00:00Z"}', "undecodable-label"),
        (b'{"request_id":"r1","model":"m","label":1,"observed_at":"2026-01-01T00:00:00"}', "undecodable-label"),
        (b'{"request_id":"r1","model":"m","label":1,"observed_at":"0001-01-01T00:00:00+10:00"}', "undecodable-label"),
        (b'{"request_id":"r1","model":"m","label":null,"observed_at":"2026-01-01T00:00:00Z"}', "invalid-label"),
        (b'{"request_id":"r1","model":"m","label":"\xff","observed_at":"2026-01-01T00:00:00Z"}', "invalid-label"),
        (b'{"request_id":"r1","model":"m","label":1e999,"observed_at":"2026-01-01T00:00:00Z"}', "invalid-label"),
    ],
)
def test_what_is_no_label_is_set_aside(node: Node, joining: Joining, value: bytes | None, reason: str) -> None:
    """And the labels around it are joined."""
    node.add("r1")
    joining.settling.take([reported("r1", 1.5), Record(value, 1)])
    assert [(letter.reason, letter.record.value()) for letter in node.letters] == [(reason, value)]
    assert joining.results() == {"joined": 1, reason: 1}


def test_a_label_that_the_model_refuses_is_set_aside(node: Node) -> None:
    """With the model's reason; the request keeps waiting for a better one."""
    node.add("r1")
    joining = Joining(node, lambda model, label: f"{model} wants a price" if label == b'"dear"' else None)
    joining.settling.take([reported("r1", "dear", 5), reported("r1", 2.5, 1)])
    assert [(letter.reason, letter.explanation, letter.request_id) for letter in node.letters] == [
        ("invalid-label", "diamonds wants a price", "r1")
    ]
    assert node.held("r1") == Rank(ACCEPTED + timedelta(minutes=1), "2.5")


def test_a_label_of_another_model_is_set_aside(node: Node, joining: Joining) -> None:
    """It would poison the model's quality."""
    node.add("r1", model="titanic")
    joining.settling.take([reported("r1", 2.5), reported("r1", True, model="titanic")])
    assert [(one.reason, one.model, one.explanation) for one in node.letters] == [
        ("wrong-model-label", "diamonds", "the request was for titanic")
    ]
    assert joining.results() == {"joined": 1, "wrong-model-label": 1}
    assert node.held("r1") == Rank(ACCEPTED, "true")


def test_a_request_id_of_two_days_is_labelled_twice_and_counted_once(node: Node, joining: Joining) -> None:
    """Each document is a request; the report is one."""
    node.add("r1", day=1)
    node.add("r1", day=2)
    joining.settling.take([reported("r1", 2.5)])
    assert [one.held for one in node.documents.values()] == [Rank(ACCEPTED, "2.5")] * 2
    assert joining.results() == {"joined": 1}


def test_a_label_without_a_time_gives_way(node: Node, joining: Joining) -> None:
    """One that was there before labels had times."""
    node.add("r1", held=Rank(NEVER, "9.5"))
    joining.settling.take([reported("r1", 2.5)])
    assert joining.results() == {"replaced": 1}
    assert node.held("r1") == Rank(ACCEPTED, "2.5")


def test_an_early_label_waits_and_is_joined_when_its_request_comes(node: Node, joining: Joining) -> None:
    """Its delay is counted, and its version is to be measured."""
    joining.settling.take([reported("r1", 2.5, 90)])
    joining.look_up()
    assert (list(node.shelf), joining.results(), joining.touched) == ([0], {}, {})
    node.add("r1")
    joining.look_up()
    assert (list(node.shelf), joining.results()) == ([], {"joined": 1})
    assert joining.touched == {Version("diamonds", "v1"): 1}
    assert joining.registry.get_sample_value("inflight_label_delay_seconds_sum", {"model": "diamonds"}) == 5_400


def test_a_label_that_waited_too_long_is_set_aside(node: Node, joining: Joining) -> None:
    """As a dead letter with the original record; a younger one goes on waiting."""
    joining.settling.take([reported("r1", 2.5, offset=1), reported("r2", 2.5, offset=2)])
    waiting = node.shelf[1]
    node.shelf[1] = waiting._replace(since=waiting.since - timedelta(hours=2))
    joining.look_up()
    assert [(one.reason, one.request_id, one.record.offset()) for one in node.letters] == [("unmatched-label", "r1", 1)]
    assert list(node.shelf) == [2]
    assert joining.results() == {"unmatched-label": 1}


def test_all_that_waits_is_looked_up_page_by_page(node: Node, joining: Joining) -> None:
    """Also what was put to wait long ago."""
    joining.settling.take([reported(f"r{number}", 1.5, offset=number) for number in range(20)])
    for number in range(0, 20, 3):
        waiting = node.shelf[number]
        node.shelf[number] = waiting._replace(since=waiting.since - timedelta(seconds=200 * number))
    for number in range(19):
        node.add(f"r{number}")
    joining.look_up()
    assert list(node.shelf) == [19]
    assert joining.results() == {"joined": 19}


def test_a_node_that_is_away_is_asked_again(node: Node, joining: Joining) -> None:
    """Each step of it: to find, to write, to keep."""
    node.add("r1")
    node.calls_to_fail = 2
    joining.settling.take([reported("r1", 2.5), reported("r2", 2.5, offset=1)])
    assert joining.results() == {"joined": 1}
    assert list(node.shelf) == [1]
    assert joining.patience.causes == ["ConnectionError"] * 2


def test_only_what_failed_is_written_again(node: Node, joining: Joining) -> None:
    """An item that is refused for the time being, and one that is refused for good."""
    for number in range(4):
        node.add(f"r{number}")
    node.statuses = [200, 429, 400, 503, 429]
    joining.settling.take([reported(f"r{number}", 1.5, offset=number) for number in range(4)])
    assert node.writes == 3
    assert joining.results() == {"joined": 3, "rejected-label": 1}
    assert [one.reason for one in node.letters] == ["rejected-label"]
    assert joining.patience.causes == ["503", "429"]


def test_a_document_that_is_deleted_meanwhile_makes_the_label_wait(node: Node, joining: Joining) -> None:
    """Its index was dropped between the look and the write."""
    node.add("r1")
    node.before_write = node.documents.clear
    joining.settling.take([reported("r1", 2.5)])
    assert list(node.shelf) == [0]
    assert joining.results() == {}


def test_nothing_is_counted_when_it_is_interrupted(node: Node, joining: Joining) -> None:
    """The same labels are read again."""
    node.add("r1")
    node.calls_to_fail = 100
    with pytest.raises(Interrupted):
        joining.settling.take([reported("r1", 2.5)])
    assert joining.results() == {}


def test_names_of_models_that_nobody_has_do_not_fill_the_metrics(node: Node, joining: Joining) -> None:
    """What is set aside is counted for the model "unknown"."""
    for number in range(9):
        node.add(f"r{number}")
    joining.settling.take([reported(f"r{number}", 1, model=f"forged-{number}") for number in range(9)])
    labels = {"model": "unknown", "result": "wrong-model-label"}
    assert joining.registry.get_sample_value("inflight_labels_total", labels) == 9


def test_a_label_that_is_refused_leaves_the_one_before_it(node: Node, joining: Joining) -> None:
    """As it would if they had come in two batches."""
    node.add("r1")
    node.statuses = [400, 400]
    joining.settling.take([reported("r1", 1.5, minutes=n, offset=n) for n in range(3)])
    assert node.held("r1") == Rank(ACCEPTED, "1.5")
    assert joining.results() == {"joined": 1, "rejected-label": 2}
    assert sorted(one.record.offset() for one in node.letters) == [1, 2]


def test_old_labels_are_looked_up_though_young_ones_are_always_due(
    node: Node, joining: Joining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when each step takes longer than it is until the young ones are due again."""
    clock = count(0, 10)
    monkeypatch.setattr(settling, "monotonic", lambda: float(next(clock)))
    joining.settling.take([reported(f"r{number}", 1.5, offset=number) for number in range(2)])
    waiting = node.shelf[1]
    node.shelf[1] = waiting._replace(since=waiting.since - timedelta(seconds=600))
    node.add("r1")
    for _ in range(20):
        joining.settling.look_up([0])
    assert list(node.shelf) == [0]


def test_a_version_is_measured_though_the_answer_was_lost(node: Node, joining: Joining) -> None:
    """The label was written, nobody knew, and the second time it is a repetition."""
    node.add("r1", held=Rank(ACCEPTED, "1.5"))
    joining.settling.take([reported("r1", 1.5)])
    assert joining.results() == {"repeated": 1}
    assert joining.touched == {Version("diamonds", "v1"): 1}


def test_the_joiner_waits_for_topics_that_get_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while a broker comes up: it is no reason to end."""
    stopping, attempts = threading.Event(), []

    def create_topics(_settings: Settings) -> None:
        attempts.append(1)
        if len(attempts) == 2:
            return
        raise TimeoutError("prediction-labels got no leader")

    monkeypatch.setattr(joiner, "create_topics", create_topics)
    monkeypatch.setattr(stopping, "wait", lambda _seconds: False)
    joiner._prepare(Settings(_env_file=None), Prepared(), Prepared(), stopping)  # type: ignore[call-arg, arg-type]
    assert len(attempts) == 2
