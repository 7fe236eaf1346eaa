"""The images, built and run for real: `make faults`, or this file after `make image`. Needs root, buildah and podman.

Built by buildah on a base of Debian's packages; run by podman and runc as another user, with a read-only root, without
capabilities, on the host's network, against the real stack.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.docker import image as images
from inflight.settings import Settings
from inflight.stack.process import free_port
from tests.support.doses import FULL

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (FULL or os.environ.get("INFLIGHT_TEST_IMAGES")), reason="images are built by `make faults`"
    ),
]
MEGABYTE = 1_000_000
USER = "10001:10001"


@pytest.fixture(scope="module")
def serving() -> str:
    return built("serving")


@pytest.fixture(scope="module")
def training() -> str:
    return built("training")


def built(target: str) -> str:
    images.install_tools()
    images.build_base()
    name = images.IMAGES[target][0]
    if os.environ.get("INFLIGHT_TEST_IMAGES") == "built" and images.exists(name):
        return name
    return images.build(target)


class Containers:
    """Starts containers as production does, and removes them."""

    def __init__(self, volume: Path, settings: Settings) -> None:
        self._volume = volume
        self._settings = settings
        kinds = ("GATEWAY", "GATEWAY_METRICS", "WORKER_METRICS", "INDEXER_METRICS")
        self._ports = {f"INFLIGHT_{kind}_PORT": str(free_port()) for kind in kinds}
        self.names: list[str] = []

    def podman(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        command = ["podman", "--runtime", "runc", *arguments]
        done = subprocess.run(command, env=images.ENVIRONMENT, capture_output=True, text=True, check=False, timeout=900)
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done

    def options(self) -> list[str]:
        soft, hard = "nofile=10000:10000", "nproc=32768:32768"
        confined = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--pids-limit", "512"]
        variables = {
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": self._settings.kafka_bootstrap_servers,
            "INFLIGHT_ELASTICSEARCH_URL": self._settings.elasticsearch_url,
            "INFLIGHT_TOPIC_PREFIX": self._settings.topic_prefix,
            "INFLIGHT_METRICS_HOST": "127.0.0.1",
            **self._ports,
            "INFLIGHT_MODELS": '["titanic", "wine"]',
        }
        found = [
            "--network",
            "host",
            "--ulimit",
            soft,
            "--ulimit",
            hard,
            "--memory",
            "1g",
            "--tmpfs",
            "/tmp",
            *confined,
        ]
        found += ["--volume", f"{self._volume}:/var/lib/inflight"]
        for name, value in variables.items():
            found += ["--env", f"{name}={value}"]
        return found

    def start(self, image: str, *command: str) -> str:
        name = f"inflight-test-{os.getpid()}-{command[0]}"
        self.names.append(name)
        self.podman("run", "--detach", "--name", name, *self.options(), image, *command)
        return name

    def said(self, image: str, *command: str, entrypoint: str = "inflight") -> "subprocess.CompletedProcess[str]":
        return self.podman("run", "--rm", "--entrypoint", entrypoint, *self.options(), image, *command, check=False)

    def healthy(self, name: str) -> bool:
        """Whether the HEALTHCHECK of the image says so, as an engine asks."""
        return self.podman("healthcheck", "run", name, check=False).returncode == 0

    def close(self) -> None:
        for name in self.names:
            self.podman("rm", "--force", "--time", "0", name, check=False)


@pytest.fixture
def containers(tmp_path: Path, settings: Settings) -> Iterator[Containers]:
    volume = tmp_path / "volume"
    volume.mkdir()
    shutil.chown(volume, 10001, 10001)
    found = Containers(volume, settings)
    yield found
    found.close()


def wait_until(condition: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.5)


def test_the_image_is_small_and_says_what_it_is(serving: str) -> None:
    config = images.configuration(serving)
    assert config["User"] == USER
    assert config["Entrypoint"] == ["inflight"]
    assert config["Healthcheck"]["Test"] == ["CMD", "inflight", "health"]  # type: ignore[index]
    labels = config["Labels"]
    assert isinstance(labels, dict)
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert images.size(serving) < 530 * MEGABYTE


def test_nothing_in_it_compiles_or_installs(serving: str, containers: Containers) -> None:
    """And its list of parts has the packages that run."""
    script = """
