"""The reference pages say what the code says."""

import re
from pathlib import Path

import pytest

from inflight.reference import alerts, commands, pages, settings
from inflight.settings import Settings

ROOT = Path(__file__).parents[3]


def test_the_pages_are_up_to_date() -> None:
    assert pages.stale() == [], "run `python -m inflight.reference`"


def test_a_page_that_nobody_generates_or_that_was_changed_is_found(tmp_path: Path) -> None:
    pages.write(tmp_path)
    assert pages.stale(tmp_path) == []
    with (tmp_path / "alerts.md").open("a") as file:
        file.write("\n")
    (tmp_path / "events.md").unlink()
    (tmp_path / "old.md").write_text("# Old\n")
    assert pages.stale(tmp_path) == ["alerts.md", "events.md", "old.md"]


def test_every_setting_has_a_meaning_and_a_reader() -> None:
    """Its docstring is in the class that declares it, which names the processes that read it."""
    found = settings.settings()
    assert found.keys() <= settings.READERS.keys(), "name the readers in inflight/reference/settings.py"
    own = [one for group in found.values() for one in group]
    assert [one.variable for one in own if not one.meaning] == [], "add a docstring below the field"
    assert {one.variable for one in own} == {f"INFLIGHT_{name.upper()}" for name in Settings.model_fields}


def test_settings_have_their_type_default_and_unit() -> None:
    found = {one.variable: one for group in settings.settings().values() for one in group}
    assert found["INFLIGHT_KAFKA_SESSION_TIMEOUT"][1:4] == ("number, > 0", "`10.0`", "seconds")
    assert found["INFLIGHT_TOPIC_PARTITIONS"][1:4] == ("integer, > 0", "`4`", "")
    assert found["INFLIGHT_REGISTRY"][1:3] == ("path or URL", "none")
    assert found["INFLIGHT_LOG_FORMAT"][1:3] == ("`auto`, `ecs`, `text`", "`auto`")
    assert found["INFLIGHT_WORKER_MAX_FAILURE_RATIO"][1:3] == ("number, >= 0, < 1", "none")
    assert found["INFLIGHT_GATEWAY_CORS_ORIGINS"][1:3] == ("JSON array", "`[]`")


def test_every_command_has_each_of_its_options() -> None:
    text = commands.page()
    sections = dict(re.findall(r"^## inflight ([\w -]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    found = dict(commands.leaves(commands.tree()))
    assert sections.keys() == {" ".join(path) for path in found}
    for path, command in found.items():
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help" and not option.hidden:
                assert all(f"`{name}`" in sections[" ".join(path)] for name in option.opts), (path, option.opts)


@pytest.mark.parametrize("name", ["rules.yml", "alerts.yml"])
def test_every_rule_is_on_the_page_and_every_alert_leads_to_its_runbook(name: str) -> None:
    text, runbooks = alerts.page(), (ROOT / "docs" / "runbooks.md").read_text()
    found = alerts.rules(name)
    assert found
    for _, rule in found:
        assert f"### {rule.get('alert') or rule['record']}\n" in text
        if "alert" in rule:
            assert f"(../runbooks.md#{rule['alert'].lower()})" in text
            assert f"## {rule['alert']}\n" in runbooks
