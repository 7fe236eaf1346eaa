"""A company's fitted pipeline and topic, adopted by commands alone: the answers are the pipeline's."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from inflight.cli import app
from inflight.settings import Settings, load_settings
from inflight.stack.process import free_port
from machine_learning_engineering.adoption.catalog import adopted_classes
from machine_learning_engineering.adoption.model import adopted_class
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted
from machine_learning_engineering.events.topics import LOGS, RESULTS
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.settings import load_settings as load_kernel_settings
from tests.support.company import COLUMNS, Company, features_of, make
from tests.support.deployment import Deployment
from tests.support.http_clients import call
from tests.support.waiting import until

LONG = 3_600
SOME = slice(0, 200)


def inflight(folder: Path, *words: object, code: int = 0, **environment: str) -> str:
    """What a command prints, run in a folder; it has to end with the code."""
    with contextlib.chdir(folder):
        _forget_settings()
        done = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "200", "NO_COLOR": "1"} | environment)
        _forget_settings()
    assert done.exit_code == code, f"{words}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}\n{done.exception!r}"
    return done.stdout


def _forget_settings() -> None:
    """Of the command before: a process reads them once."""
    for cached in (load_settings, load_kernel_settings):
        cached.cache_clear()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return make(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def home(company: Company) -> KernelSettings:
    """A home whose registry has the company's model: the one command that it takes."""
    folder = company.model.parent
    where = folder / "home"
    command = ("adopt", company.model.name, "--sample", company.sample.name, "--label", "fraud", "--write", "--json")
    told = json.loads(inflight(folder, *command, INFLIGHT_HOME=str(where)))
    assert (told["version"], told["champion"], told["written"]) == ("v1", True, ["fraud.toml"])
    assert told["parity"]["exact"]
    assert told["metrics"]["roc_auc"] > 0.8
    return KernelSettings(_env_file=None, home=where)  # type: ignore[call-arg]


@pytest.fixture
def adopted(home: KernelSettings) -> MLEModel:
    registry = Registry(home.registry_dir)
    return registry.open("fraud", model_class=adopted_classes(registry)["fraud"])


@pytest.fixture
def deployment(settings: Settings, home: KernelSettings, adopted: MLEModel) -> Iterator[Deployment]:
    with Deployment(settings, settings.model_copy(update={"home": home.home}), adopted) as found:
        yield found


def requests_file(company: Company, folder: Path, rows: slice, model: str = "fraud") -> Path:
    """Rows of the company's data as lines of features, with ids in order."""
    path = folder / "requests.jsonl"
    lines = company.orders[COLUMNS][rows].to_dict("records")
    path.write_text(
        "".join(
            json.dumps({"request_id": f"{model}-{number}", "model": model, "features": features_of(row)}) + "\n"
            for number, row in enumerate(lines)
        )
    )
    return path


def answers(settings: Settings, model: str = "fraud") -> dict[int, Any]:
    found = [events.decode_result(message.value()) for message in read_to_end(settings, RESULTS)]
    assert all(isinstance(one, PredictionCompleted) for one in found), found[:3]
    return {
        int(one.request_id.rpartition("-")[2]): events.parse(one.prediction)
        for one in found
        if isinstance(one, PredictionCompleted) and one.model == model
    }


def test_a_worker_answers_as_the_pipeline_does(
    each_broker: object, company: Company, deployment: Deployment, tmp_path: Path
) -> None:
    """And a model that is adopted while it runs is served without a restart."""
    settings = deployment.settings
    worker = deployment.worker(worker_model_poll_interval=0.5)
    deployment.serving(1)
    there = deployment.environment
    inflight(tmp_path, "replay", requests_file(company, tmp_path, SOME), **there)
    deployment.settles()
    found = answers(settings)
    expected = company.expected(SOME)
    assert len(found) == len(expected)
    assert [found[number]["probability"] for number in range(len(expected))] == pytest.approx(expected, abs=1e-12)
    assert [found[number]["fraud"] for number in range(len(expected))] == [one >= 0.5 for one in expected]

    run, name = worker.pid, f"later-{settings.topic_prefix}".rstrip("-")
    save_as(name, deployment, company)
    until(lambda: worker.metric("inflight_worker_model_info", model=name) == 1, 120, f"{name} is served")
    inflight(tmp_path, "replay", requests_file(company, tmp_path, slice(0, 20), name), **there)
    deployment.settles()
    assert [answers(settings, name)[number]["probability"] for number in range(20)] == pytest.approx(expected[:20])
    assert worker.pid == run
    unusual = {"model": name, "feature": "payment", "reason": "not a known value"}
    assert worker.metric("inflight_worker_unusual_values_total", **unusual) == 0
    (odd,) = company.orders[COLUMNS][:1].assign(payment="coins").to_dict("records")
    (tmp_path / "odd.jsonl").write_text(
        json.dumps({"request_id": "odd-1", "model": name, "features": features_of(odd)})
    )
    inflight(tmp_path, "replay", tmp_path / "odd.jsonl", **there)
    deployment.settles()
    assert worker.metric("inflight_worker_unusual_values_total", **unusual) == 1
    logged = [events.parse(message.value()) for message in read_to_end(settings, LOGS)]
    mine = [one["features"] for one in logged if one["model"] == name]
    assert len(mine) == 21
    assert not any("payment" in features for features in mine)
    assert all("amount" in features for features in mine)


