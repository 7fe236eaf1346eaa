"""Elasticsearch as one node on the loopback interface: the released server, from Maven Central, without security."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import ClassVar

from inflight.stack import probes
from inflight.stack.maven import Artifact, cached, resolve_jars, resolve_zip
from inflight.stack.process import Launch, Node, StackError, foreign_environment, free_port

ELASTICSEARCH_VERSION = "8.19.21"
ARCHIVE = Artifact("org.elasticsearch.distribution.integ-test-zip", "elasticsearch", ELASTICSEARCH_VERSION, "zip")
# ES|QL, the query language of the dashboards, is not in that archive. Its modules are on Maven Central, except one for
# hexagonal grids on maps.
_NO_H3 = (("org.elasticsearch", "elasticsearch-h3"),)
ESQL_PARTS = tuple(
    Artifact("org.elasticsearch.plugin", name, ELASTICSEARCH_VERSION, without=_NO_H3)
    for name in ("x-pack-esql", "x-pack-esql-core", "x-pack-esql-compute")
)
# Their dependencies that the server does not have: it refuses to start with duplicate classes.
ESQL_JARS = re.compile(
    r"(x-pack-esql(-core|-compute|-compute-ann)?|x-pack-kql|x-pack-mapper-version|arrow|arrow-(format|vector|memory-core)|elasticsearch-dissect"
    r"|antlr4-runtime|flatbuffers-java|jackson-[a-z0-9-]+?|lucene-spatial3d|checker-qual)-[0-9.]+\.jar"
)
ESQL_DESCRIPTOR = f"""\
description=ES|QL
version={ELASTICSEARCH_VERSION}
name=x-pack-esql
java.version=17
elasticsearch.version={ELASTICSEARCH_VERSION}
classname=org.elasticsearch.xpack.esql.plugin.EsqlPlugin
extended.plugins=x-pack-core
"""
NOBODY = 65534
_FOLDERS_OF_NOBODY = Path("/var/lib/inflight")

CONFIG = """\
cluster.name: inflight
node.name: inflight
# As a list: a comma in a single path would divide it.
path.data: [{data}]
path.logs: {logs}
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport_port}
discovery.type: single-node
xpack.security.enabled: false
# A laptop's disk is often fuller than the watermarks at which a node rejects writes.
cluster.routing.allocation.disk.threshold_enabled: false
"""

JVM_OPTIONS = """\
-Xms256m
-Xmx1g
-XX:+UseSerialGC
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
    """The unpacked release with ES|QL, shared by all nodes of this user, read-only."""

    def fill(folder: Path, work: Path) -> None:
        # Hard links: the two trees share their read-only files.
        shutil.copytree(
            resolve_zip(f"elasticsearch-{ELASTICSEARCH_VERSION}", ARCHIVE), folder / "home", copy_function=os.link
        )
        module = folder / "home" / "modules" / "x-pack-esql"
        module.mkdir(mode=0o755)
        for jar in resolve_jars(f"elasticsearch-esql-{ELASTICSEARCH_VERSION}", ESQL_PARTS).iterdir():
            if ESQL_JARS.fullmatch(jar.name):
                os.link(jar, module / jar.name)
        (module / "plugin-descriptor.properties").write_text(ESQL_DESCRIPTOR)

    return cached(f"elasticsearch-{ELASTICSEARCH_VERSION}-with-esql-2", fill) / "home"


class ElasticsearchNode(Node):
    """Elasticsearch on the loopback interface; by default on a free port, which it keeps.

    Elasticsearch refuses to run as root: started by root it runs as the user `nobody`. That user can't reach a folder
    below, say, root's home; then the node keeps its files below /var/lib/inflight, in a folder of its own.
    """

    name = "elasticsearch"
    seconds_to_ready = 300.0
    jvm_options: ClassVar[tuple[str, ...]] = ()
    """Further options of the JVM, such as those that make it start with less CPU time."""

    def __init__(self, directory: Path, *, port: int | None = None, die_with_parent: bool = True) -> None:
        self._uid = NOBODY if os.geteuid() == 0 else None
        if self._uid is not None and not _open_to_others(directory.absolute().parent):
            directory = folder_of_nobody(directory)
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
        return probes.elasticsearch_responds(self.url)

    def prepare(self) -> Launch:
        if "${" in str(self.directory):
            raise StackError(f"Elasticsearch can't use {self.directory}: set INFLIGHT_HOME to a folder without ${{")
        home = distribution()
        if self._uid is not None and not _open_to_others(home):
            raise StackError(
                f"{home} must be readable for the user nobody: unset XDG_CACHE_HOME, or chmod o+x its folders"
            )
        folders = {name: self.directory / name for name in ("config", "data", "logs", "tmp")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        config = folders["config"]
        (config / "jvm.options").write_text(JVM_OPTIONS + "\n".join(self.jvm_options))
        (config / "log4j2.properties").write_text(LOG4J)
        (config / "elasticsearch.yml").write_text(
            CONFIG.format(
                # JSON's strings are YAML's too.
                data=json.dumps(str(folders["data"])),
                logs=json.dumps(str(folders["logs"])),
                port=self.port,
                transport_port=self._transport_port,
            )
        )
        if self._uid is not None:
            if self.directory.parent == _FOLDERS_OF_NOBODY:
                self.directory.parent.chmod(0o755)
            for path in (self.directory, *self.directory.rglob("*")):
                # A symbolic link that the user nobody left there must not lead root to other files.
                os.chown(path, self._uid, self._uid, follow_symlinks=False)
        java = shutil.which("java")
        if java is None:
            raise StackError("Elasticsearch needs Java 17: install it (Debian: apt-get install default-jre-headless)")
        env = foreign_environment(
            ES_PATH_CONF=str(config),
            ES_TMPDIR=str(folders["tmp"]),
            ES_JAVA_HOME=str(Path(java).resolve().parent.parent),
            ES_JAVA_OPTS="",
            HOME=str(self.directory),
        )
        return Launch([str(home / "bin" / "elasticsearch")], env, self._uid)


def folder_of_nobody(directory: Path) -> Path:
    """Where a node that root starts keeps its files if `nobody` can't reach its folder."""
    name = hashlib.sha256(str(directory.absolute()).encode(errors="surrogateescape")).hexdigest()[:12]
    return _FOLDERS_OF_NOBODY / f"elasticsearch-{name}"


def _open_to_others(path: Path) -> bool:
    """Whether any user can enter this folder and its parents; those that don't exist yet will be open."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
