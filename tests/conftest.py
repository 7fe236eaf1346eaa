"""Brokers and search nodes for the tests: real Apache Kafka and Elasticsearch where Java and Maven are, else embedded.

Nodes start when a test first asks for them and live for the session. With REQUIRE_REAL=1 real nodes are a must.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from inflight.settings import Settings
from inflight.stack.elasticsearch import ELASTICSEARCH_VERSION, ElasticsearchNode
from inflight.stack.embedded import EmbeddedNode
from inflight.stack.kafka import KAFKA_VERSION, KafkaNode
from inflight.stack.maven import missing_tools
from machine_learning_engineering.kafka.client import create_topics
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.quick import TrainingRun, train
from model.catalog import available
from tests.support import warm
from tests.support.doses import FULL
from tests.support.object_store import s3, s3_server  # noqa: F401  (fixtures)
from tests.support.postgres import PostgresNode, binaries

# New examples are for developers' machines; where a change has to land, the same ones each time. How long an example
# takes is the machine's affair.
_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("patient", **_PATIENT)
hypothesis.settings.register_profile("steady", derandomize=True, **_PATIENT)
hypothesis.settings.load_profile("steady" if os.environ.get("REQUIRE_REAL") == "1" else "patient")

# Nothing has imported numpy yet, which reads them once. The tests share a small machine with the nodes.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# Short-lived nodes spend most CPU time on starting and on compiling code: a quick compiler and a plain collector do.
KafkaNode.jvm_options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
ElasticsearchNode.jvm_options = ("-XX:TieredStopAtLevel=1",)

Broker = KafkaNode | EmbeddedNode
SearchNode = ElasticsearchNode | EmbeddedNode
KINDS = ("embedded", "real")

MISSING_TOOLS = missing_tools()
MAIN_KIND = "embedded" if MISSING_TOOLS else "real"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "embedded_gap(reason): the embedded node can't do this: a strict xfail there, a plain test elsewhere"
    )
    config.addinivalue_line(
        "markers", "needs_real(reason): skipped where the main broker and search node are the embedded ones"
    )
    if not FULL:
        warm.install()
    if MISSING_TOOLS and os.environ.get("REQUIRE_REAL") == "1":
        pytest.exit(
            f"REQUIRE_REAL=1, but {' and '.join(MISSING_TOOLS)} not found on PATH: no real broker", returncode=3
        )
    for variable in [name for name in os.environ if name.startswith("INFLIGHT_")]:
        # INFLIGHT_TEST_DOSE and INFLIGHT_TEST_SEED are for the tests themselves.
        if not variable.startswith("INFLIGHT_TEST_"):
            del os.environ[variable]


def pytest_report_header() -> list[str]:
    if MISSING_TOOLS:
        why = f"because {' and '.join(MISSING_TOOLS)} is missing; tests on real nodes are skipped"
        return [f"broker and search node: embedded noida-db, {why}"]
    return [
        f"broker: real Apache Kafka {KAFKA_VERSION}; search node: real Elasticsearch {ELASTICSEARCH_VERSION}; "
        "contract suites: these and embedded noida-db"
    ]


# Tests that load a deployment while they break it need the machine: one process of pytest-xdist runs them one after the
# other, and starts with them, while the others run the rest, file by file. A file that takes minutes comes early there.
_HEAVY = ("tests/integration/test_faults_", "tests/integration/test_promotion")
_LONG = (
    "tests/integration/test_transport",
    "tests/e2e/",
    "tests/integration/test_replay",
    "tests/integration/test_train_",
    "tests/integration/test_acls",
    "tests/integration/test_foreign_producer",
    "tests/integration/test_idle_behind_transactions",
)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return "heavy" if nodeid.startswith(_HEAVY) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (not item.nodeid.startswith(_HEAVY), not item.nodeid.startswith(_LONG)))
    for item in items:
        needed = item.get_closest_marker("needs_real")
        if needed is not None and MISSING_TOOLS:
            item.add_marker(pytest.mark.skip(reason=needed.kwargs["reason"]))
        gap = item.get_closest_marker("embedded_gap")
        parameters = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        if gap is not None and "embedded" in parameters:
            item.add_marker(pytest.mark.xfail(reason=gap.kwargs["reason"], strict=True))


@pytest.fixture(scope="session")
def stack_home() -> Iterator[Path]:
    """Where the session's nodes keep their files. Not pytest's: Elasticsearch's user can't enter that."""
    home = Path(tempfile.mkdtemp(prefix="inflight-test-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


Nodes = Callable[[str, str], Any]


@pytest.fixture(scope="session")
def nodes(stack_home: Path) -> Iterator[Nodes]:
    """`nodes("broker" | "search", "embedded" | "real")`: the session's node of this role and kind, running."""
    started: dict[tuple[str, str], KafkaNode | ElasticsearchNode | EmbeddedNode] = {}

    def node(role: str, kind: str) -> KafkaNode | ElasticsearchNode | EmbeddedNode:
        if (role, kind) not in started:
            directory = stack_home / f"{role}-{kind}"
            if kind == "embedded":
                service = {"broker": "kafka", "search": "elasticsearch"}[role]
                started[role, kind] = EmbeddedNode(directory, services=(service,))
            else:
                started[role, kind] = KafkaNode(directory) if role == "broker" else ElasticsearchNode(directory)
        found = started[role, kind]
        if not found.is_alive():
            found.start()
        return found

    yield node
    for found in started.values():
        found.stop()