for tool in pip pip3 cc gcc ld curl wget uv; do command -v $tool && exit 1; done
python -m pip --version 2>/dev/null && exit 2
python -m ensurepip --version 2>/dev/null && exit 3
touch /opt/inflight/x 2>/dev/null && exit 4
touch /etc/x 2>/dev/null && exit 5
id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status
cat /opt/inflight/sbom.cdx.json
"""
    done = containers.said(serving, "-c", script, entrypoint="sh")
    assert done.returncode == 0, done.stdout + done.stderr
    user, capabilities, privileges, document = done.stdout.split("\n", 3)
    assert (user, capabilities.split()[1].strip("0"), privileges.split()[1]) == ("10001", "", "1")
    parts = {one["name"] for one in json.loads(document)["components"]}
    assert {"inflight-streaming", "numpy", "confluent-kafka", "libc6", "python"} <= parts
    assert not parts & {"pip", "pytest", "uv", "hatchling"}


def test_every_command_is_there(serving: str, containers: Containers) -> None:
    said = containers.said(serving, "--version")
    assert said.stdout.startswith("inflight "), said.stderr
    for process in ("worker", "gateway", "indexer", "exporter", "archive"):
        assert containers.said(serving, process, "--help").returncode == 0, process


def test_it_trains_serves_indexes_and_drains(
    serving: str, training: str, search: object, containers: Containers
) -> None:
    """From the datasets in the image, without a network; then worker, indexer and gateway, and SIGTERM."""
    trained = containers.said(training, "train", "titanic", "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)[0]["model"] == "titanic"
    keys = containers.said(serving, "keys", "add", "tester", "--scope", "predict")
    assert keys.returncode == 0, keys.stderr
    started = {kind: containers.start(serving, kind) for kind in ("worker", "indexer", "gateway")}
    for kind, name in started.items():
        ready = ("exec", name, "inflight", "health", kind, "--ready")
        wait_until(lambda ready=ready: containers.podman(*ready, check=False).returncode == 0)  # type: ignore[misc]
        wait_until(lambda name=name: containers.healthy(name))  # type: ignore[misc]
    sent = containers.said(training, "replay", "titanic", "--limit", "500", "--json")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout.splitlines()[-1])["accepted"] == 500

    def audited() -> dict[str, int]:
        done = containers.podman("exec", started["indexer"], "inflight", "audit", "--json", check=False)
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}

    wait_until(lambda: audited().get("indexed_distinct") == 500)
    found = audited()
    assert (found["accepted"], found["completed"], found["lost"], found["conflicts"]) == (500, 500, 0, 0)
    for kind, name in started.items():
        containers.podman("kill", "--signal", "TERM", name)
        code = containers.podman("wait", name).stdout.strip()
        logs = containers.podman("logs", name)
        assert code == "0", f"{kind}: {logs.stdout[-2000:]}{logs.stderr[-2000:]}"
    changed = containers.podman("diff", started["worker"]).stdout
    assert not [line for line in changed.splitlines() if "/opt" in line]


def test_a_models_package_is_trained_beside_the_others(training: str, containers: Containers) -> None:
    """On top of the image, in a layer of its own, with nothing left of what installed it."""
    wine = built("wine")
    done = containers.said(wine, "train", "wine", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["model"] for one in json.loads(done.stdout)] == ["wine"]
    assert images.configuration(wine)["User"] == USER
    assert images.size(wine) - images.size(training) < 5 * MEGABYTE
    assert containers.said(wine, "-c", "ls /opt/build /source", entrypoint="sh").returncode != 0
