"""Settings: which file is read, which options are accepted, and what is never printed."""

import json
import os
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from machine_learning_engineering.core.env_file import UntrustedEnvFile, check_sources, env_file
from machine_learning_engineering.core.kafka_options import check_options
from machine_learning_engineering.settings import KernelSettings, redact_url


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_the_current_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a user work in a folder would set options there that run code."""
    write(tmp_path / ".env", "INFLIGHT_SEED=5\n")
    write(tmp_path / ".inflight" / ".env", "INFLIGHT_SEED=6\n")
    monkeypatch.chdir(tmp_path)
    assert KernelSettings().seed == 20_260_101
    monkeypatch.setenv("INFLIGHT_HOME", ".inflight")
    assert KernelSettings().seed == 20_260_101


def test_a_named_file_and_one_in_the_home_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment goes before them, and the named one before that of the home."""
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path / "home"))
    assert KernelSettings().seed == 20_260_101
    write(tmp_path / "home" / ".env", "INFLIGHT_SEED=5\nINFLIGHT_TRAIN_THREADS=2\n")
    assert KernelSettings().seed == 5
    monkeypatch.setenv("INFLIGHT_ENV_FILE", str(write(tmp_path / "mine", "INFLIGHT_SEED=6\n")))
    assert (KernelSettings().seed, KernelSettings().train_threads) == (6, 1)
    monkeypatch.setenv("INFLIGHT_SEED", "7")
    assert KernelSettings().seed == 7


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / ".env", "", mode)
    for environment in ({"INFLIGHT_ENV_FILE": str(path)}, {"INFLIGHT_HOME": str(tmp_path)}):
        with pytest.raises(UntrustedEnvFile, match="chmod 600"):
            env_file(environment)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / ".env", "")
    os.chown(path, 12_345, 12_345)
    with pytest.raises(UntrustedEnvFile, match="another user"):
        env_file({"INFLIGHT_HOME": str(tmp_path)})


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Unlike one in the home, which nobody asked for."""
    assert env_file({"INFLIGHT_HOME": str(tmp_path)}) is None
    with pytest.raises(UntrustedEnvFile, match="INFLIGHT_ENV_FILE"):
        env_file({"INFLIGHT_ENV_FILE": str(tmp_path / "nothing")})
    with pytest.raises(UntrustedEnvFile, match="not a file"):
        env_file({"INFLIGHT_ENV_FILE": str(tmp_path)})


@pytest.mark.parametrize(("environment", "file"), [(["KEY"], ["URL"]), (["URL"], ["KEY"]), (["KEY"], ["KEY", "URL"])])
def test_a_key_is_not_sent_to_an_address_of_another_source(environment: list[str], file: list[str]) -> None:
    with pytest.raises(UntrustedEnvFile, match="same place"):
        check_sources([("KEY", "URL")], dict.fromkeys(map(str.lower, environment)), dict.fromkeys(map(str.lower, file)))


@pytest.mark.parametrize(
    ("environment", "file"), [(["KEY", "URL"], ["URL"]), ([], ["KEY", "URL"]), (["KEY"], []), ([], [])]
)
def test_a_key_is_sent_to_an_address_of_its_own_source(environment: list[str], file: list[str]) -> None:
    """Or to the default address, this machine's."""
    check_sources([("KEY", "URL")], dict.fromkeys(map(str.lower, environment)), dict.fromkeys(map(str.lower, file)))


def test_a_password_of_kafka_is_not_sent_to_servers_of_another_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option without a secret may come from anywhere."""
    path = write(tmp_path / "mine", "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS=evil:9092\n")
    monkeypatch.setenv("INFLIGHT_ENV_FILE", str(path))
    monkeypatch.setenv("INFLIGHT_KAFKA_OPTIONS", '{"client.id": "me"}')
    assert KernelSettings().kafka_bootstrap_servers == "evil:9092"
    monkeypatch.setenv("INFLIGHT_KAFKA_OPTIONS", '{"sasl.password": "hunter2"}')
    with pytest.raises(UntrustedEnvFile, match="INFLIGHT_KAFKA_BOOTSTRAP_SERVERS"):
        KernelSettings()


@pytest.mark.parametrize(
    "name",
    [
        "plugin.library.paths",
        "ssl.engine.location",
        "ssl.providers",
        "sasl.kerberos.kinit.cmd",
        "sasl.kerberos.principal",
        "sasl.kerberos.keytab",
        "sasl.oauthbearer.config",
        "enable.auto.commit",
        "acks",
        "Plugin.Library.Paths",
        " plugin.library.paths",
        "invented.option",
    ],
)
def test_an_option_that_runs_code_or_weakens_delivery_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, without its value."""
    monkeypatch.setenv("INFLIGHT_KAFKA_OPTIONS", json.dumps({name: "./plug.so"}))
    with pytest.raises(ValidationError) as error:
        KernelSettings()
    assert repr(name) in str(error.value)
    assert "plug.so" not in str(error.value)


def test_kerberos_is_refused() -> None:
    """librdkafka would run kinit with a shell."""
    with pytest.raises(ValueError, match="GSSAPI"):
        check_options({"sasl.mechanisms": "gssapi"})


def test_every_option_on_the_list_is_one_of_librdkafka() -> None:
    """A misspelt one would be accepted here and refused by each client."""
    confluent_kafka = pytest.importorskip("confluent_kafka")
    from machine_learning_engineering.core.kafka_options import _ALLOWED

    unknown = []
    for name in sorted(_ALLOWED):
        try:
            confluent_kafka.Consumer({"group.id": "g", "log_level": 0, name: ""})
        except confluent_kafka.KafkaException as error:
            if "No such configuration property" in str(error):
                unknown.append(name)
        except TypeError:
            pass
    assert unknown == []


def test_secrets_are_in_no_representation() -> None:
    options = {
        "sasl.username": "me",
        "sasl.password": "hunter2",
        "ssl.key.password": "hunter2",
        "ssl.key.pem": "hunter2",
        "ssl.keystore.password": "hunter2",
        "sasl.oauthbearer.client.secret": "hunter2",
    }
    settings = KernelSettings(
        kafka_options=options, log_redact_key="hunter2-hunter2-hunter2", train_data_source="https://u:hunter2@host/x"
    )
    for text in (repr(settings), str(settings), f"{settings}", repr([settings])):
        assert "hunter2" not in text
        assert "'sasl.username': 'me'" in text
    assert settings.kafka_options["sasl.password"] == "hunter2"


@pytest.mark.parametrize(
    "url", ["https://user:pass@host/x", "https://user:pa@ss@host/x", "https://user:pa/ss@host/x", "https://pass@host/x"]
)
def test_a_url_is_shown_without_its_password(url: str) -> None:
    assert redact_url(url) == "https://host/x"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"security.protocol": "sasl_plaintext"},
        {"security.protocol": "SSL", "enable.ssl.certificate.verification": "false"},
        {"security.protocol": "SASL_SSL", "ssl.endpoint.identification.algorithm": "none"},
    ],
)
def test_production_rejects_a_connection_that_others_can_read_or_imitate(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="INFLIGHT_PRODUCTION is set and the Kafka"):
        KernelSettings(production=True, kafka_options=options)
    KernelSettings(production=True, kafka_options={"security.protocol": "SSL"})


def test_redaction_of_a_url_is_linear() -> None:
    """It is applied to what others may have written."""
    started = time.perf_counter()
    redact_url("https://" + "@" * 200_000 + " ")
    assert time.perf_counter() - started < 5