def _kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind == "real" and MISSING_TOOLS:
        pytest.skip(f"no real node without {' and '.join(MISSING_TOOLS)}")
    return kind


@pytest.fixture(scope="session")
def broker(nodes: Nodes) -> Broker:
    """The main broker: real where possible. `bootstrap_servers`; `start`, `stop`, `kill`, `restart(hard=True)`."""
    node: Broker = nodes("broker", MAIN_KIND)
    return node


@pytest.fixture(scope="session")
def search(nodes: Nodes) -> SearchNode:
    """The main search node: real where possible. `url`; `start`, `stop`, `kill`, `restart(hard=True)`."""
    node: SearchNode = nodes("search", MAIN_KIND)
    return node


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresNode]:
    """The session's PostgreSQL, running. `new_database()`; `start`, `stop`, `kill`, `restart(hard=True)`."""
    if binaries() is None:
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail("REQUIRE_REAL=1, but PostgreSQL is not installed: apt-get install postgresql")
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    node = PostgresNode()
    try:
        node.start()
        yield node
    finally:
        node.remove()


@pytest.fixture
def new_archive(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """`new_archive("sqlite" | "postgresql")`: the address of an empty database; skips without PostgreSQL."""

    def address(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'archive.sqlite'}"
        node: PostgresNode = request.getfixturevalue("postgres")
        if not node.is_alive():
            node.start()
        return node.new_database()

    return address


@pytest.fixture(params=["sqlite", "postgresql"])
def archive_url(request: pytest.FixtureRequest, new_archive: Callable[[str], str]) -> str:
    """The address of an empty database, of every kind in turn."""
    return new_archive(request.param)


@pytest.fixture(params=KINDS)
def each_broker(request: pytest.FixtureRequest, nodes: Nodes) -> Broker:
    """Every kind of broker in turn, for contract suites."""
    node: Broker = nodes("broker", _kind(request))
    return node


@pytest.fixture(params=KINDS)
def each_search(request: pytest.FixtureRequest, nodes: Nodes) -> SearchNode:
    """Every kind of search node in turn, for contract suites."""
    node: SearchNode = nodes("search", _kind(request))
    return node


@pytest.fixture(params=["memory", *KINDS])
def each_stream(request: pytest.FixtureRequest, nodes: Nodes) -> Settings | None:
    """Settings with topics on every kind of broker in turn, for what also has a stream in memory: None."""
    if request.param == "memory":
        return None
    node: Broker = nodes("broker", _kind(request))
    settings: Settings = request.getfixturevalue("settings")
    settings = settings.model_copy(update={"kafka_bootstrap_servers": node.bootstrap_servers})
    create_topics(settings)
    return settings


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of one test: topics of its own, which exist, on its broker, and its search node where it asks for one.

    That is the node of `each_broker` or `each_search` where the test uses these, else the main one. All ports are free.
    """
    names = request.fixturenames
    used = [request.getfixturevalue("each_broker" if "each_broker" in names else "broker")]
    used += [request.getfixturevalue(name) for name in ("search", "each_search") if name in names]
    for node in used:
        # An earlier test may have left it stopped, by an error between its stop and its start.
        if not node.is_alive():
            node.start()
    return _new_settings(tmp_path, used[0], **({"elasticsearch_url": used[1].url} if len(used) > 1 else {}))


@pytest.fixture(scope="module")
def module_settings(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """As `settings`, for all tests of a file, and without a search node."""
    return _new_settings(tmp_path_factory.mktemp("home"), broker)


def _new_settings(home: Path, broker: Broker, **changes: Any) -> Settings:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=home,
        kafka_bootstrap_servers=broker.bootstrap_servers,
        topic_prefix=f"t{uuid.uuid4().hex[:8]}-",
        worker_metrics_port=0,
        indexer_metrics_port=0,
        exporter_metrics_port=0,
        drift_monitor_metrics_port=0,
        label_joiner_metrics_port=0,
        features_metrics_port=0,
        archive_metrics_port=0,
        gateway_port=0,
        gateway_metrics_port=0,
        **changes,
    )
    create_topics(settings)
    return settings


@pytest.fixture(scope="session")
def training_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home that lasts for the session; wheels come from the user's cache."""
    home: Path = tmp_path_factory.mktemp("models")
    return Settings(home=home, _env_file=None)


@pytest.fixture(scope="session")
def training_runs(training_settings: Settings) -> dict[str, TrainingRun]:
    """The first training of each model."""
    return {name: train(model_class, training_settings) for name, model_class in available().items()}


@pytest.fixture(scope="session")
def trained_registry(training_settings: Settings, training_runs: dict[str, TrainingRun]) -> Registry:
    """A registry that holds a champion of each model."""
    return Registry(training_settings.registry_dir)