def save_as(name: str, deployment: Deployment, company: Company) -> None:
    """The same model under another name, whose feature `payment` the log drops; promoted."""
    registry = Registry(Path(deployment.environment["INFLIGHT_HOME"]) / "registry")
    before = parse_declaration(registry.declaration("fraud", "v1") or b"")
    model = adopted_class(
        msgspec.structs.replace(
            before, model=msgspec.structs.replace(before.model, name=name, redact={"payment": "drop"})
        )
    )()
    model.estimator = company.pipeline
    registry.promote(name, registry.save(model, metrics={}, training_data_sha256="", seed=1))


def publish(company: Company, settings: Settings, topic: str, rows: slice, damaged: int = 0) -> None:
    """The company's own producer; `damaged` of its events have a text as the amount."""
    admin = AdminClient(client_options(settings))
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(60)
    producer = Producer(producer_options(settings))
    for number, (key, event) in enumerate(company.events(rows)):
        if number < damaged:
            event["order"]["amount"] = "much"
        producer.produce(topic, json.dumps(event).encode(), key.encode())
    assert not producer.flush(60)


def test_a_topic_is_looked_at_and_tried_and_nothing_is_written(
    each_broker: object, company: Company, settings: Settings, tmp_path: Path
) -> None:
    """All features find their field; broken events are refused with the reason; the answers are the pipeline's."""
    topic = f"{settings.topic_prefix}orders"
    publish(company, settings, topic, SOME, damaged=3)
    there = {
        "INFLIGHT_HOME": str(tmp_path / "home"),
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
    }
    look = ("adopt", company.model, "--sample", company.sample, "--label", "fraud", "--topic", topic)
    told = json.loads(inflight(tmp_path, *look, "--json", **there))
    assert told["fields"] == {
        "amount": "order.amount",
        "distance_km": "order.shipping.distanceKm",
        "items": "order.items",
        "account_days": "customer.accountDays",
        "chargebacks": "customer.chargebacks",
        "hour": "session.hour",
        "payment": "order.payment",
        "country": "order.shipping.country",
        "device": "session.device",
        "category": "order.category",
        "referrer": "session.referrer",
        "coupon": "order.coupon",
    }
    assert told["declaration"]["source"] == {"topic": topic, "request_id": "order.id", "requested_at": "ts"}
    assert told["declaration"]["result"] == {"include": ["order.id", "customer.id"]}
    assert (told["events"]["read"], told["events"]["answered"]) == (200, 197)
    [(reason, count)] = told["events"]["refused"].items()
    assert (count, "amount" in reason) == (3, True)
    assert list(tmp_path.iterdir()) == []

    inflight(tmp_path, *look, "-o", "fraud.toml", **there)
    tried = json.loads(inflight(tmp_path, "try", "fraud.toml", "--last", 100, "--json", **there))
    assert tried["answered"] == 100
    expected = {f"o-{number:06}": one for number, one in enumerate(company.expected(slice(0, 200)))}
    found = {one["request_id"]: one["prediction"]["probability"] for one in tried["answers"]}
    assert found == pytest.approx({request_id: expected[request_id] for request_id in found}, abs=1e-12)
    assert tried["drifted"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fraud.toml"]


def test_drift_of_real_events_is_seen_before_anything_is_deployed(
    company: Company, settings: Settings, tmp_path: Path
) -> None:
    topic = f"{settings.topic_prefix}orders"
    dearer = company._replace(orders=company.orders.assign(amount=company.orders.amount * 1.8))
    publish(dearer, settings, topic, slice(0, 300))
    there = {"INFLIGHT_HOME": str(tmp_path / "home")} | {
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
    }
    look = ("adopt", company.model, "--sample", company.sample, "--label", "fraud", "--topic", topic, "--json")
    assert "features.amount" in json.loads(inflight(tmp_path, *look, **there))["events"]["drifted"]


def test_the_gateway_has_a_route_and_a_form(company: Company, deployment: Deployment) -> None:
    """Its OpenAPI document has the fields with examples, and its own example is answered."""
    port = free_port()
    deployment.worker()
    deployment.gateway(port)
    deployment.serving(1)
    until(lambda: call(port, "GET", "/v1/models/fraud").status == 200, 60, "the gateway knows the model")
    operation = call(port, "GET", "/openapi.json").body["paths"]["/v1/fraud/prediction"]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    row = body["example"] if "example" in body else next(iter(body["examples"].values()))["value"]
    assert set(row) >= {"amount", "payment", "items"}
    answer = call(port, "POST", "/v1/fraud/prediction", row)
    assert answer.status == 200, answer
    assert 0 <= answer.body["probability"] <= 1


def test_an_adopted_model_is_trained_again(company: Company, home: KernelSettings, tmp_path: Path) -> None:
    """The pipeline's own recipe on a file of rows; both versions can be compared and shown."""
    there = {"INFLIGHT_HOME": str(home.home)}
    [entry] = json.loads(inflight(tmp_path, "train", "fraud", "-ds", company.sample, "--json", **there))
    assert (entry["model"], entry["outcome"]) == ("fraud", "completed")
    assert entry["metrics"]["roc_auc"] > 0.75
    registry = Registry(home.registry_dir)
    assert registry.declaration("fraud", entry["version"]) == registry.declaration("fraud", "v1")
    compared = json.loads(
        inflight(tmp_path, "models", "compare", "fraud:v1", f"fraud:{entry['version']}", "--json", **there)
    )
    assert compared["same_schema"]
    assert json.loads(inflight(tmp_path, "models", "show", "fraud", "--json", **there))["model"] == "fraud"
