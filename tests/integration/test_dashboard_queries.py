"""Every query of every dashboard runs on a real Elasticsearch, and its answer has what the panel shows."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from elasticsearch import Elasticsearch
from typer.testing import CliRunner

from inflight.cli import app
from inflight.settings import Settings
from inflight.stack.maven import missing_tools
from monitoring.dashboards.fields import mapped_fields
from monitoring.dashboards.lint import QueryCheck, check_queries, count_queries
from monitoring.dashboards.queries import QueryFailed, run_query
from monitoring.dashboards.source import QueryPanel, load_all, parse
from monitoring.elastic.client import connect, request
from monitoring.elastic.templates import put_templates
from monitoring.labels import pending
from tests.support.dashboard_documents import documents, feed, forget

DASHBOARDS = load_all()
PANELS = [(one.id, panel.id) for one in DASHBOARDS for panel in one.panels if isinstance(panel, QueryPanel)]
REQUESTS = 720


@pytest.fixture(scope="module")
def settings(nodes: Callable[[str, str], Any]) -> Settings:
    """Settings with the real search node: the embedded one has no ES|QL."""
    if tools := missing_tools():
        pytest.skip(f"no real node without {' and '.join(tools)}")
    return Settings(_env_file=None, elasticsearch_url=nodes("search", "real").url)  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def end() -> datetime:
    """When the hour of documents ends, and the time range of every dashboard."""
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def client(settings: Settings, end: datetime) -> Iterator[Elasticsearch]:
    """A search node with an hour of documents of all families."""
    with connect(settings) as connected:
        forget(connected)
        put_templates(connected, settings)
        request(connected, "PUT", f"/{pending.INDEX}")
        feed(connected, end, REQUESTS)
        yield connected
        forget(connected)


@pytest.fixture(scope="module")
def answers(client: Elasticsearch, end: datetime) -> dict[tuple[str, str], QueryCheck]:
    """What each panel's query answered."""
    return {(one.dashboard.id, one.panel.id): one for one in check_queries(client, DASHBOARDS, end)}


def test_all_queries_ran(answers: dict[tuple[str, str], QueryCheck]) -> None:
    """None is left out."""
    assert len(answers) == count_queries(DASHBOARDS) == len(PANELS) > 60


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_query_answers_what_its_panel_shows(
    answers: dict[tuple[str, str], QueryCheck], dashboard: str, panel: str
) -> None:
    """Rows, and every column that the panel names, of a type that fits its format, with values."""
    found = answers[dashboard, panel]

    assert found.problems == []
    assert found.result is not None
    assert found.result.rows
    for column in found.panel.columns:
        place = found.result.names.index(column.column)
        assert any(row[place] is not None for row in found.result.rows), f"{column.column} is null in all rows"


def number(answers: dict[tuple[str, str], QueryCheck], dashboard: str, panel: str) -> float:
    """The one number of a metric."""
    answer = answers[f"inflight-{dashboard}", panel].result
    assert answer is not None
    ((value,),) = answer.rows
    return float(value)


def test_headline_numbers_are_right(answers: dict[tuple[str, str], QueryCheck], end: datetime) -> None:
    """Counted anew from the documents."""
    names = [index for index, _, _ in documents(end, REQUESTS)]
    failed = sum(number % 37 in (11, 23, 35) for number in range(REQUESTS))

    assert number(answers, "serving", "answered") == REQUESTS
    assert number(answers, "serving", "failed-share") == pytest.approx(failed / REQUESTS)
    assert number(answers, "requests", "failed") == failed
    assert number(answers, "serving", "rate") == pytest.approx(REQUESTS / 3_600, rel=0.01)
    assert number(answers, "serving", "versions-serving") == 6
    assert number(answers, "dead-letters", "count") == sum("dead-letters" in name for name in names)
    assert number(answers, "drift", "windows") == 18
    assert number(answers, "drift", "windows-drifted") == 4
    assert number(answers, "model-events", "promotions") == 3
    assert number(answers, "model-events", "alarms") == 4


def rows(answers: dict[tuple[str, str], QueryCheck], dashboard: str, panel: str, *columns: str) -> list[list[Any]]:
    """Some columns of a table, in its order."""
    answer = answers[f"inflight-{dashboard}", panel].result
    assert answer is not None
    places = [answer.names.index(column) for column in columns]
    return [[row[place] for place in places] for row in answer.rows]


