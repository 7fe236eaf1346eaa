"""`python -m benchmarks.labels`: labels joined a second, against a bare loop of bulk updates.

In one run, on one broker and one Elasticsearch: the same documents, made anew before each case, and the same backlog of
labels; each case as a process of its own on one core, in alternating rounds. Afterwards every label is looked for.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import cycle, islice
from statistics import median
from typing import Annotated, Any

import msgspec
import typer

from benchmarks.cases.catalog import Case
from benchmarks.indexing import POLL_SECONDS, STALLED_SECONDS, WARM_UP, written
from benchmarks.indexing_stack import Stack, deploy

CASES = {
    "joiner": Case("benchmarks.cases.joiner", "inflight label-joiner"),
    "bare": Case("benchmarks.cases.bare_labels", "bare loop, updates by document id"),
}
REFERENCE = "bare"
_ACCEPTED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
_BATCH = 2_000


class Joined(msgspec.Struct, frozen=True):
    """One case in one round; `rate` in labels a second, behind the warm-up. `right` documents have their label."""

    case: str
    round: int
    right: int
    expected: int
    rate: float
    cpu_seconds_per_label: float


def _publish(stack: Stack, count: int) -> None:
    """The labels, as anyone reports them.

    Raises:
        EvaluationError: one could not be published.
    """
    from confluent_kafka import Producer
    from msgspec import Raw

    from benchmarks.deployment import EvaluationError
    from machine_learning_engineering.events.schemas import LabelReported, encode
    from machine_learning_engineering.events.topics import LABELS
    from machine_learning_engineering.kafka.client import producer_options, topic_name

    producer = Producer({**producer_options(stack.settings), "linger.ms": 20})
    topic = topic_name(stack.settings, LABELS)
    for number in range(count):
        event = LabelReported(f"diamond-{number:012d}", "diamonds", Raw(b"%d.5" % number), datetime.now(UTC))
        producer.produce(topic, encode(event), event.request_id)
        if number % 1_000 == 0:
            producer.poll(0)
    if missing := producer.flush(60):
        raise EvaluationError(f"{missing} of {count} labels were not published")


def _fill(stack: Stack, client: Any, count: int) -> None:
    """The documents, as the indexer writes them, without any label."""
    from msgspec import Raw

    from machine_learning_engineering.events.schemas import encode
    from machine_learning_engineering.testing.log_store_examples import example
    from model.diamonds.model import Diamonds
    from monitoring.elastic import client as elastic
    from monitoring.elastic.prediction_log import ElasticsearchPredictionLog

    for index in elastic.index_names(client, "inference-*"):
        elastic.request(client, "DELETE", f"/{index}")
    rows = [Raw(encode(features)) for features in Diamonds.example_requests()]
    answers = {"prediction": Raw(b'{"price":326.5}')}
    with ElasticsearchPredictionLog(stack.settings, client=client) as log:
        for start in range(0, count, _BATCH):
            chosen = islice(cycle(rows), start % len(rows), start % len(rows) + min(_BATCH, count - start))
            log.append(
                example(f"diamond-{start + n:012d}", "diamonds", at=_ACCEPTED, features=features, **answers)
                for n, features in enumerate(chosen)
            )
    elastic.request(client, "POST", "/inference-logs-*/_refresh")


def _measure(name: str, number: int, stack: Stack, expected: int) -> Joined:
    """Run a case over the whole backlog.

    Raises:
        EvaluationError: the case ends by itself, or stops before the end.
    """
    from benchmarks.deployment import EvaluationError, forget_group
    from benchmarks.subject import running
    from machine_learning_engineering.kafka.client import topic_name
    from monitoring.elastic import client as elastic
    from monitoring.runtime.groups import LABEL_JOINER

    group = topic_name(stack.settings, LABEL_JOINER)
    with elastic.connect(stack.settings) as client:
        _fill(stack, client, expected)
        before = written(client)
        first: tuple[float, int, float] | None = None
        moved, seen = time.monotonic(), 0
        with running(CASES[name], stack, group) as subject:
            while seen < expected:
                time.sleep(POLL_SECONDS)
                subject.check()
                count, now = written(client) - before, time.monotonic()
                if count > seen:
                    moved, seen = now, count
                    if first is None and count >= WARM_UP * expected:
                        first = (now, count, subject.cpu_seconds())
                elif now - moved > STALLED_SECONDS:
                    raise EvaluationError(f"{name} stopped after {seen} of {expected} labels")
            assert first is not None
            cpu = subject.cpu_seconds() - first[2]
        forget_group(stack.settings, group)
        right = _right(client)
    behind = expected - first[1]
    rate = behind / (moved - first[0]) if moved > first[0] else 0.0
    return Joined(name, number, right, expected, rate, cpu / max(1, behind))


def _right(client: Any) -> int:
    """Documents that have the label that was reported of them."""
    from monitoring.elastic import client as elastic
    from monitoring.elastic import scan

    elastic.request(client, "POST", "/inference-logs-*/_refresh")
    body: dict[str, Any] = {
        "size": 5_000,
        "_source": ["inflight.request_id", "inflight.label"],
        "sort": [{"inflight.request_id": "asc"}],
        "query": {"term": {"inflight.labelled": True}},
    }
    right = 0
    while hits := scan.hits(client, "inference-logs-*", body):
        for hit in hits:
            inference = hit["_source"]["inflight"]
            right += inference["label"] == f"{int(inference['request_id'].rpartition('-')[2])}.5"
        body["search_after"] = hits[-1]["sort"]
    return right


def measure(labels: int, rounds: int, report: Callable[[str], None]) -> list[Joined]:
    """Measure; `report` is told each step.

    Raises:
        EvaluationError: nothing can be measured here.
    """
    from monitoring.elastic import client as elastic
    from monitoring.labels.store import LabelStore

    report("starting Kafka and Elasticsearch")
    found: list[Joined] = []
    with deploy() as stack:
        with elastic.connect(stack.settings) as client:
            LabelStore(client, stack.settings).prepare()
        report(f"publishing {labels:,} labels")
        _publish(stack, labels)
        report("warming up: Elasticsearch's code is compiled while it runs")
        for name in CASES:
            _measure(name, 0, stack, labels)
        for number in range(1, rounds + 1):
            for name in CASES if number % 2 else reversed(CASES):
                one = _measure(name, number, stack, labels)
                found.append(one)
                report(f"round {number} {name}: {one.rate:,.0f} labels/s, {one.right:,} right")
    return found


app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)


@app.command(epilog="Example: python -m benchmarks.labels --labels 20000 --rounds 3")
def bench(
    labels: Annotated[int, typer.Option(min=1_000, help="Labels of the backlog.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; in each, every case runs once.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object, alone on the last line.")] = False,
) -> None:
    """Measure the joiner against a bare loop: same broker, same Elasticsearch, same documents, one core each."""
    from benchmarks.deployment import EvaluationError

    try:
        found = measure(labels, rounds, report=lambda line: typer.echo(line, err=True))
    except EvaluationError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    reference = {one.round: one.rate for one in found if one.case == REFERENCE}
    if as_json:
        typer.echo(msgspec.json.encode({"rounds": found}).decode())
    else:
        for name, case in CASES.items():
            ones = [one for one in found if one.case == name]
            rates = [one.rate for one in ones]
            ratio = median(one.rate / reference[one.round] for one in ones)
            cpu = median(one.cpu_seconds_per_label for one in ones) * 1e6
            typer.echo(
                f"{case.what:<40}{median(rates):>8,.0f} labels/s ({min(rates):,.0f} - {max(rates):,.0f}), "
                f"{ratio:.2f} x {REFERENCE}, CPU {cpu:.0f} us/label"
            )
    if any(one.right != one.expected for one in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.labels")
