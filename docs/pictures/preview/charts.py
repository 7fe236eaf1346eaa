"""Panels as charts: the Vega-Lite of each kind, and its SVG."""

from typing import Any

from docs.pictures.preview.series import Frame, Spec, base, bucket, legend, series_spec, time_axis
from docs.pictures.preview.style import FONT, GREY, INK, LINE, color, in_turn
from docs.pictures.preview.text import moment, shown
from monitoring.dashboards.queries import QueryResult
from monitoring.dashboards.source import Column, Heatmap, Pie, QueryPanel, SeriesPanel

_CONFIG: Spec = {
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {"labelColor": GREY, "labelFontSize": 11, "gridColor": "#E9EDF3", "domainColor": LINE, "tickColor": LINE},
    "axisX": {"labelPadding": 4},
    "legend": {
        "labelColor": INK,
        "labelFontSize": 11,
        "symbolType": "circle",
        "symbolSize": 70,
        "symbolStrokeWidth": 0,
        "symbolOpacity": 1,
        "rowPadding": 3,
        "columnPadding": 14,
        "offset": 8,
    },
}


def chart_spec(panel: QueryPanel, answer: QueryResult, frame: Frame) -> Spec:
    """The Vega-Lite of a panel that is a chart. It holds the answer, so it is complete in itself."""
    if isinstance(panel, SeriesPanel):
        found = series_spec(panel, answer, frame)
    elif isinstance(panel, Pie):
        found = _pie(panel, answer, frame)
    else:
        assert isinstance(panel, Heatmap), panel
        found = _heatmap(panel, answer, frame)
    return found | {"config": _CONFIG}


def _pie(panel: Pie, answer: QueryResult, frame: Frame) -> Spec:
    """Each slice has its share in the legend."""
    name, number = (answer.names.index(column.column) for column in panel.columns)
    rows = sorted(
        ((shown(panel.slices, row[name]), row[number] or 0.0) for row in answer.rows), key=lambda one: -one[1]
    )
    total = sum(value for _, value in rows) or 1.0
    shades = in_turn([one for one, _ in rows], panel.slices.colors)
    labels = {one: f"{one}  {value / total * 100:.1f}%" for one, value in rows}
    key = legend(list(labels.values()), frame) | {"orient": "bottom"}
    lines = -(-len(rows) // key["columns"])
    radius = max(20.0, min(frame.width, frame.height - 20 - 17 * lines) / 2 - 6)
    return base(frame) | {
        "data": {
            "values": [
                {"slice": labels[one], "value": value, "place": place} for place, (one, value) in enumerate(rows)
            ]
        },
        "mark": {
            "type": "arc",
            "outerRadius": radius,
            "innerRadius": radius * 0.55 if panel.donut else 0,
            "stroke": "white",
            "strokeWidth": 1.5,
        },
        "encoding": {
            "theta": {"field": "value", "type": "quantitative", "stack": True},
            "order": {"field": "place", "type": "quantitative"},
            "color": {
                "field": "slice",
                "type": "nominal",
                "scale": {"domain": list(labels.values()), "range": [shades[one] for one, _ in rows]},
                "legend": key,
            },
        },
    }


def _heatmap(panel: Heatmap, answer: QueryResult, frame: Frame) -> Spec:
    """Cells in the colors of the thresholds, which the legend names; without thresholds from light to dark."""
    x, y, number = (answer.names.index(column.column) for column in panel.columns)
    rows = [row for row in answer.rows if row[x] is not None and row[y] is not None and row[number] is not None]
    names = list(dict.fromkeys(shown(panel.y, row[y]) for row in rows))
    is_time = panel.x.format == "date"
    length = bucket([row[x] for row in rows], frame) * 1_000 if is_time else 0.0
    values = [
        {
            "y": shown(panel.y, row[y]),
            "value": row[number],
            "band": _band(panel, row[number]),
            **_cell(panel.x, row[x], length),
        }
        for row in rows
    ]
    across: Spec = {"field": "x", "type": "nominal", "sort": None, "axis": {"title": None, "labelOverlap": True}}
    encoding: Spec = {
        "x": {"field": "x", **time_axis(frame)} if is_time else across,
        "y": {
            "field": "y",
            "type": "nominal",
            "sort": names,
            "axis": {
                "title": None,
                "labelLimit": frame.width * 0.4,
                "labelOverlap": False,
                "ticks": False,
                "labelFontSize": max(6, min(11, (frame.height - 50) / max(1, len(names)) * 0.8)),
            },
            "scale": {"paddingInner": 0.12},
        },
        "color": {"field": "value", "type": "quantitative", "scale": {"scheme": "blues"}, "legend": {"title": None}},
    }
    if is_time:
        encoding["x2"] = {"field": "x2"}
    if steps := panel.value.thresholds:
        bands = [_band(panel, one.value) for one in steps]
        encoding["color"] = {
            "field": "band",
            "type": "nominal",
            "scale": {"domain": bands, "range": [color(one.color) for one in steps]},
            "legend": legend(bands, frame),
        }
    return base(frame) | {"data": {"values": values}, "mark": {"type": "rect", "clip": True}, "encoding": encoding}


def _cell(x: Column, place: Any, length: float) -> Spec:
    if not length:
        return {"x": shown(x, place)}
    begin = moment(place).timestamp() * 1_000
    return {"x": begin, "x2": begin + length * 0.95}


def _band(panel: Heatmap, value: float) -> str:
    """Between which thresholds the value is, in words of the legend."""
    steps = panel.value.thresholds
    if not steps:
        return ""
    place = max((number for number, one in enumerate(steps) if value >= one.value), default=0)
    begin = f"{steps[place].value:g}"
    words = f"{begin} to {steps[place + 1].value:g}" if place + 1 < len(steps) else f"{begin} and more"
    return f"{words} {panel.value.title}"