def judged(end: datetime, model: str) -> list[tuple[dict[str, Any], Any]]:
    """Prediction and label of every answer of a model whose truth is known."""
    logged = [msgspec.json.decode(one) for index, _, one in documents(end, REQUESTS) if "inference-logs" in index]
    labelled = [one["inflight"] for one in logged if one["inflight"].get("labelled")]
    labelled = [one for one in labelled if one["model"]["name"] == model]
    # Else the tests of what is done with them could not fail.
    assert any(one["outcome"] == "failed" for one in labelled)
    return [(one["prediction"], json.loads(one["label"])) for one in labelled if one["outcome"] == "completed"]


def test_the_greatest_misses_are_answers(answers: dict[tuple[str, str], QueryCheck], end: datetime) -> None:
    """Not requests that failed, though they have a label: those have no price to be wrong."""
    misses = sorted((abs(said["price"] - paid) for said, paid in judged(end, "diamonds")), reverse=True)

    told = [abs(error) for (error,) in rows(answers, "diamonds", "largest-misses", "error")]

    assert told == pytest.approx(misses[:50], rel=1e-4)


def test_only_answers_are_right_or_wrong(answers: dict[tuple[str, str], QueryCheck], end: datetime) -> None:
    """A request that failed is neither, though it has a label."""
    right = [said["survived"] == truth for said, truth in judged(end, "titanic")]

    assert number(answers, "titanic", "right") == pytest.approx(sum(right) / len(right))


def test_surprises_are_wrong_answers(answers: dict[tuple[str, str], QueryCheck], end: datetime) -> None:
    """All of them, the most certain first, and no answer that was right."""
    surprises = [abs(said["probability"] - truth) for said, truth in judged(end, "titanic")]
    wrong = sorted((one for one in surprises if one > 0.5), reverse=True)

    told = rows(answers, "titanic", "surprises", "inflight.prediction.probability", "truth")

    assert wrong
    assert [abs(p - (truth == "survived")) for p, truth in told] == pytest.approx(wrong[:50], rel=1e-4)


def test_a_wrong_query_is_told_from_a_right_one(client: Elasticsearch, end: datetime) -> None:
    """The search node's own words, so this proof can fail."""
    source = 'id = "x"\ntitle = "X"\ndescription = "X"\n[[panel]]\nid = "x"\nchart = "metric"\ntitle = "X"\n'
    (wrong,) = parse(
        f'{source}at = [0, 0]\nsize = [9, 9]\nesql = "FROM inference-logs-* | STATS n = MAX(nonsense)"\nvalue = "n"',
        "x",
    ).panels
    assert isinstance(wrong, QueryPanel)

    with pytest.raises(QueryFailed, match=r"Unknown column \[nonsense\]"):
        run_query(client, wrong, end - timedelta(hours=1), end)


def test_every_control_and_searched_field_can_be_asked_for(client: Elasticsearch) -> None:
    """By the field capabilities, as Kibana asks for them."""
    for dashboard in DASHBOARDS:
        for control in dashboard.controls:
            found = request(client, "GET", f"/{control.index}/_field_caps", fields=control.field)["fields"]
            ((kind, capabilities),) = found[control.field].items()
            assert kind == "keyword"
            assert capabilities["aggregatable"], control


def test_templates_and_queries_name_the_same_types(client: Elasticsearch) -> None:
    """The offline check reads the templates; this is what the search node makes of them."""
    for pattern, fields in mapped_fields().items():
        known = request(client, "GET", f"/{pattern}/_field_caps", fields="*", filters="-metadata")["fields"]
        for name, kind in fields.types.items():
            assert set(known[name]) == {kind}, (pattern, name)


def test_lint_with_elasticsearch_is_the_same_proof(
    client: Elasticsearch, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line, for a deployment."""
    monkeypatch.setattr("inflight.settings.load_settings", lambda: settings)

    result = CliRunner().invoke(app, ["dashboards", "lint", "--elasticsearch"])

    assert result.exit_code == 0, result.output
    assert f"{len(PANELS)} queries run: no problems" in result.stdout
