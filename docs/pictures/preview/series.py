"""Lines, areas and bars as Vega-Lite: the numbers are stacked here, and every column has a plain name in the chart."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from docs.pictures.preview.style import color, in_turn
from docs.pictures.preview.text import moment, shown, width
from monitoring.dashboards.queries import QueryResult
from monitoring.dashboards.source import Area, Bar, Column, Line, SeriesPanel

Spec = dict[str, Any]
LABEL = 11
"""Font size of axes and legends."""


class Series(NamedTuple):
    """One line, or the bars of one color; `points` has its number at each place along `x` where there is one.

    With a breakdown, `split` is its value, which decides the color, and `column` the place of the series' column.
    """

    name: str
    points: dict[str, float]
    split: str = ""
    column: int = 0


class Frame(NamedTuple):
    """What a chart is drawn into: pixels, and the time range."""

    width: float
    height: float
    start: datetime
    end: datetime


def all_series(panel: SeriesPanel, answer: QueryResult) -> list[Series]:
    """The series of the answer in the order of the source, or of their names where a breakdown makes them."""
    names = answer.names
    x = names.index(panel.x.column)
    split = names.index(panel.breakdown.column) if panel.breakdown else None
    found: dict[str, Series] = {}
    for number, column in enumerate(panel.y):
        place = names.index(column.column)
        if split is None:
            found[column.title] = Series(column.title, {})
        for row in answer.rows:
            value = "" if split is None or panel.breakdown is None else shown(panel.breakdown, row[split])
            name = column.title if split is None else value if len(panel.y) == 1 else f"{value} - {column.title}"
            if row[x] is not None and row[place] is not None:
                one = found.setdefault(name, Series(name, {}, value, number))
                one.points[_place(panel.x, row[x])] = row[place]
    return sorted(found.values(), key=lambda one: (one.split, one.column))


def _place(x: Column, value: Any) -> str:
    """A place along `x`: a moment as it is in the answer, anything else as it is shown.

    What is no character of XML may not get into a chart: vl-convert ends the whole process for it.
    """
    return str(value) if x.format == "date" else shown(x, value)


def colors(panel: SeriesPanel, series: list[Series]) -> dict[str, str]:
    """The color of each series; as in Kibana, those of one value of the breakdown share it."""
    if panel.breakdown is not None:
        splits = list(dict.fromkeys(one.split for one in series))
        shades = in_turn(splits, {name: one for name, one in panel.breakdown.colors.items() if name in splits})
        return {one.name: shades[one.split] for one in series}
    return in_turn([one.name for one in series], {one.title: color(one.color) for one in panel.y if one.color})


def series_spec(panel: SeriesPanel, answer: QueryResult, frame: Frame) -> Spec:
    """The chart."""
    series = all_series(panel, answer)
    names = [one.name for one in series]
    is_time = panel.x.format == "date"
    column = answer.names.index(panel.x.column)
    places = list(dict.fromkeys(_place(panel.x, row[column]) for row in answer.rows if row[column] is not None))
    if is_time:
        places.sort()
    stack = panel.stack if isinstance(panel, Bar | Area) else "none"
    values = list(_values(panel, series, places, stack, is_time, frame))
    numbers = _number_axis(
        panel.y[0], values, panel.y_title, percent=stack == "percent", zero=getattr(panel, "from_zero", True)
    )
    shades = colors(panel, series)
    encoding: Spec = {
        "color": {
            "field": "series",
            "type": "nominal",
            "scale": {"domain": names, "range": [shades[name] for name in names]},
            "legend": _key(panel, names, frame) if len(names) > 1 or panel.breakdown else None,
        }
    }
    along = time_axis(frame, panel.x_title) if is_time else _names_axis(panel, places, frame)
    lying = isinstance(panel, Bar) and panel.horizontal
    across, up = ("y", "x") if lying else ("x", "y")
    encoding[across] = {"field": "x", **along}
    encoding[up] = {"field": "y0" if stack in ("stacked", "percent") else "y", **numbers}
    if stack in ("stacked", "percent"):
        encoding[f"{up}2"] = {"field": "y1"}
    if isinstance(panel, Bar) and is_time:
        encoding[f"{across}2"] = {"field": "x2"}
    if isinstance(panel, Line) and panel.breakdown and len(panel.y) > 1:
        # The lines of one color are told apart: the first column is the value, the others are bounds of it.
        dashes = [[1, 0] if one.column == 0 else [3, 3] for one in series]
        encoding["strokeDash"] = {"field": "series", "scale": {"domain": names, "range": dashes}, "legend": None}
    if stack == "grouped":
        encoding[f"{across}Offset"] = {"field": "series", "type": "nominal", "sort": names}
        encoding[up]["stack"] = None
    return base(frame) | {"data": {"values": values}, "mark": _mark(panel, series, len(places)), "encoding": encoding}


def _mark(panel: SeriesPanel, series: list[Series], places: int) -> Spec:
    if isinstance(panel, Line):
        # Points too where they are few: a line of a single one is not seen without.
        few = places < 20 or any(len(one.points) < 2 for one in series)
        return {"type": "line", "strokeWidth": 2, "point": {"size": 22} if few else False, "clip": True}
    if isinstance(panel, Area):
        return {"type": "area", "opacity": 0.75, "line": False, "clip": True}
    return {"type": "bar", "clip": True, "binSpacing": 1} | ({} if panel.horizontal else {"cornerRadiusEnd": 1})


def _values(
    panel: SeriesPanel, series: list[Series], places: list[str], stack: str, is_time: bool, frame: Frame
) -> Iterator[Spec]:
    """A record for each number, or where they are stacked for each place and series: `y0` to `y1` on the stack."""
    length = bucket(places, frame) if is_time else 0.0
    for place in places:
        ends: Spec = {"x": place}
        if is_time:
            begin = moment(place).timestamp() * 1_000
            ends = {"x": begin, "x2": begin + length * 1_000 * 0.92}
        total = sum(one.points.get(place, 0.0) for one in series) or 1.0
        height = 0.0
        for one in series:
            if stack in ("stacked", "percent"):
                number = one.points.get(place, 0.0) / (total if stack == "percent" else 1.0)
                # Bars of nothing are left out; an area goes on at zero.
                if number or isinstance(panel, Area):
                    yield ends | {"series": one.name, "y0": height, "y1": height + number}
                height += number
            elif place in one.points:
                yield ends | {"series": one.name, "y": one.points[place]}


def bucket(places: list[str], frame: Frame) -> float:
    """How long a bucket of time is, in seconds: the least distance of two."""
    moments = sorted(moment(one).timestamp() for one in places)
    gaps = [later - earlier for earlier, later in pairwise(moments) if later > earlier]
    return min(gaps, default=(frame.end - frame.start).total_seconds() / 40)


def base(frame: Frame) -> Spec:
    """What every chart has."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": frame.width,
        "height": frame.height,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 2,
    }


