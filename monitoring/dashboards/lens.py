"""Compiles panels with a query into Lens panels by value with an ES|QL query.

docs/decisions/0008-dashboards.md lists the sources of these formats.
"""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid5

from monitoring.dashboards.source import (
    COLORS,
    Bar,
    Column,
    Heatmap,
    Line,
    Metric,
    Pie,
    QueryPanel,
    SeriesPanel,
    Table,
    Threshold,
)

TIME_FIELD = "@timestamp"
_IDS = UUID("6f0cbb5e-3c0a-5d0e-9f43-0c3a8b1d7e52")
EMPTY_QUERY = {"query": "", "language": "kuery"}
_SERIES_TYPES = {
    (False, "grouped"): "bar",
    (False, "stacked"): "bar_stacked",
    (False, "percent"): "bar_percentage_stacked",
    (True, "grouped"): "bar_horizontal",
    (True, "stacked"): "bar_horizontal_stacked",
    (True, "percent"): "bar_horizontal_percentage_stacked",
}


def stable_id(*parts: str) -> str:
    """A UUID, like Kibana's own ids, that depends on the parts only."""
    return str(uuid5(_IDS, "/".join(parts)))


def lens_panel(dashboard: str, panel: QueryPanel) -> dict[str, Any]:
    """Type and configuration of the panel, without its position."""
    chart, visualization = _VISUALIZATIONS[type(panel)]
    layer = stable_id(dashboard, panel.id, "layer")
    ids = {column.column: stable_id(dashboard, panel.id, "column", column.column) for column in panel.columns}
    columns = [_column(column, ids) for column in panel.columns]
    query = {"esql": panel.esql.strip()}
    attributes = {
        "title": panel.title,
        "description": panel.description,
        "visualizationType": chart,
        "type": "lens",
        "references": [],
        "state": {
            "visualization": visualization(panel, layer, ids),
            "query": query,
            "filters": [],
            "datasourceStates": {
                "textBased": {
                    "layers": {
                        layer: {"query": query, "columns": columns, "allColumns": columns, "timeField": TIME_FIELD}
                    }
                }
            },
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }
    return {
        "type": "lens",
        "embeddableConfig": {
            "enhancements": {"dynamicActions": {"events": []}},
            "description": panel.description,
            "attributes": attributes,
            "syncTooltips": False,
            "syncColors": False,
            "syncCursor": True,
            "filters": [],
            "query": EMPTY_QUERY,
        },
    }


def _column(column: Column, ids: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "fieldName": column.column,
        "columnId": ids[column.column],
        "label": column.title,
        "customLabel": bool(column.label),
    }
    if column.format == "date":
        return found | {"meta": {"type": "date", "esType": "date"}}
    if column.format == "text":
        return found | {"meta": {"type": "string", "esType": "keyword"}}
    return found | {
        "meta": {"type": "number", "esType": "double"},
        "inMetricDimension": True,
        "params": {"format": _number_format(column)},
    }


def _number_format(column: Column) -> dict[str, Any]:
    if column.prefix:
        # Kibana's formats have a suffix but no prefix, except in a custom pattern.
        pattern = "0.0a" if column.compact else "0,0" + ("." + "0" * column.decimals if column.decimals else "")
        return {"id": "custom", "params": {"decimals": 0, "pattern": column.prefix + pattern}}
    params: dict[str, Any] = {"decimals": column.decimals}
    if column.suffix:
        params["suffix"] = column.suffix
    if column.compact:
        params["compact"] = True
    return {"id": column.format, "params": params}


def _hex(color: str) -> str:
    return COLORS.get(color, color)


def _palette(thresholds: tuple[Threshold, ...]) -> dict[str, Any]:
    """Colors by value. Each appears twice: with the value where it starts, and with the one where it ends."""
    begins = [threshold.value for threshold in thresholds]
    colors = [_hex(threshold.color) for threshold in thresholds]
    # The last one has no end, but Kibana requires a number.
    ends = [*begins[1:], begins[-1] + 1]
    return {
        "name": "custom",
        "type": "palette",
        "params": {
            "steps": len(colors),
            "maxSteps": len(colors),
            "name": "custom",
            "reverse": False,
            "rangeType": "number",
            "rangeMin": begins[0],
            "rangeMax": None,
            "progression": "fixed",
            "stops": [{"color": color, "stop": end} for color, end in zip(colors, ends, strict=True)],
            "colorStops": [{"color": color, "stop": begin} for color, begin in zip(colors, begins, strict=True)],
            "continuity": "above",
        },
    }


def _color_mapping(colors: dict[str, str]) -> dict[str, Any]:
    """Colors of given values; the others get the palette's colors in turn."""
    return {
        "assignments": [
            {
                "rule": {"type": "matchExactly", "values": [value]},
                "color": {"type": "colorCode", "colorCode": _hex(color)},
                "touched": False,
            }
            for value, color in colors.items()
        ],
        "specialAssignments": [{"rule": {"type": "other"}, "color": {"type": "loop"}, "touched": False}],
        "paletteId": "eui_amsterdam_color_blind",
        "colorMode": {"type": "categorical"},
    }


def _metric(panel: Metric, layer: str, ids: dict[str, str]) -> dict[str, Any]:
    value = panel.value
    found: dict[str, Any] = {
        "layerId": layer,
        "layerType": "data",
        "metricAccessor": ids[value.column],
        "showBar": False,
    }
    if panel.subtitle:
        found["subtitle"] = panel.subtitle
    if value.thresholds:
        found["palette"] = _palette(value.thresholds)
    elif value.color:
        found["color"] = _hex(value.color)
    return found


def _series(panel: SeriesPanel, layer: str, ids: dict[str, str]) -> dict[str, Any]:
    if isinstance(panel, Line):
        kind = "line"
    elif isinstance(panel, Bar):
        kind = _SERIES_TYPES[panel.horizontal, panel.stack]
    else:
        kind = {"stacked": "area_stacked", "percent": "area_percentage_stacked"}[panel.stack]
    data: dict[str, Any] = {
        "layerId": layer,
        "layerType": "data",
        "seriesType": kind,
        "xAccessor": ids[panel.x.column],
        "accessors": [ids[column.column] for column in panel.y],
        "position": "top",
        "showGridlines": False,
        "colorMapping": _color_mapping(panel.breakdown.colors if panel.breakdown else {}),
    }
    if panel.breakdown:
        data["splitAccessor"] = ids[panel.breakdown.column]
    extent = {} if getattr(panel, "from_zero", True) else {"yLeftExtent": {"mode": "dataBounds"}}
    if colored := [column for column in panel.y if column.color]:
        data["yConfig"] = [
            {"forAccessor": ids[column.column], "color": _hex(column.color or ""), "axisMode": "left"}
            for column in colored
        ]
    several = panel.breakdown is not None or len(panel.y) > 1
    found: dict[str, Any] = {
        "layers": [data],
        "preferredSeriesType": kind,
        "legend": {"isVisible": several, "position": "bottom" if panel.size[0] < 24 else "right"},
        "valueLabels": "hide",
        "fittingFunction": "None",
        "axisTitlesVisibilitySettings": {"x": bool(panel.x_title), "yLeft": bool(panel.y_title), "yRight": False},
    }
    return (
        found
        | extent
        | ({"xTitle": panel.x_title} if panel.x_title else {})
        | ({"yTitle": panel.y_title} if panel.y_title else {})
    )


def _table(panel: Table, layer: str, ids: dict[str, str]) -> dict[str, Any]:
    def shown() -> Iterator[dict[str, Any]]:
        for column in panel.show:
            is_number = column.format not in ("text", "date")
            found: dict[str, Any] = {
                "columnId": ids[column.column],
                "isTransposed": False,
                "isMetric": is_number,
                "alignment": "right" if is_number else "left",
            }
            if column.thresholds:
                found |= {"colorMode": "text", "palette": _palette(column.thresholds)}
            yield found

    return {
        "layerId": layer,
        "layerType": "data",
        "columns": list(shown()),
        "paging": {"size": panel.rows_per_page, "enabled": True},
    }


def _pie(panel: Pie, layer: str, ids: dict[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "layerId": layer,
        "layerType": "data",
        "primaryGroups": [ids[panel.slices.column]],
        "metrics": [ids[panel.value.column]],
        "numberDisplay": "percent",
        "categoryDisplay": "default",
        "legendDisplay": "default",
        "nestedLegend": False,
        "colorMapping": _color_mapping(panel.slices.colors),
    }
    if panel.donut:
        data["emptySizeRatio"] = 0.5
    return {"shape": "donut" if panel.donut else "pie", "layers": [data]}


def _heatmap(panel: Heatmap, layer: str, ids: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "layerId": layer,
        "layerType": "data",
        "shape": "heatmap",
        "xAccessor": ids[panel.x.column],
        "yAccessor": ids[panel.y.column],
        "valueAccessor": ids[panel.value.column],
        "gridConfig": {
            "type": "heatmap_grid",
            "isCellLabelVisible": False,
            "isXAxisLabelVisible": True,
            "isXAxisTitleVisible": False,
            "isYAxisLabelVisible": True,
            "isYAxisTitleVisible": False,
        },
        "legend": {"type": "heatmap_legend", "isVisible": True, "position": "right"},
    }
    return found | ({"palette": _palette(panel.value.thresholds)} if panel.value.thresholds else {})


# Kibana's name of each chart, and the function that builds its visualization state.
_VISUALIZATIONS: dict[type, tuple[str, Callable[..., dict[str, Any]]]] = {
    Metric: ("lnsMetric", _metric),
    **dict.fromkeys(SeriesPanel.__args__, ("lnsXY", _series)),
    Table: ("lnsDatatable", _table),
    Pie: ("lnsPie", _pie),
    Heatmap: ("lnsHeatmap", _heatmap),
}
