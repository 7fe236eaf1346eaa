"""A setting that is wrong is one line that names it, whatever the command."""

from collections.abc import Iterator

import pytest

from inflight import cli
from inflight.settings import load_settings


@pytest.fixture(autouse=True)
def settings_are_read_anew() -> Iterator[None]:
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


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
