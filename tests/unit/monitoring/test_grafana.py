"""What holds for every panel of the Grafana dashboards, and the way from a runbook to them."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.source import load_all

REPOSITORY = Path(__file__).parents[3]
DEPLOY = REPOSITORY / "monitoring" / "deploy"
BOARDS = {path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"]
over_panels = pytest.mark.parametrize(
    ("board", "panel"), PANELS, ids=[f"{name}/{one['title']}" for name, one in PANELS]
)
RUNBOOKS = (REPOSITORY / "docs" / "runbooks.md").read_text()
KIBANA = {board.id for board in load_all()}
ADDRESS = re.compile(r"http://127\.0\.0\.1:(?:5601/app/dashboards#/view|3000/d)/([\w-]+)")


@over_panels
def test_a_panel_explains_itself_and_has_a_unit(board: str, panel: dict[str, Any]) -> None:
    """`short` is none: it says how a number is written, not what of."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] not in ("", "short")


@over_panels
def test_nothing_is_zero_and_not_absent(board: str, panel: dict[str, Any]) -> None:
    """A number on its own is 0, or says why there is none."""
    if panel["type"] == "stat":
        (target,) = panel["targets"]
        assert target["expr"].endswith("or vector(0)") or panel["fieldConfig"]["defaults"].get("noValue")


@over_panels
def test_a_legend_can_be_read(board: str, panel: dict[str, Any]) -> None:
    """A version may have hundreds of fields: a chart shows ten of them."""
    for target in panel["targets"]:
        if "{{field}}" in target["legendFormat"]:
            assert re.search(r"\b(topk|bottomk)\(10, ", target["expr"])


@over_panels
def test_shares_with_a_reference_show_what_is_beyond_it(board: str, panel: dict[str, Any]) -> None:
    """A text of the training data may have no known word either."""
    for target in panel["targets"]:
        if 'kind="missing"' in target["expr"] or 'kind="unseen"' in target["expr"]:
            assert "inflight_drift_reference_ratio" in target["expr"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    """And stay on the grid of 24 columns."""
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]

    assert all(one["x"] + one["w"] <= 24 for one in places)
    for one, other in combinations(places, 2):
        assert not all(
            one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
            for start, length in (("x", "w"), ("y", "h"))
        )
    assert len({panel["id"] for panel in BOARDS[name]["panels"]}) == len(places)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_leads_to_its_neighbours(name: str) -> None:
    """To the others of Grafana by their tag, with the time range, and to a board of Kibana that exists."""
    tags, kibana = BOARDS[name]["links"]

    assert set(tags["tags"]) <= set(BOARDS[name]["tags"])
    assert tags["keepTime"]
    assert set(ADDRESS.findall(kibana["url"])) <= KIBANA


def test_objectives_have_panels() -> None:
    """What is left of both budgets, and how fast each is spent."""
    expressions = [target["expr"] for name, panel in PANELS if name == "stream" for target in panel["targets"]]

    for metric in ("inflight_prediction_errors", "inflight_slow_predictions"):
        assert sum(f"model:{metric}:ratio_rate" in one and " / 0." in one for one in expressions) >= 4


def test_every_alert_has_a_runbook_that_leads_to_boards() -> None:
    """Which exist, and have the panels that the text names."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL))
    links = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", RUNBOOKS, re.MULTILINE))
    known = KIBANA | {board["uid"] for board in BOARDS.values()}

    for rule in (rule for group in groups for rule in group["rules"]):
        names = re.findall(r"\]\[([\w-]+)\]", sections[rule["alert"]].partition("Boards: ")[2].partition("\n")[0])
        assert names, rule["alert"]
        assert all(set(ADDRESS.findall(links[name])) <= known for name in names)


def test_panels_that_a_runbook_names_exist() -> None:
    """By their titles, in italics."""
    titles = {" ".join(panel["title"].split()) for _, panel in PANELS}
    boards = {"Requests and responses"}
    named = {" ".join(one.split()) for one in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOKS)}

    assert named
    assert named <= titles | boards


def test_an_exemplar_is_found_though_the_board_shows_an_hour() -> None:
    """Its link to Kibana names a time range of its own."""
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (link,) = source["jsonData"]["exemplarTraceIdDestinations"]

    assert "time:(from:now-7d,to:now)" in link["url"]
    assert set(ADDRESS.findall(link["url"].replace("$$", "$"))) <= KIBANA
