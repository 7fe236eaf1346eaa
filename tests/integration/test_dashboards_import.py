"""`inflight dashboards apply` against a stand-in for Kibana's API; Kibana itself can't run in these tests."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inflight.cli import app
from inflight.settings import Settings
from monitoring.dashboards.kibana import Kibana, KibanaError
from monitoring.dashboards.saved_objects import compile_dashboards, default_file
from monitoring.dashboards.source import load_all, shipped
from tests.support.kibana import running

OBJECTS = default_file(shipped()).read_bytes()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a Kibana that needs a key; its URL is given on the command line."""
    found = Settings(_env_file=None, home=tmp_path, kibana_api_key="secret", kibana_url="http://127.0.0.1:1")  # type: ignore[call-arg]
    monkeypatch.setattr("inflight.settings.load_settings", lambda: found)
    return found


def apply(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    result = CliRunner().invoke(app, ["dashboards", "apply", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_everything_is_imported_and_can_be_imported_again(settings: Settings) -> None:
    """With the API key, into a space."""
    with running(api_key="secret", space="/s/ml") as kibana:
        first = apply("--kibana-url", kibana.url, "--json")
        second = apply("--kibana-url", kibana.url + "/")

        told = json.loads(first[1])
        assert first[0] == 0
        assert told["imported"] == len(told["objects"]) == len(kibana.objects) == len(OBJECTS.splitlines())
        assert {key for kind, key in kibana.objects if kind == "dashboard"} == {one.id for one in load_all()}
        assert second[0] == 0
        assert f"imported {len(kibana.objects)} objects" in second[1]


def test_it_waits_for_a_kibana_that_is_starting(settings: Settings) -> None:
    """Which answers 503, with and without words for machines, before it is available."""
    slept: list[float] = []
    with running(starting=4) as kibana:
        Kibana(kibana.url).wait(60, sleep=slept.append)

    assert slept == [1.0] * 4


def test_it_gives_up_on_a_kibana_that_never_comes(settings: Settings) -> None:
    """And says what Kibana said last."""
    now = iter(range(100))
    with (
        running(starting=1_000) as kibana,
        pytest.raises(KibanaError, match=r"not available after 3 s: (HTTP status 503|unavailable)"),
    ):
        Kibana(kibana.url).wait(3, sleep=lambda _: None, clock=lambda: float(next(now)))

    code, _, told = apply("--timeout", "0")
    assert code == 2
    assert "http://127.0.0.1:1 is not available after 0 s: no response" in told


def test_a_missing_key_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting that takes it."""
    with running(api_key="another") as kibana:
        code, _, told = apply("--kibana-url", kibana.url)

    assert code == 2
    assert "responded with status 401: set INFLIGHT_KIBANA_API_KEY" in told
    assert not kibana.objects


def test_what_kibana_refuses_is_named() -> None:
    """A dashboard whose data view is nowhere, one of a newer Kibana, and a type that it does not have."""
    view, *others = (json.loads(line) for line in OBJECTS.splitlines())
    newer = others[-1] | {"id": "newer", "references": [], "typeMigrationVersion": "10.99.0"}
    strange = view | {"id": "strange", "type": "strange"}
    lines = b"\n".join(json.dumps(one).encode() for one in (*others, newer, strange))
    with running() as kibana:
        answer = Kibana(kibana.url).import_objects(lines, "mine.ndjson")

    reasons = {one.id: one.reason for one in answer.rejected}
    assert reasons["newer"] == "unknown: Document belongs to a more recent version of Kibana"
    assert reasons["strange"] == "unsupported_type"
    assert f"missing_references: missing index-pattern {view['id']}" in reasons.values()
    assert answer.count == len(others) + 2 - len(answer.rejected)


def test_something_else_is_no_kibana() -> None:
    """Neither a wrong path nor an answer that is none."""
    with running(space="/s/ml") as kibana:
        with pytest.raises(KibanaError, match="status 404"):
            Kibana(kibana.url.removesuffix("/ml") + "/other").import_objects(OBJECTS, "a.ndjson")
        with pytest.raises(KibanaError, match=r"status 400: .*Invalid file extension"):
            Kibana(kibana.url).import_objects(OBJECTS, "a.txt")
    with pytest.raises(KibanaError, match="no response from Kibana"):
        Kibana("http://127.0.0.1:1").import_objects(OBJECTS, "a.ndjson")


def test_a_dry_run_contacts_nobody(settings: Settings) -> None:
    """It says what would be imported."""
    with running() as kibana:
        code, told, _ = apply("--kibana-url", kibana.url, "--dry-run")

    assert code == 0
    assert f"would import {len(OBJECTS.splitlines())} objects" in told
    assert "dashboard inflight-serving" in told
    assert kibana.imports == 0


def test_a_folder_of_ones_own_is_imported(settings: Settings, tmp_path: Path) -> None:
    """And one with an error is not, with the file and the panel named."""
    source = (shipped() / "serving.toml").read_text()
    (tmp_path / "mine.toml").write_text(source.replace("inflight-serving", "mine"))
    with running(api_key="secret") as kibana:
        code, _, _ = apply("--kibana-url", kibana.url, "--folder", str(tmp_path))
        assert code == 0
        assert ("dashboard", "mine") in kibana.objects
        assert len(compile_dashboards(load_all(tmp_path)).splitlines()) == len(kibana.objects)

    (tmp_path / "mine.toml").write_text(source.replace('chart = "metric"', 'chart = "gauge"', 1))
    code, _, told = apply("--folder", str(tmp_path))
    assert code == 1
    assert "error: mine.toml: panel 'answered': Invalid value 'gauge'" in told


def test_compile_says_when_the_file_is_out_of_date(tmp_path: Path) -> None:
    """With exit code 1, for CI; without --check it writes it."""
    (tmp_path / "mine.toml").write_text((shipped() / "serving.toml").read_text())
    run = CliRunner().invoke
    arguments = ["dashboards", "compile", "--folder", str(tmp_path)]

    before = run(app, [*arguments, "--check"])
    written = run(app, arguments)
    after = run(app, [*arguments, "--check"])

    assert (before.exit_code, written.exit_code, after.exit_code) == (1, 0, 0)
    assert (tmp_path / "inflight.ndjson").exists()


def test_lint_of_the_files_alone_needs_no_node(tmp_path: Path) -> None:
    """Its problems are on standard error, and in its JSON."""
    source = (shipped() / "serving.toml").read_text()
    (tmp_path / "mine.toml").write_text(source.replace("BY BUCKET(@timestamp", "BY nonsense, BUCKET(@timestamp"))
    run = CliRunner().invoke

    good = run(app, ["dashboards", "lint"])
    bad = run(app, ["dashboards", "lint", "--folder", str(tmp_path), "--json"])

    assert good.exit_code == 0
    assert "9 dashboards" in good.stdout
    assert bad.exit_code == 1
    assert "no field nonsense" in json.loads(bad.stdout)["problems"][0]["message"]
