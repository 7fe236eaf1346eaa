"""Saved objects as Kibana imports them. What shapes it takes is in docs/decisions/0008-dashboards.md."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.dashboards.saved_objects import compile_dashboards, default_file
from monitoring.dashboards.source import QueryPanel, load_all, parse, shipped

TOP = 'id = "mine"\ntitle = "Mine"\ndescription = "D."\nsince = "now-2h"\nrefresh = 5\n'
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def objects(*panels: str, controls: str = "") -> list[dict[str, Any]]:
    """What a source with these panels is compiled to."""
    head = '[[panel]]\nid = "p{}"\ntitle = "P"\ndescription = "Why."\nat = [{}, 0]\nsize = [8, 6]\n'
    source = TOP + controls + "".join(head.format(n, 8 * n) + panel + "\n" for n, panel in enumerate(panels))
    return [json.loads(line) for line in compile_dashboards([parse(source, "mine.toml")]).splitlines()]


def panel_of(found: dict[str, Any]) -> dict[str, Any]:
    """The only panel of a dashboard."""
    (panel,) = json.loads(found["attributes"]["panelsJSON"])
    return dict(panel)


def lens(panel: str) -> dict[str, Any]:
    """The visualization that a panel is compiled to, with its columns' names in place of their ids."""
    attributes = panel_of(objects(panel)[-1])["embeddableConfig"]["attributes"]
    ((layer_id, layer),) = attributes["state"]["datasourceStates"]["textBased"]["layers"].items()
    text = json.dumps(attributes["state"]["visualization"]).replace(layer_id, "layer")
    for column in layer["columns"]:
        text = text.replace(column["columnId"], column["fieldName"])
    visualization: dict[str, Any] = json.loads(text)
    assert not UUID.search(text), "an id of no column"
    return {"type": attributes["visualizationType"], "layer": layer} | visualization


def test_the_committed_file_is_what_the_sources_say() -> None:
    """If not: `inflight dashboards compile`."""
    assert default_file(shipped()).read_bytes() == compile_dashboards(load_all())


def test_the_same_sources_give_the_same_bytes() -> None:
    """In whatever order they come."""
    dashboards = load_all()

    assert compile_dashboards(dashboards) == compile_dashboards(list(reversed(dashboards)))


def shipped_objects() -> Iterator[dict[str, Any]]:
    for line in default_file(shipped()).read_text().splitlines():
        yield json.loads(line)


def test_every_reference_is_to_an_object_of_the_file_before() -> None:
    """So that it can be imported into an empty Kibana."""
    seen: set[tuple[str, str]] = set()
    for saved in shipped_objects():
        assert {(one["type"], one["id"]) for one in saved["references"]} <= seen, saved["id"]
        assert (saved["type"], saved["id"]) not in seen
        seen.add((saved["type"], saved["id"]))
    assert sum(kind == "dashboard" for kind, _ in seen) == len(load_all())


def test_every_named_reference_is_used_where_it_is_named() -> None:
    """Panels by reference, searches and controls find their objects by the name of a reference."""
    names = {"search": 0, "dashboard": 0}
    for saved in shipped_objects():
        attributes = saved["attributes"]
        if saved["type"] == "search":
            used = {json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])["indexRefName"]}
        elif saved["type"] == "dashboard":
            panels = json.loads(attributes["panelsJSON"])
            used = {f"{one['panelIndex']}:{one['panelRefName']}" for one in panels if "panelRefName" in one}
            group = attributes.get("controlGroupInput", {"panelsJSON": "{}"})
            used |= {f"controlGroup_{one}:optionsListDataView" for one in json.loads(group["panelsJSON"])}
        else:
            used = set()
        assert {one["name"] for one in saved["references"]} == used, saved["id"]
        names[saved["type"]] = names.get(saved["type"], 0) + len(used)
    assert names["search"] >= 1
    assert names["dashboard"] >= 8


def test_versions_are_ones_that_kibana_8_19_knows() -> None:
    """A newer one it would refuse; an older one it migrates."""
    versions = {
        saved["type"]: (saved["coreMigrationVersion"], saved["typeMigrationVersion"]) for saved in shipped_objects()
    }

    assert versions == {
        "index-pattern": ("8.8.0", "8.0.0"),
        "search": ("8.8.0", "8.0.0"),
        "dashboard": ("8.8.0", "10.2.0"),
    }


