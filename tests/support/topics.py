"""Topics that come and go while a test runs."""

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from inflight.settings import Settings
from machine_learning_engineering.kafka.client import client_options
from tests.support.waiting import until


def delete_topic(settings: Settings, name: str) -> None:
    """Delete the topic of this full name, and wait until the broker knows.

    It learns of it later than the controller: until then it takes records into the old topic.
    """
    admin = AdminClient(client_options(settings))
    admin.delete_topics([name])[name].result(120)

    def gone() -> bool:
        # Not `list_topics`: by that question the embedded broker makes the topic again.
        try:
            admin.describe_topics(TopicCollection([name]))[name].result(20)
        except KafkaException as error:
            return bool(error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART)
        return False

    until(gone, 120, f"{name} is gone")
