"""A broker that authenticates by SASL/PLAIN and authorizes by access rights, all on the loopback interface."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from inflight.stack import probes
from inflight.stack.kafka import KafkaNode, jars
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

    def configure(self, arguments: list[str]) -> None:
        """Run `kafka-configs.sh` as the operator."""
        properties = self.directory / "admin.properties"
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        properties.write_text(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
            f'sasl.jaas.config={login} username="{OPERATOR}" password="{OPERATOR}-secret";\n'
        )
        where = ["--bootstrap-server", self.bootstrap_servers, "--command-config", str(properties)]
        java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*", "kafka.admin.ConfigCommand"]
        done = subprocess.run([*java, *where, *arguments], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

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


class TableRow(NamedTuple):
    """What the table of a page says of a principal: topics that it reads and writes, and the groups that it joins."""

    reads: frozenset[str]
    writes: frozenset[str]
    joins: frozenset[str]


def access_table(page: str) -> dict[str, TableRow]:
    """The rows of a page's table of access rights, by principal; without the operator, who may do everything."""
    rows = (line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| `[a-z-]+` \|", line))
    found = {}
    for principal, reads, writes, more in rows:
        joins = re.findall(r"Read on `([^`]+)`", more)
        name = principal.strip("`")
        found[name] = TableRow(
            *(frozenset(re.findall(r"`([^`]+)`", cell)) for cell in (reads, writes)), frozenset(joins)
        )
    found.pop(OPERATOR)
    return found


def quota_commands(page: str) -> list[list[str]]:
    """The arguments of the commands `kafka-configs.sh` of a page, without those that say where the broker is."""
    lines = (shlex.split(line) for line in page.splitlines() if line.startswith("kafka-configs.sh "))
    return [arguments[arguments.index("--alter") :] for arguments in lines]


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
