"""Real Elasticsearch as one node: the release's own server, from Maven Central, with security off on the loopback."""

import hashlib
import os
import shutil
from pathlib import Path

from inflight.stack import probes
from inflight.stack.maven import Artifact, resolve_zip
from inflight.stack.process import Launch, Node, StackError, free_port

ELASTICSEARCH_VERSION = "8.19.21"
ARCHIVE = Artifact("org.elasticsearch.distribution.integ-test-zip", "elasticsearch", ELASTICSEARCH_VERSION, "zip")
NOBODY = 65534

CONFIG = """\
cluster.name: inflight
node.name: inflight
path.data: {data}
path.logs: {logs}
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport_port}
discovery.type: single-node
xpack.security.enabled: false
# A laptop's disk is often fuller than the watermarks at which a node stops to take writes.
cluster.routing.allocation.disk.threshold_enabled: false
"""

JVM_OPTIONS = """\
-Xms256m
-Xmx1g
-XX:+UseG1GC
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${ES_TMPDIR}
20-:--add-modules=jdk.incubator.vector
-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1
"""

LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def distribution() -> Path:
    """The unpacked release, shared by all nodes of this user and never written to."""
    return resolve_zip(f"elasticsearch-{ELASTICSEARCH_VERSION}", ARCHIVE)


class ElasticsearchNode(Node):
    """A search node on the loopback interface; by default on any free port, which it keeps.

    Elasticsearch refuses to run as root: started by root it runs as the user `nobody`. That user can't reach a folder
    below, say, root's home; then the node keeps its files below /var/lib/inflight, in a folder of its own.
    """

    name = "elasticsearch"
    seconds_to_ready = 180.0

    def __init__(self, directory: Path, *, port: int | None = None, die_with_parent: bool = True) -> None:
        self._uid = NOBODY if os.geteuid() == 0 else None
        if self._uid is not None and not _open_to_others(directory.absolute()):
            folder = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:12]
            directory = Path("/var/lib/inflight") / f"elasticsearch-{folder}"
        super().__init__(directory, die_with_parent=die_with_parent)
        self.port = port or free_port()
        self._transport_port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoints(self) -> dict[str, str]:
        return {"elasticsearch": self.url}

    def is_ready(self) -> bool:
        return probes.search_answers(self.url)

    def prepare(self) -> Launch:
        home = distribution()
        if self._uid is not None and not _open_to_others(home):
            raise StackError(
                f"{home} has to be readable for the user nobody: unset XDG_CACHE_HOME, or chmod o+x its folders"
            )
        folders = {name: self.directory / name for name in ("config", "data", "logs", "tmp")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        config = folders["config"]
        (config / "jvm.options").write_text(JVM_OPTIONS)
        (config / "log4j2.properties").write_text(LOG4J)
        (config / "elasticsearch.yml").write_text(
            CONFIG.format(
                data=folders["data"], logs=folders["logs"], port=self.port, transport_port=self._transport_port
            )
        )
        if self._uid is not None:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, self._uid, self._uid)
        java = shutil.which("java")
        if java is None:
            raise StackError("Elasticsearch needs Java 17: install it (Debian: apt-get install default-jre-headless)")
        env = {
            "ES_PATH_CONF": str(config),
            "ES_TMPDIR": str(folders["tmp"]),
            "ES_JAVA_HOME": str(Path(java).resolve().parent.parent),
            "ES_JAVA_OPTS": "",
            "HOME": str(self.directory),
        }
        return Launch([str(home / "bin" / "elasticsearch")], env, self._uid)


def _open_to_others(path: Path) -> bool:
    """Whether any user can pass through this folder and all above it; those that don't exist yet will be open."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
