"""docker-compose.yml against what it names: the settings, the commands, the files. No engine runs here."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from inflight.cli import app
from inflight.settings import Settings
from monitoring.elastic.client import STOP_SECONDS
from monitoring.indexer.process import DRAIN_SECONDS
from monitoring.labels.process import MEASURE_SECONDS
from tests.support.tools import run, tool

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SECURE = ROOT / "compose.secure.yaml"
ADDRESSES = (("KAFKA", "BOOTSTRAP_SERVERS"), ("ELASTICSEARCH", "URL"), ("KIBANA", "URL"))
ENDS = {"train", "dashboards", "keys", "producer"}
"""Services of one command, which ends by itself."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


@pytest.fixture(scope="module")
def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if service["image"].startswith("inflight-training:")}


def loaded(*files: Path) -> dict[str, Any]:
    """The services as Compose's own loader merges them, after its schema and its checks of references."""
    found: dict[str, Any] = json.loads(run(tool("cmd", "compose"), "--format", "json", *files, cwd=ROOT))
    return found


def test_compose_accepts_the_file() -> None:
    """By its own validation: `docker compose config`, or Debian's docker-compose."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            checked = subprocess.run([*command, "-f", FILE, "config", "-q"], capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr
            return
    assert not os.environ.get("REQUIRE_REAL"), "docker compose is missing: install Debian's docker-compose"
    pytest.skip("docker compose is not installed")


def test_the_loader_of_compose_itself_accepts_the_file(services: dict[str, Any]) -> None:
    found = loaded(FILE)["services"]
    assert found["worker"]["image"] == services["worker"]["image"]
    assert found.keys() <= services.keys()
    assert found["train"]["build"]["dockerfile"] == "deploy/docker/Dockerfile"


def test_the_secure_file_leaves_no_address_and_no_secret_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in a variable would be refused beside a password in the file of settings; `!reset` removes it."""
    monkeypatch.setenv("COMPOSE_PROFILES", "all,tools")
    found = loaded(FILE, SECURE)["services"]
    ours = {name: one for name, one in found.items() if one["image"].startswith("inflight")}
    assert {"worker", "gateway", "producer", "dashboards"} <= ours.keys()
    for name, service in ours.items():
        variables = dict(pair.split("=", 1) for pair in service["environment"])
        assert variables["INFLIGHT_PRODUCTION"] == "true", name
        assert not variables.keys() & {f"INFLIGHT_{one}_{what}" for one, what in ADDRESSES}, name
        [file] = [one["target"] for one in service["secrets"] if one["source"] == "inflight.env"]
        assert variables["INFLIGHT_ENV_FILE"] == file, name
        assert variables["INFLIGHT_ELASTICSEARCH_CA_CERTS"] in {one["target"] for one in service["secrets"]}, name
    for name, service in found.items():
        pairs = service.get("environment", [])
        named = [pair.split("=")[0] for pair in pairs] if isinstance(pairs, list) else list(pairs)
        assert not [one for one in named if re.search("PASSWORD$|TOKEN$|API_KEY$|JAAS_CONFIG$", one)], name
    listeners = dict(pair.split("=", 1) for pair in found["kafka"]["environment"])
    protocols = dict(pair.split(":") for pair in listeners["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert protocols == {"INSIDE": "SASL_SSL", "OUTSIDE": "SASL_SSL", "CONTROLLER": "PLAINTEXT"}
    assert "CONTROLLER://localhost:" in listeners["KAFKA_LISTENERS"]


def test_the_settings_that_the_secure_file_describes_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written in its header: production, with the addresses and the secrets in one file."""
    header = SECURE.read_text().partition("x-environment")[0]
    joined = re.sub(r",\n#\s+\"", ', "', header)
    lines = re.findall(r"^#\s+(INFLIGHT_\w+=.+)$", joined, re.M)
    assert len(lines) == 5
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    file = tmp_path / "inflight.env"
    file.write_text("\n".join(lines).replace("/run/secrets", str(tmp_path)))
    file.chmod(0o400)
    monkeypatch.setenv("INFLIGHT_ENV_FILE", str(file))
    monkeypatch.setenv("INFLIGHT_PRODUCTION", "true")
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_CA_CERTS", str(authority))
    monkeypatch.setenv("INFLIGHT_KIBANA_CA_CERTS", str(authority))
    found = Settings()
    assert found.kafka_bootstrap_servers == "kafka:9092"
    assert found.kafka_options["security.protocol"] == "SASL_SSL"
    assert found.elasticsearch_url == "https://elasticsearch:9200"
    assert "B" not in found.kafka_options["sasl.username"]


def test_every_process_is_there(ours: dict[str, Any]) -> None:
    """The stream, its log, its metrics, drift and labels, and what brings the dashboards."""
    processes = {"worker", "indexer", "exporter", "drift-monitor", "label-joiner", "features", "gateway", "archive"}
    processes |= {"rollout-controller"}
    assert processes | ENDS <= ours.keys()


def test_what_ends_is_not_started_again_and_everything_else_is(ours: dict[str, Any]) -> None:
    """Of two mappings that are merged the earlier one wins, which is easily forgotten."""
    restarts = {name: service["restart"] for name, service in ours.items()}
    assert restarts == {name: "no" if name in ENDS else "unless-stopped" for name in ours}


def test_nobody_waits_for_the_end_of_what_goes_on(services: dict[str, Any]) -> None:
    """It would never start."""
    awaited = {
        needed
        for service in services.values()
        for needed, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert awaited
    assert awaited <= ENDS


def test_one_profile_is_everything_and_each_part_has_what_it_depends_on(services: dict[str, Any]) -> None:
    """A service that depends on one of a profile that is not chosen would be refused."""
    profiles = {name: set(service.get("profiles", [])) for name, service in services.items()}
    started = {name for name, chosen in profiles.items() if not chosen or "all" in chosen}
    assert started == services.keys() - {"producer"}
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert not profiles[needed] or profiles[name] <= profiles[needed], (name, needed)


def test_dashboards_are_there_without_anybodys_doing(services: dict[str, Any]) -> None:
    """Kibana is given them wherever it is started; Grafana and Prometheus read them from the mounted folders."""
    importer = services["dashboards"]
    assert importer["command"] == ["dashboards", "apply"]
    assert importer["depends_on"] == {"kibana": {"condition": "service_healthy"}}
    assert importer["profiles"] == services["kibana"]["profiles"]
    assert importer["environment"]["INFLIGHT_KIBANA_URL"] == "http://kibana:5601"
    mounted = [volume.split(":") for name in ("grafana", "prometheus") for volume in services[name]["volumes"]]
    files = {target: (ROOT / source) for source, target, *_ in mounted if source.startswith("./")}
    assert (files["/etc/prometheus"] / "prometheus.yml").is_file()
    assert list((files["/etc/grafana/provisioning"] / "datasources").glob("*.yml"))
    (provider,) = (files["/etc/grafana/provisioning"] / "dashboards").glob("*.yml")
    (path,) = [one["options"]["path"] for one in yaml.safe_load(provider.read_text())["providers"]]
    assert len(list(files[path].glob("*.json"))) == 4


def test_a_process_that_is_stopped_has_time_to_drain(ours: dict[str, Any]) -> None:
    """Longer than the slowest of them takes when everything around it hangs."""
    slowest = max(DRAIN_SECONDS, STOP_SECONDS + MEASURE_SECONDS)
    for name, service in ours.items():
        assert int(service["stop_grace_period"].removesuffix("s")) >= slowest + 10, name


def test_prometheus_scrapes_the_port_of_each_process(ours: dict[str, Any]) -> None:
    """Those that serve metrics, at the ports that they have by default."""
    config = yaml.safe_load((ROOT / "monitoring/deploy/prometheus/prometheus.yml").read_text())
    scraped = {
        job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"] for job in config["scrape_configs"]
    }
    defaults = Settings(_env_file=None)
    ports = {name: port for name in ours if (port := getattr(defaults, f"{name.replace('-', '_')}_metrics_port", None))}
    assert scraped == ports
    for name in ports:
        assert ours[name]["healthcheck"]["test"] == ["CMD", "inflight", "health", name]


def test_every_variable_is_a_setting(ours: dict[str, Any]) -> None:
    """A misspelt one would be ignored without a word."""
    fields = {f"INFLIGHT_{name.upper()}" for name in Settings.model_fields}
    named = {name for service in ours.values() for name in service["environment"]}
    assert named
    assert named <= fields


def test_every_command_is_one(ours: dict[str, Any]) -> None:
    """With options that it has."""
    for service in ours.values():
        command: Any = typer.main.get_command(app)
        arguments = list(service["command"])
        if arguments == ["--help"]:
            continue
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {one for one in arguments if one.startswith("-")} <= known, service["command"]


def test_one_service_builds_the_image(ours: dict[str, Any]) -> None:
    """Several that build the same tag fail on some engines; the others never take a stranger's from a registry."""
    [builder] = [name for name, service in ours.items() if "build" in service]
    assert not ours[builder].get("profiles")
    assert {service["pull_policy"] for name, service in ours.items() if name != builder} == {"never"}


def test_our_processes_may_write_their_volume_and_nothing_else(ours: dict[str, Any]) -> None:
    """Not root, a read-only root."""
    [dockerfile] = [ROOT / service["build"]["dockerfile"] for service in ours.values() if "build" in service]
    assert re.findall(r"^USER (.+)$", dockerfile.read_text(), re.M)[-1] == "10001:10001"
    for service in ours.values():
        assert service["read_only"] is True
        targets = [volume.split(":")[1] for volume in service.get("volumes", [])]
        mounts = [mount.split(":")[0] for mount in service["tmpfs"]]
        assert len({*targets, *mounts}) == len(targets) + len(mounts)
        assert "/var/lib/inflight" in {*targets, *mounts}


def test_only_training_and_rollouts_may_change_the_registry(ours: dict[str, Any]) -> None:
    """Whoever takes over an indexer or a producer replaces no model."""
    mounted = {
        name: [volume for volume in service.get("volumes", []) if volume.startswith("registry:")]
        for name, service in ours.items()
    }
    writable, read_only = "registry:/var/lib/inflight/registry", "registry:/var/lib/inflight/registry:ro"
    assert mounted.pop("train") == [writable]
    # It writes records and aliases.
    assert mounted.pop("rollout-controller") == [writable]
    readers = {name for name, volumes in mounted.items() if volumes}
    assert readers == {"worker", "drift-monitor", "label-joiner", "gateway"}
    assert {volume for volumes in mounted.values() for volume in volumes} == {read_only}
    homes = [name for name, one in ours.items() if "home:/var/lib/inflight" in one.get("volumes", [])]
    assert homes == ["train", "features"]


def test_nothing_has_more_rights_than_it_needs(services: dict[str, Any]) -> None:
    """No capability, no way to get one, a log that ends, and no network but those of what it talks to."""
    networks = {name: set(service["networks"]) for name, service in services.items()}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        for needed in service.get("depends_on", {}):
            # What has ended, such as a training, is not talked to.
            assert needed in ENDS or networks[name] & networks[needed], (name, needed)
    searching = {name for name, joined in networks.items() if "search" in joined}
    assert searching == {"elasticsearch", "kibana", "dashboards", "indexer", "label-joiner", "gateway", "producer"}


def test_health_checks_have_time_to_start_and_start_no_jvm(services: dict[str, Any]) -> None:
    """A JVM each ten seconds would take the memory of the broker."""
    for name, service in services.items():
        check = service["healthcheck"]
        if not check.get("disable"):
            assert check["start_period"], name
    assert services["kafka"]["healthcheck"]["test"] == ["CMD", "nc", "-z", "localhost", "9092"]


def test_the_gateway_needs_a_key_that_is_made_once(ours: dict[str, Any]) -> None:
    """It listens beyond its container, so it would not start without one; a second `up` finds the key there."""
    keys, gateway = ours["keys"], ours["gateway"]
    assert gateway["environment"]["INFLIGHT_GATEWAY_HOST"] == "0.0.0.0"
    assert gateway["environment"].items() > ours["worker"]["environment"].items()
    assert gateway["depends_on"]["keys"] == {"condition": "service_completed_successfully"}
    assert set(keys["volumes"]) <= set(gateway["volumes"])
    assert "--missing" in keys["command"]


def test_the_image_has_what_each_process_needs(ours: dict[str, Any]) -> None:
    """A process whose extra is missing would end with a message about it."""
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    [extras] = re.findall(r"^ARG EXTRAS=([\w,]+)$", dockerfile, re.M)
    assert {"archive", "gateway"} <= ours.keys()
    assert set(extras.split(",")) >= {"archive", "gateway", "stores"}
    assert ours["train"]["build"]["target"] == "training"
    assert '".[${EXTRAS},training]"' in dockerfile


def test_nobody_logs_in_to_grafana(services: dict[str, Any]) -> None:
    """By default there is an administrator with a known password."""
    environment = services["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_file_says_what_it_is_for() -> None:
    assert FILE.read_text().startswith("# DEVELOPMENT ONLY")


def test_nothing_listens_beyond_the_host(services: dict[str, Any]) -> None:
    """There is no password on any of them."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned_and_watched(services: dict[str, Any]) -> None:
    """Each by its version, with a health check or a run that ends, and with a limit to its memory."""
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name
        assert "healthcheck" in service, name
        assert "mem_limit" in service, name