def legend(names: list[str], frame: Frame) -> Spec:
    """Below the chart while that takes few lines, else at its right."""
    longest = max((width(name, LABEL) for name in names), default=0.0)
    columns = max(1, int((frame.width - 20) // (min(longest, 220) + 34)))
    if -(-len(names) // columns) <= 2:
        return {"title": None, "orient": "bottom", "columns": columns, "labelLimit": 220, "values": names}
    return {"title": None, "orient": "right", "columns": 1, "labelLimit": frame.width * 0.4, "values": names}


def _key(panel: SeriesPanel, names: list[str], frame: Frame) -> Spec:
    stroke = {"symbolType": "stroke", "symbolStrokeWidth": 3} if isinstance(panel, Line) else {}
    return legend(names, frame) | stroke


def time_axis(frame: Frame, title: str = "") -> Spec:
    """The time range from left to right, in UTC."""
    seconds = (frame.end - frame.start).total_seconds()
    form = "%H:%M:%S" if seconds < 180 else "%H:%M" if seconds <= 26 * 3600 else "%b %d %H:%M"
    # No two ticks in the same minute, as its name would stand there twice.
    ticks = max(2, int(min(frame.width // 90, seconds // 60 if seconds >= 180 else 10)))
    form = "%b %d" if seconds > 4 * 86_400 else form
    return {
        "type": "temporal",
        "scale": {"type": "utc", "domain": [frame.start.timestamp() * 1_000, frame.end.timestamp() * 1_000]},
        "axis": {"title": title or None, "format": form, "grid": False, "tickCount": ticks},
    }


def _names_axis(panel: SeriesPanel, places: list[str], frame: Frame) -> Spec:
    """One place for each value, in the order of the answer; slanted where they would meet."""
    axis: Spec = {"title": panel.x_title or None, "labelOverlap": False, "grid": False, "ticks": False}
    if isinstance(panel, Bar) and panel.horizontal:
        axis |= {"labelLimit": frame.width * 0.45, "minExtent": 20}
    else:
        widest = max((width(place, LABEL) for place in places), default=0.0)
        fits = (widest + 6) * len(places) <= frame.width - 50
        axis |= {"labelAngle": 0 if fits else -40, "labelLimit": 140}
    inner = 0.2 if len(places) > 3 else 0.55
    return {
        "type": "nominal",
        "sort": places,
        "axis": axis,
        "scale": {"paddingInner": inner, "paddingOuter": inner / 2},
    }


def _number_axis(column: Column, values: list[Spec], title: str, *, percent: bool, zero: bool) -> Spec:
    """From zero, as Kibana has it, in the column's format."""
    numbers = [float(one["y1"] if "y1" in one else one["y"]) for one in values]
    highest = max(map(abs, numbers), default=0.0)
    whole = all(number.is_integer() for number in numbers)
    form = ".3~s" if highest >= 10_000 else ",.4~f"
    label = f"format(datum.value, {json.dumps(form)})"
    if percent or column.format == "percent":
        label = "format(datum.value, '.2~%')"
    elif column.format == "bytes":
        label = "format(datum.value, '.3~s') + 'B'"
    else:
        label = f"{json.dumps(column.prefix)} + {label} + {json.dumps(column.suffix)}"
    axis: Spec = {"title": title or None, "labelExpr": label, "tickCount": 5, "domain": False, "ticks": False}
    scale: Spec = {"zero": zero, "nice": True}
    if percent:
        scale = {"domain": [0, 1]}
    elif whole and highest < 5:
        # Of 2 events there is no half.
        axis |= {"values": list(range(int(highest) + 1))}
    return {"type": "quantitative", "axis": axis, "scale": scale}
