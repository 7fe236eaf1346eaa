"""A broker that authenticates by SASL/PLAIN and authorizes by access rights, all on the loopback interface."""

import argparse
import shlex
from collections.abc import Iterator

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from inflight.stack import probes
from inflight.stack.kafka import KafkaNode
from inflight.stack.process import Launch

OPERATOR = "operator"
PROPERTIES = """
listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="operator" password="operator-secret" {users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# The controller's own listener, without authentication, is for this one process.
super.users=User:operator;User:ANONYMOUS
"""


class SecuredKafkaNode(KafkaNode):
    """Each of `users` has a password; the operator may do everything, the others what access rights allow."""

    users: tuple[str, ...] = ()

    @staticmethod
    def options(user: str) -> dict[str, str]:
        """What a client of this user sets."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": f"{user}-secret",
        }

    def is_ready(self) -> bool:
        return probes.broker_responds(self.bootstrap_servers, self.options(OPERATOR))

    def prepare(self) -> Launch:
        launch = super().prepare()
        users = " ".join(f'user_{name}="{name}-secret"' for name in (OPERATOR, *self.users))
        more = PROPERTIES.format(port=self.port, controller_port=self._controller_port, users=users)
        # Of two lines with one name the later one counts.
        with (self.directory / "server.properties").open("a") as properties:
            properties.write(more)
        return launch


def access_rights(page: str) -> Iterator[AclBinding]:
    """The rights that the commands `$ACL --add ...` of a page give."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--resource-pattern-type", default="literal")
    for name in ("operation", "topic", "group", "transactional-id"):
        parser.add_argument(f"--{name}", action="append", default=[])
    kinds = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactional_id": ResourceType.TRANSACTIONAL_ID,
    }
    operations = {
        "Read": AclOperation.READ,
        "Write": AclOperation.WRITE,
        "Describe": AclOperation.DESCRIBE,
        "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    }
    for line in page.splitlines():
        if line.startswith("$ACL "):
            given = parser.parse_args(shlex.split(line)[1:])
            pattern = ResourcePatternType[given.resource_pattern_type.upper()]
            for option, kind in kinds.items():
                for name in getattr(given, option):
                    for operation in given.operation:
                        yield AclBinding(
                            kind,
                            name,
                            pattern,
                            given.allow_principal,
                            "*",
                            operations[operation],
                            AclPermissionType.ALLOW,
                        )
