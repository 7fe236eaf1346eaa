"""Checks the settings of existing topics: a topic created by others may lose, refuse or block records.

Needs the extra `kafka` (confluent-kafka).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType, TopicMetadata

from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS, TOPICS, Topic
from machine_learning_engineering.kafka.client import client_options, create_topics, topic_name
from machine_learning_engineering.settings import KernelSettings

_UNANSWERED = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE)


class TopicFault(NamedTuple):
    """A setting of a topic that differs from the one that Inflight needs."""

    topic: str
    """Full name."""
    setting: str
    found: str
    wanted: str
    effect: str
    fatal: bool
    """Whether a process that uses the topic must not start: it would lose records, or fail at one again and again."""
    fix: str = ""

    @property
    def finding(self) -> str:
        """The setting, and what it should be."""
        return f"{self.setting} is {self.found}, wanted {self.wanted}: {self.effect}"

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.finding}" + (f"; fix: {self.fix}" if self.fix else "")


class UnusableTopics(RuntimeError):
    """Topics with which this process must not start. The message has one line for each fatal fault."""

    def __init__(self, faults: Collection[TopicFault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


def require_topics(
    settings: KernelSettings,
    *,
    reads: Collection[str] = (),
    writes: Collection[str] = (),
    timeout: float = 30.0,
) -> list[TopicFault]:
    """Create missing topics, check those of this process, and return the faults to warn of.

    Args:
        settings: Connection and topic prefix.
        reads: Topics that the process reads, without the prefix.
        writes: Topics that it writes.
        timeout: Seconds for each request to the broker.

    Raises:
        UnusableTopics: A fault is fatal for this process.
        KafkaException: The broker is unreachable or rejects a request.
        TimeoutError: A created topic got no leader.
    """
    create_topics(settings, timeout)
    faults = check_topics(settings, {*reads, *writes}, writes, timeout)
    if fatal := [fault for fault in faults if fault.fatal]:
        raise UnusableTopics(fatal)
    return faults


def check_topics(
    settings: KernelSettings, names: Collection[str], writes: Collection[str] = (), timeout: float = 30.0
) -> list[TopicFault]:
    """Return the faults of existing topics: settings, replication, and numbers of partitions.

    Args:
        settings: Connection and topic prefix.
        names: Topics, without the prefix. Missing ones have no faults.
        writes: Those among them that the asking process writes.
        timeout: Seconds for each request to the broker.

    Raises:
        KafkaException: The broker is unreachable.
    """
    admin = AdminClient(client_options(settings))
    existing = admin.list_topics(timeout=timeout).topics
    found = {topic.name: existing[name] for topic in TOPICS if (name := topic_name(settings, topic.name)) in existing}
    checked = [topic for topic in TOPICS if topic.name in names and topic.name in found]
    configs = _read_configs(admin, [topic_name(settings, topic.name) for topic in checked], timeout)
    faults: list[TopicFault] = []
    for topic in checked:
        name = topic_name(settings, topic.name)
        config = configs[name]
        if isinstance(config, KafkaError):
            faults.append(_unreadable(name, config))
            continue
        faults += _settings_faults(topic, name, config, written=topic.name in writes)
        faults += _replication_faults(name, config, found[topic.name], production=settings.production)
    return faults + list(_partition_faults(settings, {topic.name: found[topic.name] for topic in checked}))


def _read_configs(
    admin: AdminClient, names: Collection[str], timeout: float
) -> dict[str, Mapping[str, str] | KafkaError]:
    """Return the settings of each topic, or why the broker does not return them."""
    if not names:
        return {}
    configs: dict[str, Mapping[str, str] | KafkaError] = {}
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    for resource, future in admin.describe_configs(asked, request_timeout=timeout).items():
        try:
            configs[resource.name] = {name: entry.value for name, entry in future.result(timeout).items()}
        except KafkaException as error:
            if error.args[0].code() in _UNANSWERED:
                raise
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                # Deleted meanwhile, or not yet known to every broker.
                configs[resource.name] = {}
                continue
            configs[resource.name] = error.args[0]
    return configs


def _unreadable(name: str, error: KafkaError) -> TopicFault:
    effect = "nothing of it is checked"
    fix = f"kafka-acls --add --operation DescribeConfigs --topic {name} --allow-principal ..."
    return TopicFault(name, "its configuration", f"not readable ({error.str()})", "readable", effect, False, fix)


def _settings_faults(topic: Topic, name: str, config: Mapping[str, str], *, written: bool) -> Iterator[TopicFault]:
    for setting, wanted in topic.config.items():
        found = config.get(setting)
        if found is None or (judge := _JUDGES.get(setting)) is None:
            continue
        verdict = judge(topic, found, wanted, written)
        if verdict is not None:
            shown = f"{wanted} or more" if setting == "max.message.bytes" and int(found) < int(wanted) else wanted
            fix = f"kafka-configs --alter --topic {name} --add-config {setting}={wanted}"
            yield TopicFault(name, setting, found or "empty", shown, *verdict, fix)


_Verdict = tuple[str, bool] | None
"""Effect of a wrong setting and whether it is fatal; None if it will do."""


def _cleanup_policy(_topic: Topic, found: str, wanted: str, _written: bool) -> _Verdict:
    policies = {policy.strip() for policy in found.split(",")}
    if wanted == "delete" and "compact" in policies:
        return "compaction deletes all but the last record of each key, and refuses records without one", True
    if wanted == "compact" and "compact" not in policies:
        return "the last record of a key is deleted when it is old", False
    return None


def _max_message_bytes(topic: Topic, found: str, wanted: str, written: bool) -> _Verdict:
    if int(found) >= int(wanted):
        if topic.name == REQUESTS and int(found) > 4 * int(wanted):
            return "one record of a sender may take that much memory in every reader, several times", False
        return None
    if topic.name == REQUESTS:
        return "larger requests are refused at their producer instead of becoming dead letters", False
    return "a larger record can't be written, and its writer ends at it again and again", written


def _timestamp_type(topic: Topic, found: str, wanted: str, _written: bool) -> _Verdict:
    if found == wanted:
        return None
    if topic.name == REQUESTS:
        return "the producers' clocks, and not the broker's, say when a request was accepted", False
    return "no clock that its senders can't set says when a record was written: readers take their own", False


def _compression_type(_topic: Topic, found: str, wanted: str, _written: bool) -> _Verdict:
    if found == wanted:
        return None
    return "the broker measures compressed records: a few kilobytes may unpack to gigabytes in every reader", False


_JUDGES = {
    "cleanup.policy": _cleanup_policy,
    "max.message.bytes": _max_message_bytes,
    "message.timestamp.type": _timestamp_type,
    "compression.type": _compression_type,
}


def _replication_faults(
    name: str, config: Mapping[str, str], metadata: TopicMetadata, *, production: bool
) -> Iterator[TopicFault]:
    replicas = min((len(partition.replicas) for partition in metadata.partitions.values()), default=0)
    if not replicas:
        return
    in_sync, setting = int(config.get("min.insync.replicas") or 1), "min.insync.replicas"
    with_replicas = f"{in_sync} with {replicas} replica{'s' if replicas > 1 else ''}"

    def fault(wanted: int | str, effect: str, *, fatal: bool = False) -> TopicFault:
        value = str(wanted).partition(" ")[0]
        fix = f"kafka-configs --alter --topic {name} --add-config {setting}={value}"
        return TopicFault(name, setting, with_replicas, str(wanted), effect, fatal, fix)

    if in_sync > replicas:
        yield fault(f"{max(1, replicas - 1)} or fewer", "no record can be written with acks=all", fatal=True)
    elif replicas == 1:
        if production:
            effect = "an acknowledged record is lost with one broker"
            yield TopicFault(name, "replication", "1", "3 (INFLIGHT_PRODUCTION is set)", effect, False)
    elif in_sync == replicas:
        yield fault(replicas - 1, "nothing can be written while one broker is away")
    elif replicas > 2 and in_sync < 2:
        yield fault(2, "an acknowledged record may be lost with one broker")


def _partition_faults(settings: KernelSettings, found: Mapping[str, TopicMetadata]) -> Iterator[TopicFault]:
    if REQUESTS not in found:
        return
    wanted = len(found[REQUESTS].partitions)
    for topic in (RESULTS, LOGS, DEAD_LETTERS):
        if topic in found and (count := len(found[topic].partitions)) != wanted:
            name = topic_name(settings, topic)
            effect = "outputs go to the number of their request's partition modulo this one"
            if count < wanted:
                fix = f"kafka-topics --alter --topic {name} --partitions {wanted}"
            else:
                fix = f"kafka-topics --alter --topic {topic_name(settings, REQUESTS)} --partitions {count}"
            like = f"{wanted}, as {topic_name(settings, REQUESTS)} has"
            yield TopicFault(name, "number of partitions", str(count), like, effect, False, fix)
