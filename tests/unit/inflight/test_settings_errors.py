"""A setting that is wrong is one line that names it, whatever the command."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inflight import cli
from inflight.settings import load_settings


@pytest.fixture(autouse=True)
def settings_are_read_anew() -> Iterator[None]:
    load_settings.cache_clear()
    # The command changes that of its process.
    before = os.umask(0o022)
    yield
    os.umask(before)
    load_settings.cache_clear()


def test_what_commands_write_is_for_their_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, training data, logged requests and control tokens, whatever the umask of the shell."""
    masks = []
    monkeypatch.setattr(cli, "app", lambda: masks.append(os.umask(0)))
    cli.main()
    assert masks == [0o077]


def test_an_untrusted_file_of_settings_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do."""
    (tmp_path / "mine").write_text("")
    (tmp_path / "mine").chmod(0o666)
    monkeypatch.setenv("INFLIGHT_ENV_FILE", str(tmp_path / "mine"))
    monkeypatch.setattr("sys.argv", ["inflight", "status"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: others may write")
    assert "chmod 600" in line


def test_without_the_sdk_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its path."""

    def missing() -> None:
        raise ModuleNotFoundError("No module", name="machine_learning_engineering")

    monkeypatch.setattr(cli, "app", missing)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "pip install '.'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("INFLIGHT_DRIFT_WINDOW_ROWS", "many", "INFLIGHT_DRIFT_WINDOW_ROWS: Input should be a valid integer"),
        ("INFLIGHT_DRIFT_SIGNIFICANCE", "7", "INFLIGHT_DRIFT_SIGNIFICANCE: Input should be less than 1"),
        ("INFLIGHT_LOG_REDACT", '{"titanic": {"name": "hash"}}', "set INFLIGHT_LOG_REDACT_KEY"),
        ("INFLIGHT_LOG_REDACT", "no-json", "log_redact"),
        ("INFLIGHT_LOG_REDACT_KEY", "short-secret", "INFLIGHT_LOG_REDACT_KEY"),
    ],
)
@pytest.mark.parametrize("command", [["redact"], ["drift-monitor"], ["status"]])
def test_a_wrong_setting_is_named_and_its_value_is_not(
    command: list[str],
    name: str,
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and no traceback."""
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["inflight", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    assert words in told.err
    assert value not in told.err
    assert "Traceback" not in told.err


def test_a_bug_is_not_taken_for_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays what it is."""

    def broken() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ValueError, match="a bug"):
        cli.main()
