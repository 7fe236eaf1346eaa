"""Every query of every dashboard runs on a real Elasticsearch, and its answer has what the panel shows."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
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
from monitoring.dashboards.source import Metric, QueryPanel, SeriesPanel, load_all, parse
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
    found = {(one.dashboard.id, one.panel.id): one for one in check_queries(client, DASHBOARDS, end)}
    # Buckets of boards with a long range are whole only later than an hour's documents.
    late = [one for one in DASHBOARDS if one.since not in ("now-1h", "now-24h")]
    return found | {
        (one.dashboard.id, one.panel.id): one for one in check_queries(client, late, end + timedelta(minutes=31))
    }


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
    ours = sum(number % 37 == 23 for number in range(REQUESTS))
    assert number(answers, "serving", "model-errors") == pytest.approx(ours / REQUESTS)
    assert number(answers, "serving", "rejected") == pytest.approx((failed - ours) / REQUESTS)
    assert number(answers, "serving", "error-budget") == pytest.approx(ours / REQUESTS / 0.001)
    assert number(answers, "serving", "latency-budget") == 0
    assert number(answers, "requests", "failed") == failed
    assert number(answers, "requests", "model-errors") == ours
    assert number(answers, "serving", "rate") == pytest.approx(REQUESTS / 3_600, rel=0.05)
    assert number(answers, "dead-letters", "count") == sum("dead-letters" in name for name in names)
    assert number(answers, "drift", "windows") == 18
    assert number(answers, "drift", "windows-drifted") == pytest.approx(4 / 18)
    assert number(answers, "drift", "lasting") == 2
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


OVER_TIME = [
    (board.id, panel.id)
    for board in DASHBOARDS
    for panel in board.panels
    if isinstance(panel, SeriesPanel) and panel.x.column.startswith("BUCKET(@timestamp")
]


def length_of_bucket(client: Elasticsearch, bucket: str, since: datetime, until: datetime) -> timedelta:
    """As Elasticsearch chooses it for a range: the data may lie further apart."""
    bucket = bucket.replace("@timestamp", "at")
    for name, at in (("_tstart", since), ("_tend", until)):
        bucket = bucket.replace(f"?{name}", f'"{at:%Y-%m-%dT%H:%M:%S}.000Z"')
    times = ", ".join(f'"{since + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.000Z"' for seconds in range(1_000))
    query = f"ROW at = [{times}]::DATETIME | MV_EXPAND at | STATS n = COUNT(*) BY start = {bucket} | LIMIT 1000"
    columns = request(client, "POST", "/_query", {"query": query})
    starts = sorted(datetime.fromisoformat(start) for _, start in columns["values"])
    return min(later - earlier for earlier, later in pairwise(starts[1:-1] if len(starts) > 3 else starts))


@pytest.mark.parametrize(("dashboard", "panel"), OVER_TIME)
def test_buckets_of_time_are_whole(client: Elasticsearch, end: datetime, dashboard: str, panel: str) -> None:
    """Whatever the range: of one that begins and ends within a bucket, neither is shown."""
    chart = next(one for board in DASHBOARDS for one in board.panels if (board.id, one.id) == (dashboard, panel))
    assert isinstance(chart, SeriesPanel)
    for minutes, cut in ((50, 7.3), (25, 11.9), (50, 0)):
        until = (end - timedelta(seconds=cut)).replace(microsecond=0)
        since = until - timedelta(minutes=minutes)
        found = run_query(client, chart, since, until)
        starts = {datetime.fromisoformat(row[found.names.index(chart.x.column)]) for row in found.rows}
        if len(starts) < 2:
            continue
        length = length_of_bucket(client, chart.x.column, since, until)
        assert min(starts) >= since
        assert max(starts) + length <= until


def test_a_rate_is_of_a_second(answers: dict[tuple[str, str], QueryCheck]) -> None:
    """The documents are evenly spread over the hour, so each bar is as high as the next, at the ends too."""
    by_bucket: dict[str, float] = {}
    for when, rate in rows(answers, "serving", "outcomes", OUTCOMES_BUCKET, "requests_per_second"):
        by_bucket[when] = by_bucket.get(when, 0.0) + rate

    assert len(by_bucket) == 59
    assert list(by_bucket.values()) == pytest.approx([REQUESTS / 3_600] * 59, rel=0.1)


OUTCOMES_BUCKET = "BUCKET(@timestamp, 100, ?_tstart, ?_tend)"
FAULTS = [
    (board.id, panel.id)
    for board in DASHBOARDS
    for panel in board.panels
    if isinstance(panel, Metric) and "COUNT" in panel.esql and panel.value.thresholds
]


@pytest.mark.parametrize(("dashboard", "panel"), FAULTS)
def test_no_fault_is_a_green_zero(client: Elasticsearch, dashboard: str, panel: str) -> None:
    """In a range without a single document, too."""
    tile = next(one for board in DASHBOARDS for one in board.panels if (board.id, one.id) == (dashboard, panel))
    assert isinstance(tile, Metric)
    never = datetime(2020, 1, 1, tzinfo=UTC)

    found = run_query(client, tile, never, never + timedelta(hours=1))

    assert found.rows == [[0]]


def test_versions_are_not_averaged(answers: dict[tuple[str, str], QueryCheck]) -> None:
    """Both have labels in the same buckets, and the one before is half as good."""
    found = rows(answers, "titanic", "live-accuracy", "inflight.model.version", "live")

    assert {version for version, _ in found} == {"v1", "v2"}
    assert all((value < 0.5) == (version == "v1") for version, value in found)


def test_quality_has_one_row_for_each_version_and_metric_and_a_verdict(
    answers: dict[tuple[str, str], QueryCheck],
) -> None:
    """Half of an accuracy is worse, half of an error is better; what is worse comes first."""
    found = rows(answers, "drift", "quality", "inflight.model.version", "inflight.quality.metric", "verdict")
    verdicts = {(version, metric): verdict for version, metric, verdict in found}

    assert len(found) == 2 * 11
    assert verdicts["v1", "accuracy"] == "worse"
    assert verdicts["v1", "log_loss"] == verdicts["v1", "rmse"] == verdicts["v1", "mae"] == "better"
    order = [verdict == "worse" for *_, verdict in found]
    assert order == sorted(order, reverse=True)


def test_unusual_values_are_those_beyond_training(answers: dict[tuple[str, str], QueryCheck]) -> None:
    """Of the reviews that a model was trained on, 70 % have no known word: that is no change."""
    unseen = dict(map(tuple, rows(answers, "drift", "strange-values", "field", "unseen")))

    assert unseen["reviews features.text"] < 0.05


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
