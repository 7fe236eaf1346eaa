"""Real Apache Kafka as one KRaft node on Java 17, broker and controller in one process."""

import os
import subprocess
from pathlib import Path
from typing import ClassVar

from inflight.stack import probes
from inflight.stack.maven import Artifact, resolve_jars
from inflight.stack.process import Launch, Node, StackError, foreign_environment, free_port

KAFKA_VERSION = "4.1.1"
ARTIFACTS = (
    Artifact("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    Artifact("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.1"),
)
HEAP = "-Xmx512m"
CLUSTER_ID = "SW5mbGlnaHRJbmZsaWdodA"

SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
# Relative to the node's folder, which is the current one: its name may have any characters, a comma for one.
log.dirs=data
# An auto-created topic would silently lack our configuration, such as LogAppendTime.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=4
"""

LOG4J = """\
Configuration:
  status: WARN
  Appenders:
    Console:
      name: stdout
      PatternLayout:
        pattern: "%d %p %c{1} %m%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        ref: stdout
    Logger:
      - name: kafka.server.KafkaRaftServer
        level: INFO
"""


def jars() -> Path:
    """The folder with Kafka and its dependencies."""
    return resolve_jars(f"kafka-{KAFKA_VERSION}", ARTIFACTS)


class KafkaNode(Node):
    """A broker on the loopback interface; by default on a free port, which it keeps."""

    name = "kafka"
    seconds_to_ready = 180.0
    jvm_options: ClassVar[tuple[str, ...]] = ()
    """Further options of the JVM, such as those that make it start with less CPU time."""

    def __init__(self, directory: Path, *, port: int | None = None, die_with_parent: bool = True) -> None:
        super().__init__(directory, die_with_parent=die_with_parent)
        self.port = port or free_port()
        self._controller_port = free_port()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def endpoints(self) -> dict[str, str]:
        return {"kafka": self.bootstrap_servers}

    def is_ready(self) -> bool:
        return probes.broker_responds(self.bootstrap_servers)

    def prepare(self) -> Launch:
        (self.directory / "server.properties").write_text(
            SERVER_PROPERTIES.format(port=self.port, controller_port=self._controller_port)
        )
        (self.directory / "log4j2.yaml").write_text(LOG4J)
        if os.pathsep in str(jars()):
            raise StackError(f"{jars()} can't be on Java's class path: set XDG_CACHE_HOME to a folder without a colon")
        java = ["java", HEAP, *self.jvm_options, "-Dlog4j2.configurationFile=log4j2.yaml", "-cp", f"{jars()}/*"]
        environment = foreign_environment()
        if not (self.directory / "data" / "meta.properties").exists():
            storage_tool = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties"]
            done = subprocess.run(
                storage_tool,
                cwd=self.directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
            if done.returncode != 0:
                raise StackError(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-2_000:]}")
        return Launch([*java, "kafka.Kafka", "server.properties"], environment)
