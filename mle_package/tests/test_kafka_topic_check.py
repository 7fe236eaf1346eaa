"""The judgement of topics, on a cluster that one machine does not have: several replicas, and access rules."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="needs the extra kafka")

from confluent_kafka import KafkaError, KafkaException

from machine_learning_engineering.events.topics import LOGS, MODEL_EVENTS, REQUESTS, RESULTS, TOPICS
from machine_learning_engineering.kafka import client, topic_check
from machine_learning_engineering.kafka.topic_check import UnusableTopics, check_topics, require_topics
from machine_learning_engineering.settings import KernelSettings

CONFIGS = {topic.name: dict(topic.config) for topic in TOPICS}


class Cluster:
    """An admin client of topics in memory."""

    def __init__(self, replicas: int = 3, partitions: int = 4) -> None:
        self.configs = {name: {**config, "min.insync.replicas": "2"} for name, config in CONFIGS.items()}
        self.shape = dict.fromkeys(CONFIGS, (partitions, replicas))
        self.refused: dict[str, int] = {}

    def list_topics(self, timeout: float) -> Any:
        topics = {}
        for name, (partitions, replicas) in self.shape.items():
            one = SimpleNamespace(replicas=list(range(replicas)))
            topics[name] = SimpleNamespace(partitions=dict.fromkeys(range(partitions), one))
        return SimpleNamespace(topics=topics)

    def describe_configs(self, resources: Any, request_timeout: float) -> dict[Any, Future[Any]]:
        futures: dict[Any, Future[Any]] = {}
        for resource in resources:
            futures[resource] = future = Future()
            if resource.name in self.refused:
                future.set_exception(KafkaException(KafkaError(self.refused[resource.name])))
            else:
                entries = self.configs[resource.name].items()
                future.set_result({name: SimpleNamespace(value=value) for name, value in entries})
        return futures


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(topic_check, "AdminClient", lambda _options: found)
    monkeypatch.setattr(client, "AdminClient", lambda _options: found)
    return found


def settings(**options: Any) -> KernelSettings:
    return KernelSettings(_env_file=None, **options)


def faults(names: Any = tuple(CONFIGS), **options: Any) -> list[tuple[str, str, str, str, bool]]:
    found = check_topics(settings(**options), names, names)
    return [(one.topic, one.setting, one.found, one.wanted, one.fatal) for one in found]


def test_three_replicas_of_which_two_have_to_acknowledge_are_as_they_should_be(cluster: Cluster) -> None:
    assert faults() == []
    secured = {"security.protocol": "SSL"}
    assert faults(production=True, kafka_options=secured) == []


@pytest.mark.parametrize(
    ("replicas", "in_sync", "found", "wanted", "fatal"),
    [
        (3, "1", "1 with 3 replicas", "2", False),
        (3, "3", "3 with 3 replicas", "2", False),
        (3, "4", "4 with 3 replicas", "2 or fewer", True),
        (2, "2", "2 with 2 replicas", "1", False),
        (1, "2", "2 with 1 replica", "1 or fewer", True),
    ],
)
def test_replicas_are_compared_with_the_minimum(
    cluster: Cluster, replicas: int, in_sync: str, found: str, wanted: str, fatal: bool
) -> None:
    cluster.shape[RESULTS] = (4, replicas)
    cluster.configs[RESULTS]["min.insync.replicas"] = in_sync
    assert faults() == [(RESULTS, "min.insync.replicas", found, wanted, fatal)]


def test_one_replica_is_a_fault_in_production_only(cluster: Cluster) -> None:
    cluster.shape[LOGS] = (4, 1)
    cluster.configs[LOGS]["min.insync.replicas"] = "1"
    assert faults() == []
    secured = {"security.protocol": "SSL"}
    (fault,) = faults(production=True, kafka_options=secured)
    assert fault == (LOGS, "replication", "1", "3 (INFLIGHT_PRODUCTION is set)", False)


@pytest.mark.parametrize("count", [2, 6])
def test_outputs_have_as_many_partitions_as_requests(cluster: Cluster, count: int) -> None:
    cluster.shape[RESULTS] = (count, 3)
    assert faults() == [(RESULTS, "number of partitions", str(count), "4, as prediction-requests has", False)]
    assert faults((RESULTS,)) == []


def test_settings_that_may_not_be_read_are_told_and_keep_nobody_from_starting(cluster: Cluster) -> None:
    cluster.refused = {REQUESTS: KafkaError.TOPIC_AUTHORIZATION_FAILED}
    (fault,) = require_topics(settings(), reads=(REQUESTS,), writes=(RESULTS, LOGS))
    assert (fault.topic, fault.fatal) == (REQUESTS, False)
    assert "DescribeConfigs" in str(fault)


def test_a_broker_that_does_not_answer_is_an_error(cluster: Cluster) -> None:
    cluster.refused = {REQUESTS: KafkaError._TIMED_OUT}
    with pytest.raises(KafkaException):
        check_topics(settings(), (REQUESTS,))


def test_a_fault_is_one_line_with_topic_setting_found_wanted_and_fix(cluster: Cluster) -> None:
    cluster.configs[REQUESTS]["cleanup.policy"] = "compact"
    cluster.configs[RESULTS]["max.message.bytes"] = "1048588"
    with pytest.raises(UnusableTopics) as caught:
        require_topics(settings(), reads=(REQUESTS,), writes=(RESULTS,))
    first, second = str(caught.value).splitlines()
    assert first.startswith("topic prediction-requests: cleanup.policy is compact, wanted delete: ")
    assert first.endswith("kafka-configs --alter --topic prediction-requests --add-config cleanup.policy=delete")
    assert second.startswith("topic prediction-results: max.message.bytes is 1048588, wanted 8388608 or more: ")


def test_a_setting_that_the_broker_does_not_know_is_not_checked(cluster: Cluster) -> None:
    del cluster.configs[MODEL_EVENTS]["compression.type"]
    assert faults() == []
