"""Nodes whose folder has a name that other programs' configuration files would read as something else."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from elasticsearch import Elasticsearch

from inflight.settings import Settings
from inflight.stack.elasticsearch import ElasticsearchNode
from inflight.stack.embedded import EmbeddedNode
from inflight.stack.kafka import KafkaNode
from inflight.stack.process import StackError
from machine_learning_engineering.events.topics import TOPICS
from machine_learning_engineering.kafka.client import create_topics
from tests.conftest import MISSING_TOOLS

ODD = "größe, #1 ; a:b \\u0041 \"x\" 'y' {0} %d = ü"
real = pytest.mark.skipif(bool(MISSING_TOOLS), reason="no real node without Java and Maven")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's: Elasticsearch's user can't enter that."""
    with tempfile.TemporaryDirectory(prefix="inflight-odd-") as found:
        Path(found).chmod(0o755)
        yield Path(found)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", [ODD, "${HOME}"])
@pytest.mark.parametrize("kind", [pytest.param(KafkaNode, marks=real), EmbeddedNode])
def test_a_broker_finds_its_data_again(kind: type[KafkaNode | EmbeddedNode], name: str, folder: Path) -> None:
    """In its folder and nowhere else."""
    node = kind(folder / name / "kafka")
    try:
        node.start()
        settings = Settings(_env_file=None, kafka_bootstrap_servers=node.bootstrap_servers)  # type: ignore[call-arg]
        assert len(create_topics(settings)) == len(TOPICS)
        node.restart()
        found = AdminClient({"bootstrap.servers": node.bootstrap_servers}).list_topics(timeout=30).topics
        assert {topic.name for topic in TOPICS} <= found.keys()
    finally:
        node.kill()
    assert files(folder) == {name}
    assert files(folder / name) == {"kafka"}
    assert "data" in files(folder / name / "kafka")


@real
def test_elasticsearch_finds_its_data_again(folder: Path) -> None:
    """In its folder and nowhere else."""
    node = ElasticsearchNode(folder / ODD / "elasticsearch")
    try:
        node.start()
        with Elasticsearch(node.url, request_timeout=60) as client:
            client.index(index="found", id="1", document={"a": 1}, refresh=True)
        node.restart()
        with Elasticsearch(node.url, request_timeout=60) as client:
            client.cluster.health(wait_for_status="yellow", timeout="60s")
            assert client.get(index="found", id="1")["_source"] == {"a": 1}
    finally:
        node.kill()
    assert files(folder) == {ODD}
    assert files(folder / ODD) == {"elasticsearch"}
    assert files(folder / ODD / "elasticsearch" / "data") >= {"indices"}
    assert (folder / ODD / "elasticsearch").stat().st_mode & 0o777 == 0o700


@real
def test_elasticsearch_says_what_it_cannot_use(folder: Path) -> None:
    """It replaces ${...} in its settings, and has no way to escape it."""
    node = ElasticsearchNode(folder / "${HOME}" / "elasticsearch")
    with pytest.raises(StackError, match=r"set INFLIGHT_HOME to a folder without \$\{"):
        node.start()
    assert not node.is_alive()