def test_all_queries_are_in_the_file() -> None:
    """Each once for the chart and once for its layer, letter by letter."""
    queries = []
    for saved in shipped_objects():
        for panel in json.loads(saved["attributes"].get("panelsJSON", "[]")):
            state = panel["embeddableConfig"].get("attributes", {}).get("state")
            if state:
                (layer,) = state["datasourceStates"]["textBased"]["layers"].values()
                assert state["query"] == layer["query"]
                assert layer["timeField"] == "@timestamp"
                queries.append(layer["query"]["esql"])

    expected = [one.esql.strip() for board in load_all() for one in board.panels if isinstance(one, QueryPanel)]
    assert sorted(queries) == sorted(expected)


def test_a_dashboard_has_its_time_range_and_refresh() -> None:
    """And says where its panels are on the grid of 48 columns."""
    saved = objects('chart = "markdown"\ntext = "Hi"')[-1]
    attributes = saved["attributes"]

    assert (saved["id"], attributes["title"], attributes["description"]) == ("mine", "Mine", "D.")
    assert (attributes["timeRestore"], attributes["timeFrom"], attributes["timeTo"]) == (True, "now-2h", "now")
    assert attributes["refreshInterval"] == {"pause": False, "value": 5_000}
    panel = panel_of(saved)
    assert panel["gridData"] == {"i": panel["panelIndex"], "x": 0, "y": 0, "w": 8, "h": 6}
    assert panel["embeddableConfig"]["savedVis"]["params"]["markdown"] == "Hi"
    assert UUID.fullmatch(panel["panelIndex"])


def test_a_search_is_an_object_of_its_own_over_a_data_view() -> None:
    """The data view has the time field, by which the dashboard's time range limits the search."""
    view, search, dashboard = objects(
        'chart = "search"\nindex = "inference-logs-*"\nfields = ["a", "b"]\nquery = "a : 1"'
    )

    assert view["attributes"]["title"] == "inference-logs-*"
    assert view["attributes"]["timeFieldName"] == "@timestamp"
    assert search["attributes"]["columns"] == ["a", "b"]
    assert search["attributes"]["sort"] == [["@timestamp", "desc"]]
    source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    assert source["query"] == {"query": "a : 1", "language": "kuery"}
    panel = panel_of(dashboard)
    assert panel["type"] == "search"
    assert dashboard["references"] == [
        {"type": "search", "id": search["id"], "name": f"{panel['panelIndex']}:panel_{panel['panelIndex']}"}
    ]


def test_a_control_is_a_list_of_a_fields_values() -> None:
    """Over the data view of its index."""
    control = '[[control]]\nid = "m"\ntitle = "Model"\nindex = "inference-logs-*"\nfield = "inflight.model.name"\n'
    view, dashboard = objects('chart = "markdown"\ntext = "Hi"', controls=control)

    ((identity, found),) = json.loads(dashboard["attributes"]["controlGroupInput"]["panelsJSON"]).items()
    assert found["type"] == "optionsListControl"
    assert found["explicitInput"]["fieldName"] == "inflight.model.name"
    assert found["explicitInput"]["dataViewId"] == view["id"]
    assert dashboard["references"][0]["name"] == f"controlGroup_{identity}:optionsListDataView"


def test_a_metric_is_colored_by_its_thresholds() -> None:
    """Each color is written with where it begins and where it ends."""
    found = lens(
        'chart = "metric"\nesql = "FROM a"\nsubtitle = "s"\nvalue = { column = "n", label = "N", decimals = 1, '
        'suffix = " ms", thresholds = [{ value = 0, color = "good" }, { value = 5, color = "#000000" }] }'
    )

    assert (found["type"], found["metricAccessor"], found["subtitle"]) == ("lnsMetric", "n", "s")
    assert found["palette"]["params"]["colorStops"] == [
        {"color": "#209280", "stop": 0},
        {"color": "#000000", "stop": 5},
    ]
    assert [stop["stop"] for stop in found["palette"]["params"]["stops"]] == [5, 6]
    (column,) = found["layer"]["columns"]
    assert column["params"]["format"] == {"id": "number", "params": {"decimals": 1, "suffix": " ms"}}
    assert (column["label"], column["customLabel"], column["meta"]["type"]) == ("N", True, "number")


