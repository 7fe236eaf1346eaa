"""Whether this machine has what Inflight needs, and the fix for what is missing."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from inflight.settings import Settings
from inflight.stack import probes
from inflight.stack.embedded import INSTALL as INSTALL_EMBEDDED
from inflight.stack.maven import FIX as INSTALL_JAVA_AND_MAVEN
from inflight.stack.process import foreign_environment, is_listening
from inflight.stack.stack import StackState
from inflight.stack.status import broker_responds, elasticsearch_responds
from machine_learning_engineering.core.extras import DISTRIBUTIONS
from machine_learning_engineering.events.topics import LABELS, REQUESTS, TOPICS
from machine_learning_engineering.policies import InvalidPolicies, load_policies, policies_file
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.settings import redact_url

GIBIBYTE = 1024**3
PINNED = (
    "faust-streaming",
    "mode-streaming",
    "aiokafka",
    "elasticsearch",
    "confluent-kafka",
    "kafka-python",
)
"""Tested as one set; another version may lose requests silently."""
EMBEDDED = "noida-db"
TOPIC_SECONDS = 10.0


class Check(NamedTuple):
    """One finding. `fix` is empty if there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Run all checks and yield each result at once."""
    yield _python()
    yield _java()
    yield _maven()
    yield _memory()
    yield _disk(settings.home)
    yield from _registry(settings)
    yield from _distributions()
    yield from _policies(settings)
    yield from _pinned_parts()
    yield _embedded()
    yield _faust()
    yield from _nodes(settings)
    yield from _indices(settings)
    yield from _metrics_ports(settings)


def _python() -> Check:
    # The package can't be installed on older versions; its dependencies may not support newer ones yet.
    found = sys.version.split()[0]
    if sys.version_info >= (3, 14):
        return Check("python", "warn", f"{found} is newer than tested", "run `make PYTHON=python3.12 setup`")
    return Check("python", "ok", found)


def _java() -> Check:
    if shutil.which("java") is None:
        return Check("java", "warn", "not found; only the embedded stack can run", INSTALL_JAVA_AND_MAVEN)
    command, environment = ["java", "-version"], foreign_environment()
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False).stderr
    version = re.search(r'version "(\d+)([^"]*)"', answer)
    if version is None:
        return Check("java", "warn", f"unknown version: {answer.strip()!r}", INSTALL_JAVA_AND_MAVEN)
    found = version[1] + version[2]
    if int(version[1]) < 17:
        return Check("java", "warn", f"{found}; the real stack needs 17", INSTALL_JAVA_AND_MAVEN)
    return Check("java", "ok", found)


def _maven() -> Check:
    path = shutil.which("mvn")
    if path is None:
        return Check("maven", "warn", "not found; only the embedded stack can run", INSTALL_JAVA_AND_MAVEN)
    return Check("maven", "ok", path)


def _memory() -> Check:
    [available] = re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    free = int(available) * 1024
    found = f"{free / GIBIBYTE:.1f} GiB"
    if free < 0.5 * GIBIBYTE:
        return Check("memory", "fail", found, "free at least 512 MiB of memory")
    if free < 3 * GIBIBYTE:
        return Check("memory", "warn", found, "enough for the embedded stack; --stack real needs 3 GiB")
    return Check("memory", "ok", found)


def _disk(home: Path) -> Check:
    folder = next(parent for parent in (home.absolute(), *home.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GIBIBYTE:.1f} GiB in {folder}"
    fix = "free space there, or set INFLIGHT_HOME to a folder with more"
    if free >= 5 * GIBIBYTE:
        return Check("disk", "ok", found)
    return Check("disk", "fail" if free < 1 * GIBIBYTE else "warn", found, fix)


def _registry(settings: Settings) -> Iterator[Check]:
    """The registry behind a URL, or one that is signed."""
    place = settings.registry_dir
    if isinstance(place, Path):
        return
    try:
        registry = RegistryReader(place)
        champions, problem = registry.champions(), registry.files.problem
    except (RegistryError, OSError, ImportError) as error:
        yield Check("registry", "fail", str(error), "see docs/several-machines.md")
        return
    signed = "signed" if place.keys else "not signed"
    found = f"{place}: {len(champions)} champions, {signed}"
    if problem:
        yield Check("registry", "warn", f"{problem}; its cache is used", "see docs/several-machines.md")
    elif not place.keys:
        fix = "set INFLIGHT_REGISTRY_SIGNING_KEY everywhere, then `inflight models sign`"
        yield Check("registry", "warn", f"{found}: whoever may write there decides what is predicted", fix)
    else:
        yield Check("registry", "ok", found)


def _installed_as() -> list[str]:
    """The distributions that brought this code: the product, which contains the SDK, and nothing else."""
    return [name for name in DISTRIBUTIONS if any(metadata.distributions(name=name))]


def _distributions() -> Iterator[Check]:
    product, sdk = DISTRIBUTIONS
    if len(found := _installed_as()) == len(DISTRIBUTIONS):
        fix = f"`pip uninstall {sdk}`, then install {product} again"
        yield Check("distributions", "fail", f"{' and '.join(found)} overwrite each other's files", fix)


def _policies(settings: Settings) -> Iterator[Check]:
    """The file of policies, if there is one."""
    try:
        found = load_policies(settings)
    except InvalidPolicies as error:
        yield Check("policies", "fail", str(error), "see docs/retraining.md")
        return
    if found:
        yield Check("policies", "ok", f"{policies_file(settings)}: {', '.join(found)}")


def _pinned_parts() -> Iterator[Check]:
    declared = [Requirement(line) for name in _installed_as() for line in metadata.requires(name) or ()]
    wanted = {requirement.name: requirement.specifier for requirement in declared if requirement.name in PINNED}
    for name in PINNED:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, "fail", "not installed", "run `make setup`")
            continue
        if name in wanted and not wanted[name].contains(found):
            yield Check(name, "fail", f"{found}, tested with {wanted[name]}", "run `make setup`")
        else:
            yield Check(name, "ok", found)


def _embedded() -> Check:
    try:
        return Check(EMBEDDED, "ok", f"{metadata.version(EMBEDDED)} (optional: --stack embedded)")
    except metadata.PackageNotFoundError:
        return Check(EMBEDDED, "ok", f"not installed (optional: --stack embedded): {INSTALL_EMBEDDED}")


def _faust() -> Check:
    # In another process: this package does not import Faust.
    command = [sys.executable, "-P", "-m", "stream_app", "--check"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        why = answer.stderr.strip().splitlines()[-1]
        return Check("faust's iterator", "fail", why, "unset NO_CYTHON, or run `make setup`")
    return Check("faust's iterator", "ok", answer.stdout.strip())


def _nodes(settings: Settings) -> Iterator[Check]:
    state = StackState.load(settings.home)
    if state is not None:
        for node in state.nodes:
            if not node.is_alive():
                yield Check(f"node {node.name}", "fail", f"has exited, see {node.log}", "`inflight up`")
    answers = (
        ("broker", settings.kafka_bootstrap_servers, broker_responds(settings)),
        ("elasticsearch", settings.elasticsearch_url, elasticsearch_responds(settings)),
    )
    for name, address, answered in answers:
        if answered:
            yield Check(name, "ok", f"responds at {redact_url(address)}")
            if name == "broker":
                yield from _topics(settings)
        elif state is not None and state.is_alive() and address not in state.endpoints:
            exports = " ".join(
                f"{variable}={shlex.quote(value)}" for variable, value in state.endpoints.environment.items()
            )
            elsewhere = f"no response at {redact_url(address)}; the stack listens elsewhere"
            yield Check(name, "fail", elsewhere, f"export {exports}")
        elif name == "broker" and probes.anything_listens(address):
            protocol = settings.kafka_options.get("security.protocol", "PLAINTEXT")
            found = f"the listener at {address} does not respond as a broker with {protocol}"
            fix = "if it is your broker, check INFLIGHT_KAFKA_OPTIONS and its log; if not, `inflight up --kafka-port N`"
            yield Check(name, "fail", found, fix)
        else:
            yield Check(
                name,
                "warn",
                f"no response at {redact_url(address)}",
                "`inflight up`, or `inflight demo`, which needs neither",
            )


def _topics(settings: Settings) -> Iterator[Check]:
    from confluent_kafka import KafkaException

    from machine_learning_engineering.kafka.topic_check import check_topics

    names = [topic.name for topic in TOPICS]
    try:
        # Requests and labels come from others.
        faults = check_topics(
            settings, names, [name for name in names if name not in (REQUESTS, LABELS)], TOPIC_SECONDS
        )
    except KafkaException as error:
        yield Check(
            "topics", "warn", f"not checked: {error.args[0].str()}", "check INFLIGHT_KAFKA_OPTIONS and the ACLs"
        )
        return
    for fault in faults:
        yield Check(f"topic {fault.topic}", "fail" if fault.fatal else "warn", fault.finding, fault.fix)
    if not faults:
        yield Check("topics", "ok", "those that exist have the settings that Inflight needs")


def _indices(settings: Settings) -> Iterator[Check]:
    from monitoring.elastic import client as elastic
    from monitoring.elastic.templates import ForeignTemplate, check_foreign_templates

    if not elasticsearch_responds(settings):
        return
    try:
        with elastic.connect(settings, timeout=probes.PROBE_SECONDS) as client:
            shards, limit = elastic.count_shards(client)
            check_foreign_templates(client)
    except ForeignTemplate as error:
        yield Check("index templates", "fail", str(error), "change that template")
        return
    except elastic.FAILURES as error:
        yield Check("shards", "warn", f"can't be counted: {error}", "check INFLIGHT_ELASTICSEARCH_API_KEY")
        return
    fix = "set INFLIGHT_ELASTICSEARCH_RETENTION_DAYS lower, or add nodes: beyond that, nothing is indexed"
    yield Check(
        "shards", "warn" if shards > 0.8 * limit else "ok", f"{shards:,} of {limit:,}", fix * (shards > 0.8 * limit)
    )


def _metrics_ports(settings: Settings) -> Iterator[Check]:
    for name, port in settings.metrics_ports.items():
        if port and is_listening(port, settings.metrics_host):
            variable = f"INFLIGHT_{name.replace('-', '_').upper()}_METRICS_PORT"
            found = f"port {port} is in use, perhaps by a running {name}"
            yield Check(f"{name} metrics port", "warn", found, f"set {variable} to another port for a second process")
        else:
            yield Check(f"{name} metrics port", "ok", f"{port} is free" if port else "any free port")
