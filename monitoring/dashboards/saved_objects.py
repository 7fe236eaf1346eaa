"""Compiles dashboards into saved objects, one JSON object per line, as Kibana imports them.

The migration versions are the oldest ones with all features used here; Kibana 8.19 and 9.x migrate the objects to their
own. docs/decisions/0008-dashboards.md lists the sources of these formats.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from monitoring.dashboards.lens import EMPTY_QUERY, TIME_FIELD, lens_panel, stable_id
from monitoring.dashboards.source import Control, Dashboard, Markdown, Panel, QueryPanel, Search

FILE_NAME = "inflight.ndjson"
"""All dashboards in one file beside their sources: Kibana imports one file at a time."""

SavedObject = dict[str, Any]


def compile_dashboards(dashboards: Iterable[Dashboard]) -> bytes:
    """The file to import: shared objects once, referenced objects before their referrers."""
    found = {}
    order = {"index-pattern": 0, "search": 1, "dashboard": 2}
    for saved in (saved for dashboard in dashboards for saved in saved_objects(dashboard)):
        found[order[saved["type"]], saved["id"]] = saved
    return b"".join(_json(found[key]).encode() + b"\n" for key in sorted(found))


def default_file(folder: Path) -> Path:
    """The path of the compiled dashboards of a folder."""
    return folder / FILE_NAME


def saved_objects(dashboard: Dashboard) -> Iterator[SavedObject]:
    """The dashboard's data views and searches, then the dashboard."""
    searches = [panel for panel in dashboard.panels if isinstance(panel, Search)]
    indices = {*(control.index for control in dashboard.controls), *(one.index for one in searches)}
    for index in sorted(indices):
        yield _data_view(index)
    for search in searches:
        yield _search(dashboard, search)
    yield _dashboard(dashboard)


def _json(value: Any) -> str:
    """Sorted keys keep the committed file's diffs minimal."""
    return msgspec.json.encode(value, order="deterministic").decode()


def _data_view_id(index: str) -> str:
    return stable_id("data-view", index)


def _search_id(dashboard: Dashboard, panel: Search) -> str:
    return stable_id(dashboard.id, panel.id, "search")


def _data_view(index: str) -> SavedObject:
    return {
        "type": "index-pattern",
        "id": _data_view_id(index),
        "attributes": {
            "title": index,
            "name": f"Inflight: {index}",
            "timeFieldName": TIME_FIELD,
            "sourceFilters": "[]",
            "fieldFormatMap": "{}",
            "fieldAttrs": "{}",
            "runtimeFieldMap": "{}",
            "allowHidden": False,
        },
        "references": [],
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": "8.0.0",
    }


def _search(dashboard: Dashboard, panel: Search) -> SavedObject:
    reference = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {
        "query": {"query": panel.query, "language": "kuery"},
        "filter": [],
        "highlightAll": True,
        "indexRefName": reference,
    }
    return {
        "type": "search",
        "id": _search_id(dashboard, panel),
        "attributes": {
            "title": f"{dashboard.title}: {panel.title}",
            "description": panel.description,
            "columns": list(panel.fields),
            "sort": [[TIME_FIELD, "desc"]],
            "grid": {},
            "hideChart": True,
            "isTextBasedQuery": False,
            "kibanaSavedObjectMeta": {"searchSourceJSON": _json(source)},
        },
        "references": [{"type": "index-pattern", "id": _data_view_id(panel.index), "name": reference}],
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": "8.0.0",
    }


def _dashboard(dashboard: Dashboard) -> SavedObject:
    references: list[dict[str, str]] = []
    panels = []
    for panel in dashboard.panels:
        found, needed = _panel(dashboard, panel)
        panels.append(found)
        references += needed
    attributes: dict[str, Any] = {
        "title": dashboard.title,
        "description": dashboard.description,
        "panelsJSON": _json(panels),
        "optionsJSON": _json(
            {
                "useMargins": True,
                # A model or outcome has the same color in all charts.
                "syncColors": True,
                "syncCursor": True,
                "syncTooltips": False,
                "hidePanelTitles": False,
            }
        ),
        "timeRestore": True,
        "timeFrom": dashboard.since,
        "timeTo": "now",
        "refreshInterval": {"pause": not dashboard.refresh, "value": dashboard.refresh * 1_000},
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _json({"query": EMPTY_QUERY, "filter": []})},
    }
    if dashboard.controls:
        attributes["controlGroupInput"], needed = _controls(dashboard)
        references += needed
    return {
        "type": "dashboard",
        "id": dashboard.id,
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": "10.2.0",
    }


def _panel(dashboard: Dashboard, panel: Panel) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The panel with its position, and its references."""
    identity = stable_id(dashboard.id, panel.id)
    (x, y), (width, height) = panel.at, panel.size
    references = []
    if isinstance(panel, QueryPanel):
        content = lens_panel(dashboard.id, panel)
    elif isinstance(panel, Markdown):
        content = _markdown(panel)
    else:
        assert isinstance(panel, Search)
        name = f"panel_{identity}"
        content = {
            "type": "search",
            "panelRefName": name,
            "embeddableConfig": {"description": panel.description, "enhancements": {}},
        }
        references = [{"type": "search", "id": _search_id(dashboard, panel), "name": f"{identity}:{name}"}]
    content["embeddableConfig"] |= {"hidePanelTitles": not panel.title}
    return content | {
        "panelIndex": identity,
        "title": panel.title,
        "gridData": {"i": identity, "x": x, "y": y, "w": width, "h": height},
    }, references


def _markdown(panel: Markdown) -> dict[str, Any]:
    return {
        "type": "visualization",
        "embeddableConfig": {
            "enhancements": {},
            "savedVis": {
                "id": "",
                "title": panel.title,
                "description": panel.description,
                "type": "markdown",
                "params": {"fontSize": 12, "openLinksInNewTab": False, "markdown": panel.text},
                "uiState": {},
                "data": {"aggs": [], "searchSource": {"query": EMPTY_QUERY, "filter": []}},
            },
        },
    }


def _controls(dashboard: Dashboard) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The controls above the dashboard, and their references."""
    panels, references = {}, []
    for position, control in enumerate(dashboard.controls):
        identity = stable_id(dashboard.id, "control", control.id)
        panels[identity] = _control(control, identity, position)
        name = f"controlGroup_{identity}:optionsListDataView"
        references.append({"type": "index-pattern", "id": _data_view_id(control.index), "name": name})
    group = {
        "chainingSystem": "HIERARCHICAL",
        "controlStyle": "oneLine",
        "showApplySelections": False,
        "ignoreParentSettingsJSON": _json(
            {"ignoreFilters": False, "ignoreQuery": False, "ignoreTimerange": False, "ignoreValidations": False}
        ),
        "panelsJSON": _json(panels),
    }
    return group, references


def _control(control: Control, identity: str, position: int) -> dict[str, Any]:
    return {
        "type": "optionsListControl",
        "order": position,
        "grow": False,
        "width": "medium",
        "explicitInput": {
            "id": identity,
            "dataViewId": _data_view_id(control.index),
            "fieldName": control.field,
            "title": control.title,
            "searchTechnique": "prefix",
            "selectedOptions": [],
            "sort": {"by": "_count", "direction": "desc"},
        },
    }
