"""Checks the topics of others before a worker reads or writes them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, NewTopic, ResourceType

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, TOPICS
from machine_learning_engineering.kafka.client import client_options, topic_name
from machine_learning_engineering.kafka.topic_check import TopicFault, UnusableTopics
from machine_learning_engineering.settings import KernelSettings
from stream_app.serving.batch import MAX_HEADER_BYTES, MAX_KEY_BYTES
from stream_app.serving.bindings import Binding

# A record has these beside its value, and a framing of its own.
_BESIDE = MAX_HEADER_BYTES + MAX_KEY_BYTES + 16 * 1024
_LEAST_BYTES = 256 * 1024


def require_sources(settings: KernelSettings, bindings: Iterable[Binding], timeout: float = 30.0) -> list[TopicFault]:
    """Check sources and their topics of results; create missing ones of results, with the partitions of the source.

    Sets `max_result_bytes` and `needs_key` of each binding to what its topic takes.

    Returns:
        Faults to warn of.

    Raises:
        UnusableTopics: a worker with these topics would lose records, or end at one again and again.
        KafkaException: the broker is unreachable.
    """
    bindings = list(bindings)
    if not bindings:
        return []
    admin = AdminClient(client_options(settings))
    existing = {name: len(found.partitions) for name, found in admin.list_topics(timeout=timeout).topics.items()}
    faults: list[TopicFault] = []
    for binding in bindings:
        faults += _wrong_names(settings, binding, existing)
    if any(fault.fatal for fault in faults):
        raise UnusableTopics([fault for fault in faults if fault.fatal])
    _create_results(admin, settings, bindings, existing, timeout)
    own = {one.results for one in bindings if one.is_own_topic}
    names = sorted({one.topic for one in bindings} | own)
    configs = _configs(admin, names, timeout)
    operations = _operations(admin, names, timeout)
    for binding in bindings:
        faults += _source_faults(binding, configs[binding.topic], operations)
        if binding.is_own_topic:
            faults += _result_faults(binding, existing, configs[binding.results], operations)
    if fatal := [fault for fault in faults if fault.fatal]:
        raise UnusableTopics(fatal)
    return faults


def _wrong_names(settings: KernelSettings, binding: Binding, existing: Mapping[str, int]) -> Iterator[TopicFault]:
    ours = {topic_name(settings, topic.name) for topic in TOPICS}
    read = f"the declaration of {binding.model}"
    for topic, named in ((binding.topic, "source.topic"), (binding.result.topic, "result.topic")):
        if topic in ours or topic.startswith("__"):
            what = "what is read there would be written there"
            yield TopicFault(
                topic, named, "the deployment's or the broker's own", "a topic of others", what, True, read
            )
    if binding.topic not in existing:
        effect, fix = f"nothing is read for {binding.model}", f"create it, grant Describe on it, or mend {read}"
        yield TopicFault(binding.topic, "source.topic", "missing, or not to be seen", "a topic", effect, True, fix)


def _create_results(
    admin: AdminClient,
    settings: KernelSettings,
    bindings: Iterable[Binding],
    existing: dict[str, int],
    timeout: float,
) -> None:
    config = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    for binding in bindings:
        if not binding.is_own_topic or binding.results in existing:
            continue
        count = existing[binding.topic]
        topic = NewTopic(binding.results, count, settings.topic_replication, config=config)
        try:
            admin.create_topics([topic], operation_timeout=timeout)[binding.results].result(timeout)
        except KafkaException as error:
            what = f"results of {binding.model} can't be written"
            fix = f"kafka-topics --create --topic {binding.results} --partitions {count}"
            found = f"missing ({error.args[0].str()})"
            raise UnusableTopics(
                [TopicFault(binding.results, "result.topic", found, "a topic", what, True, fix)]
            ) from None
        existing[binding.results] = count


def _source_faults(binding: Binding, config: Mapping[str, str], operations: Mapping[str, Any]) -> Iterator[TopicFault]:
    topic = binding.topic
    yield from _rights(topic, "READ", AclOperation.READ, operations)
    if "compact" in config.get("cleanup.policy", ""):
        effect = "compaction may delete a record before it is scored: it has no outcome then"
        yield TopicFault(topic, "cleanup.policy", config["cleanup.policy"], "delete", effect, False)


def _result_faults(
    binding: Binding, existing: Mapping[str, int], config: Mapping[str, str], operations: Mapping[str, Any]
) -> Iterator[TopicFault]:
    topic = binding.results
    yield from _rights(topic, "WRITE", AclOperation.WRITE, operations)
    count, wanted = existing[topic], existing[binding.topic]
    if count != wanted:
        grown = topic if count < wanted else binding.topic
        fix = f"kafka-topics --alter --topic {grown} --partitions {max(count, wanted)}"
        like, effect = f"{wanted}, as {binding.topic} has", "a result could not be in the partition of its source"
        yield TopicFault(topic, "number of partitions", str(count), like, effect, True, fix)
    limit = int(config.get("max.message.bytes", MAX_MESSAGE_BYTES))
    binding.max_result_bytes = min(limit, MAX_MESSAGE_BYTES) - _BESIDE
    binding.needs_key = "compact" in config.get("cleanup.policy", "")
    if limit < _LEAST_BYTES:
        fix = f"kafka-configs --alter --topic {topic} --add-config max.message.bytes={_LEAST_BYTES}"
        effect = "a result with the key and headers of its source may be larger"
        yield TopicFault(topic, "max.message.bytes", str(limit), f"{_LEAST_BYTES} or more", effect, True, fix)


def _rights(topic: str, name: str, operation: AclOperation, operations: Mapping[str, Any]) -> Iterator[TopicFault]:
    allowed = operations.get(topic)
    if allowed is not None and operation not in allowed:
        fix = f"kafka-acls --add --operation {name.title()} --topic {topic} --allow-principal ..."
        yield TopicFault(topic, "rights", f"without {name}", f"with {name}", "the worker would end", True, fix)


def _configs(admin: AdminClient, names: list[str], timeout: float) -> dict[str, Mapping[str, str]]:
    """Settings by topic; empty for one whose settings may not be read."""
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, Mapping[str, str]] = {}
    for resource, future in admin.describe_configs(asked, request_timeout=timeout).items():
        try:
            found[resource.name] = {name: entry.value for name, entry in future.result(timeout).items()}
        except KafkaException:
            found[resource.name] = {}
    return found


def _operations(admin: AdminClient, names: list[str], timeout: float) -> dict[str, Any]:
    """What the worker may do with each topic; None where the broker does not tell."""
    found: dict[str, Any] = {}
    answers = admin.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=timeout)
    for name, future in answers.items():
        try:
            found[name] = future.result(timeout).authorized_operations
        except KafkaException:
            found[name] = None
    return found
