"""Settings, files of settings, sources of boards, and the texts of times and addresses."""

import os
import re
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inflight import cli
from inflight.rendering import render_text
from inflight.settings import Settings
from machine_learning_engineering.core.timestamps import parse_time
from machine_learning_engineering.dead_letters.reader import parse_address
from machine_learning_engineering.policies import InvalidPolicies, parse_policies
from monitoring.dashboards import source
from monitoring.top.sources import url_of
from tests.support.fuzzing import SECRET, bounded, check_message, check_terminal, dose, mutated

DOORS = (
    "monitoring/dashboards/source.py:parse",
    "mle_package/machine_learning_engineering/settings.py:KernelSettings.settings_customise_sources",
    "mle_package/machine_learning_engineering/settings.py:_File",
    "mle_package/machine_learning_engineering/core/timestamps.py:parse_time",
    "mle_package/machine_learning_engineering/policies.py:parse_policies",
)
ENV = (
    b"INFLIGHT_KAFKA_BOOTSTRAP_SERVERS=b1:9092\nINFLIGHT_TOPIC_PREFIX='t-'\nINFLIGHT_MAX_REQUEST_BYTES=1000\n"
    b'INFLIGHT_KAFKA_OPTIONS={"security.protocol":"SASL_SSL","sasl.password":"' + SECRET.encode() + b'"}\n',
    b"INFLIGHT_ELASTICSEARCH_URL=https://user:" + SECRET.encode() + b"@node:9200\n"
    b"INFLIGHT_ELASTICSEARCH_API_KEY=" + SECRET.encode() + b"\nINFLIGHT_PRODUCTION=false\n",
    b'INFLIGHT_LOG_REDACT={"titanic":{"name":"hash"}}\nINFLIGHT_LOG_REDACT_KEY="' + SECRET.encode() * 2 + b'"\n'
    b'export INFLIGHT_MODELS=["fraud"] # comment\n',
)
_SECRET_LINE = re.compile(
    rb"INFLIGHT_ELASTICSEARCH_URL=[^\s\"'#]*:[^\s\"'#]*@node:9200|INFLIGHT_ELASTICSEARCH_API_KEY=[^\s\"'#]*|"
    + b"|".join(map(re.escape, [line for text in ENV for line in text.split(b"\n")]))
)
POLICIES = (
    b'[models.diamonds.retraining]\nschedule = "0 3 * * 1#2"\nmax_age = "30d"\ncool_down = 60\ndata = ["dataset"]\n',
    b'[models.diamonds.rollout]\nramp = [1, 10]\nkey = "/customer/id"\nbake = "2h"\nalpha = 0.01\n[models."a-b"]\n',
    b'models = { m = { retraining = { schedule = "*/5 1-3 L FEB FRI#3", window = 9e9 } } }\n',
)
BOARDS = tuple(path.read_bytes() for path in source.sources())[:3]


@dose(26)
@given(content=mutated(ENV))
@hypothesis.example(content=b"INFLIGHT_TOPIC_PREFIX=\xff\n")
@hypothesis.example(content=b"INFLIGHT_TOPIC_PREFIX=a\0b\n")
@hypothesis.example(content=b"INFLIGHT_LOG_REDACT=" + b"[" * 20_000 + b"\n")
@hypothesis.example(content=b"INFLIGHT_ELASTICSEARCH_URL=//user:" + SECRET.encode() + b"@node:9200\n")
@hypothesis.example(content=b"INFLIGHT_ELASTICSEARCH_URL=/user:" + SECRET.encode() + b"@node:9200\n")
@hypothesis.example(content=b"INFLIGHT_ELASTICSEARCH_URL=user:" + SECRET.encode() + b"@node:9200\n")
def test_a_file_of_settings_is_read_or_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings"
    path.touch(mode=0o600)
    path.write_bytes(content)
    monkeypatch.setenv("INFLIGHT_ENV_FILE", str(path))
    with bounded(len(content) * 4):
        try:
            text = repr(Settings())
        except ValueError as error:
            # One line for each wrong setting, as every command prints it; nothing for an error that is a bug.
            lines = cli._wrong_settings(error)
            assert lines, repr(error)
            for line in lines:
                check_message(line)
                check_terminal(render_text(line))
            return
    # Only where the line is still a setting that holds a secret.
    if all(_SECRET_LINE.fullmatch(line) for line in content.split(b"\n") if SECRET.encode() in line):
        assert SECRET not in text


@dose(33)
@given(content=mutated(BOARDS, most=2))
@hypothesis.example(content=b"a = " + b"[" * 20_000)
@hypothesis.example(content=b"a = 1" + b"0" * 5_000)
@hypothesis.example(content=b"9" * 5_000 + b" = 1")
def test_a_board_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(content)
    with bounded(len(content) * 4):
        try:
            found = source.load(path)
        except source.InvalidDashboard as error:
            assert str(error).startswith("board.toml")
            assert len(str(error)) < 3_000
            return
    assert isinstance(found.title, str)


@dose(33)
@given(content=mutated(POLICIES))
@hypothesis.example(content=b"a = " + b"[" * 20_000)
@hypothesis.example(content=b"models.m.retraining.new_labels = 1" + b"0" * 4_000)
@hypothesis.example(content=b'models.m.retraining.schedule = "' + b"9" * 180 + b' * * * *"')
@hypothesis.example(content=b'models.m.retraining.schedule = "*/L * L#1 * L/2"')
@hypothesis.example(content=b"[[models]]\nx = 1")
def test_policies_are_read_or_refused(content: bytes) -> None:
    with bounded(len(content) * 4):
        try:
            found = parse_policies(content, "inflight.toml")
        except InvalidPolicies as error:
            assert str(error).startswith("inflight.toml")
            assert len(str(error)) < 3_000
            return
    assert isinstance(found, dict)


@dose(50)
@given(
    text=st.text(max_size=20) | mutated([b"2026-01-01T00:00:00Z", b"now-2h", b"90d", b"0:17", b"b:9"]).map(os.fsdecode)
)
@hypothesis.example(text="1" * 400 + "d")
@hypothesis.example(text="9" * 5_000 + ":1")
@hypothesis.example(text="0001-01-01T00:00:00+18:00")
def test_times_and_addresses_are_read_or_refused(text: str) -> None:
    for read in (parse_time, parse_address, url_of):
        with bounded(len(text)):
            try:
                read(text)  # type: ignore[operator]
            except ValueError as error:
                assert str(error)