@pytest.mark.parametrize(
    ("written", "format_of_kibana"),
    [
        ('format = "percent", decimals = 1', {"id": "percent", "params": {"decimals": 1}}),
        ("compact = true", {"id": "number", "params": {"decimals": 0, "compact": True}}),
        ('format = "bytes"', {"id": "bytes", "params": {"decimals": 0}}),
        ('prefix = "$"', {"id": "custom", "params": {"decimals": 0, "pattern": "$0,0"}}),
        ('prefix = "$", decimals = 2', {"id": "custom", "params": {"decimals": 0, "pattern": "$0,0.00"}}),
        ('prefix = "$", compact = true', {"id": "custom", "params": {"decimals": 0, "pattern": "$0.0a"}}),
    ],
)
def test_a_number_has_the_format_of_its_column(written: str, format_of_kibana: dict[str, Any]) -> None:
    """In Kibana's words."""
    found = lens(f'chart = "metric"\nesql = "FROM a"\nvalue = {{ column = "n", {written} }}')

    assert found["layer"]["columns"][0]["params"]["format"] == format_of_kibana


@pytest.mark.parametrize(
    ("written", "series_type"),
    [
        ('chart = "line"', "line"),
        ('chart = "area"', "area_stacked"),
        ('chart = "area"\nstack = "percent"', "area_percentage_stacked"),
        ('chart = "bar"', "bar_stacked"),
        ('chart = "bar"\nstack = "grouped"', "bar"),
        ('chart = "bar"\nstack = "percent"\nhorizontal = true', "bar_horizontal_percentage_stacked"),
        ('chart = "bar"\nstack = "grouped"\nhorizontal = true', "bar_horizontal"),
    ],
)
def test_series_have_x_y_and_a_breakdown(written: str, series_type: str) -> None:
    """With the colors that the source gives to values of the breakdown."""
    found = lens(
        f'{written}\nesql = "FROM a"\nx = "BUCKET(@timestamp, 60, ?_tstart, ?_tend)"\n'
        'y = [{ column = "n", color = "main" }]\nbreakdown = { column = "b", colors = { failed = "bad" } }'
    )

    (layer,) = found["layers"]
    assert (found["type"], found["preferredSeriesType"], layer["seriesType"]) == ("lnsXY", series_type, series_type)
    assert layer["xAccessor"] == "BUCKET(@timestamp, 60, ?_tstart, ?_tend)"
    assert (layer["accessors"], layer["splitAccessor"]) == (["n"], "b")
    assert layer["yConfig"] == [{"forAccessor": "n", "color": "#3B7DD8", "axisMode": "left"}]
    (assignment,) = layer["colorMapping"]["assignments"]
    assert assignment["rule"] == {"type": "matchExactly", "values": ["failed"]}
    assert assignment["color"] == {"type": "colorCode", "colorCode": "#CC5642"}
    assert [column["meta"]["type"] for column in found["layer"]["columns"]] == ["date", "number", "string"]
    assert found["legend"]["isVisible"]


def test_one_series_needs_no_legend() -> None:
    """Its panel's title says what it is."""
    assert not lens('chart = "line"\nesql = "FROM a"\nx = "x"\ny = ["n"]')["legend"]["isVisible"]


def test_a_table_shows_its_columns_in_order() -> None:
    """Numbers to the right, and colored by value where there are thresholds."""
    found = lens(
        'chart = "table"\nesql = "FROM a"\nrows_per_page = 20\nshow = [{ column = "k", format = "text" }, '
        '{ column = "n", thresholds = [{ value = 0, color = "good" }] }]'
    )

    assert found["type"] == "lnsDatatable"
    assert [(one["columnId"], one["alignment"], one["isMetric"]) for one in found["columns"]] == [
        ("k", "left", False),
        ("n", "right", True),
    ]
    assert found["columns"][1]["colorMode"] == "text"
    assert found["paging"] == {"size": 20, "enabled": True}


def test_a_pie_has_slices_and_their_size() -> None:
    """As a ring, or whole."""
    found = lens('chart = "pie"\nesql = "FROM a"\nslices = "k"\nvalue = "n"')
    whole = lens('chart = "pie"\nesql = "FROM a"\nslices = "k"\nvalue = "n"\ndonut = false')

    assert (found["type"], found["shape"], whole["shape"]) == ("lnsPie", "donut", "pie")
    assert (found["layers"][0]["primaryGroups"], found["layers"][0]["metrics"]) == (["k"], ["n"])


def test_a_heatmap_has_cells_colored_by_value() -> None:
    """For each x and y."""
    found = lens(
        'chart = "heatmap"\nesql = "FROM a"\nx = "x"\ny = "y"\n'
        'value = { column = "v", thresholds = [{ value = 0, color = "good" }, { value = 1, color = "bad" }] }'
    )

    assert found["type"] == "lnsHeatmap"
    assert (found["xAccessor"], found["yAccessor"], found["valueAccessor"]) == ("x", "y", "v")
    assert [stop["stop"] for stop in found["palette"]["params"]["colorStops"]] == [0, 1]
