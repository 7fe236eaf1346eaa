"""A data scientist's package, streamed by the product that it is installed beside."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inflight.demo.processes import Process
from inflight.settings import Settings
from inflight.supervisor.specs import READY
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import read_to_end
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog
from producers.replay import replay
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a program to its end; what it printed."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        env=clean | dict(environment or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout


def installer(python: Path) -> list[str | Path]:
    """uv where it is, as `make setup` puts it; else pip."""
    if UV.exists():
        return [UV, "pip", "install", "--quiet", "--python", python]
    return [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a folder beside the product's environment, with its metadata: for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("beside")
    run(*installer(Path(sys.executable)), "--no-deps", "--target", folder, ROOT / "ds" / "ds_package")
    return folder


class Product:
    """The product as a user has it who installed the package beside it."""

    def __init__(self, settings: Settings, beside: Path) -> None:
        self.environment = {
            "PYTHONPATH": str(beside),
            "INFLIGHT_HOME": str(settings.home),
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        }
        folder = settings.home / "processes"
        self.processes = [
            Process("worker", "worker", folder, self.environment, READY["worker"]),
            Process("indexer", "indexer", folder, self.environment),
        ]

    def python(self, *arguments: str | Path) -> Any:
        """What a Python program prints, as JSON."""
        return json.loads(run(sys.executable, *arguments, environment=self.environment, cwd=ROOT))

    def inflight(self, *arguments: str | Path) -> Any:
        """What a command prints with --json."""
        return self.python("-m", "inflight.cli", *arguments, "--json")


@pytest.fixture
def deployed(settings: Settings, search: Any, beside: Path) -> Iterator[Product]:
    """A trained model, a worker and an indexer."""
    found = Product(settings, beside)
    [trained] = found.inflight("train", "wine")
    assert (trained["model"], trained["version"], trained["promoted"]) == ("wine", "v1", True)
    try:
        for process in found.processes:
            process.start()
        yield found
    finally:
        for process in found.processes:
            process.stop()


def test_the_product_trains_serves_logs_and_retrains_a_package_that_is_installed_beside_it(
    settings: Settings, deployed: Product
) -> None:
    """No room knows of it: an entry point is all. What it was asked becomes training data once the labels are there."""
    code = "import json, ds_package; print(json.dumps([[e.features, e.label] for e in ds_package.Wine.examples()]))"
    wines = deployed.python("-c", code)
    requests = [features for features, _ in wines]

    # The day's index of the search node is shared with other tests.
    prefix = settings.topic_prefix.rstrip("-")
    report = replay(settings, [*requests, {"alcohol": "a lot"}], model="wine", id_prefix=prefix, keep_ids=True)

    assert report.accepted == len(requests) + 1 == 179
    until(lambda: len(list(read_to_end(settings, RESULTS))) >= 179, 300, "every bottle is answered")
    results = [json.loads(record.value() or b"") for record in read_to_end(settings, RESULTS)]
    completed = [result for result in results if result["type"] == "prediction.completed.v1"]
    assert len(completed) == 178
    assert {result["model_version"] for result in completed} == {"v1"}
    assert {result["prediction"]["cultivar"] for result in completed} == {"barolo", "grignolino", "barbera"}
    [failed] = [result for result in results if result["type"] == "prediction.failed.v1"]
    assert "alcohol" in failed["error"]["message"]

    with ElasticsearchPredictionLog(settings) as log:
        until(lambda: len(list(log.read("wine"))) >= 179, 300, "every request is in the deployment's log")
    labels = settings.home / "labels.jsonl"
    now = datetime.now(UTC).isoformat()
    lines = [
        {"request_id": f"{prefix}-{number:08}", "model": "wine", "label": label, "observed_at": now}
        for number, (_, label) in enumerate(wines)
    ]
    labels.write_text("\n".join(map(json.dumps, lines)))

    few = ("--min-labelled", "100", "--min-rows", "100")
    decision = deployed.inflight("retrain", "wine", "--log", "elasticsearch", "--labels", labels, *few, "--dry-run")
    evidence = decision["evidence"]
    assert (decision["outcome"], evidence["rows"], evidence["labelled"]) == ("kept", 178, 178)
    [built] = deployed.inflight("features", "build", "wine", "--labels", labels)

    assert (built["requests"], built["new_requests"], built["refused"]) == (179, 178, 1)
    assert (built["new_labels"], built["unmatched"], built["examples"]) == (178, 0, 178)
    assert deployed.inflight("features", "build", "wine", "--labels", labels)[0]["new_requests"] == 0
    views = deployed.inflight("features", "show")
    assert [(view["view"], view["rows"]) for view in views] == [("wine", 178), ("wine.labels", 178)]
    [first] = [deployed.inflight("features", "show", "wine", "--key", f"{prefix}-00000000")]
    assert first["features"] == requests[0]
    [again] = deployed.inflight("train", "wine", "-ds", Path(built["path"]).parent)
    assert again["version"] == "v2"
    assert [source["rows"] for source in again["sources"]] == [178]


def test_the_package_imports_the_public_sdk_alone() -> None:
    """No room of the product, by its imports and by its requirements."""
    rooms = ("inflight", "model", "monitoring", "producers", "stream_app", "faust", "confluent_kafka", "elasticsearch")
    package = ROOT / "ds" / "ds_package"
    for file in sorted((package / "ds_package").glob("*.py")):
        imports = [line.split()[1] for line in file.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert not [name for name in imports if name.split(".")[0] in rooms], file
    required = tomllib.loads((package / "pyproject.toml").read_text())["project"]["dependencies"]
    # The SDK is installed by its path: whoever owns its name on a package index would be installed otherwise.
    assert {name.split(">")[0] for name in required} == {"msgspec", "numpy", "scikit-learn"}
