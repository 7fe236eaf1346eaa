"""What holds for every panel of every shipped dashboard: units, links, zeros, versions, colors."""

import re

import pytest

from monitoring.dashboards.source import (
    COLORS,
    Column,
    Dashboard,
    Heatmap,
    Markdown,
    Metric,
    Panel,
    QueryPanel,
    SeriesPanel,
    load_all,
)

BOARDS = load_all()
PANELS = [(board, panel) for board in BOARDS for panel in board.panels]
NAMES = [f"{board.id}/{panel.id}" for board, panel in PANELS]
over_panels = pytest.mark.parametrize(("board", "panel"), PANELS, ids=NAMES)
LINK = re.compile(r"\[[^]]+\]\(#/view/([\w-]+)\)")
BACKGROUNDS = {"light": "#FFFFFF", "dark": "#1D1E24"}
SHARE = re.compile(r"CASE\((\w+) == 0, 0\.0, ")


def is_over_time(panel: Panel) -> bool:
    return isinstance(panel, SeriesPanel | Heatmap) and panel.x.column.startswith("BUCKET(@timestamp")


def has_unit(column: Column) -> bool:
    """By its format, or by what stands beside the number."""
    return bool(column.prefix or column.suffix or column.format != "number")


@over_panels
def test_a_panel_explains_itself(board: Dashboard, panel: Panel) -> None:
    """Behind the icon beside its title."""
    assert isinstance(panel, Markdown) or (panel.title and panel.description)


@over_panels
def test_a_number_has_a_unit(board: Dashboard, panel: Panel) -> None:
    """A tile by its label, a chart by its title or by its numbers."""
    if isinstance(panel, Metric):
        assert panel.value.label or has_unit(panel.value)
    elif isinstance(panel, SeriesPanel):
        names = {panel.x.title, *(one.title for one in panel.y)}
        assert (
            all(map(has_unit, panel.y))
            or re.search(r"\(.+\)", panel.title)
            or any(re.search(rf"\b{name}\b", panel.title.lower()) for name in names)
        )


@over_panels
def test_a_count_over_time_is_a_rate(board: Dashboard, panel: Panel) -> None:
    """The length of a bucket changes with the time range, and so would the height of a count. Rare events say so."""
    if not is_over_time(panel) or not isinstance(panel, SeriesPanel) or "COUNT" not in panel.esql:
        return
    counted = set(re.findall(r"(\w+) = COUNT", panel.esql)) & {one.column for one in panel.y}
    percent = getattr(panel, "stack", "") == "percent"
    rates = [one for one in panel.y if re.search(r"_per_(second|minute)$", one.column)]
    assert percent or "per bar)" in panel.title or not counted, panel.title
    if rates:
        assert re.search(r"\(\w+/(s|min)\)", panel.title), panel.title


@over_panels
def test_no_fault_is_zero_and_not_absent(board: Dashboard, panel: Panel) -> None:
    """A count is never null; a share of faults has no green 0 otherwise where nothing was asked."""
    if isinstance(panel, Metric) and panel.value.thresholds and panel.value.thresholds[0].color == "good":
        made = re.findall(rf"\b{panel.value.column} = (\w+\(.*)", panel.esql)
        measured = re.search(r"PERCENTILE|MEDIAN|MAX\(", panel.esql)
        assert measured or any(one.startswith("COUNT(") or SHARE.match(one) for one in made), made


@over_panels
def test_versions_are_apart(board: Dashboard, panel: Panel) -> None:
    """The mean of two versions' metrics is the metric of none."""
    if isinstance(panel, QueryPanel) and "inference-quality" in panel.esql:
        grouped = [part for part in panel.esql.split("|") if part.strip().startswith("STATS")]
        assert grouped
        assert all(
            "inflight.model.version" in part.partition(" BY ")[2] for part in map(" ".join, map(str.split, grouped))
        )


@pytest.mark.parametrize("board", BOARDS, ids=[one.id for one in BOARDS])
def test_a_board_leads_to_all_others(board: Dashboard) -> None:
    """At its top, without a link to itself."""
    first = min(board.panels, key=lambda panel: panel.at[::-1])

    assert isinstance(first, Markdown)
    assert sorted(LINK.findall(first.text)) == sorted(one.id for one in BOARDS if one.id != board.id)


def test_texts_name_boards_by_their_titles() -> None:
    """As the links do."""
    assert all("Grafana" not in panel.description for _, panel in PANELS)
    titles = {one for board in BOARDS for one in re.findall(r"\[([^]]+)\]\(#", board.panels[0].text)}  # type: ignore[union-attr]
    assert titles == {
        *("Serving", "Requests and responses", "Drift and quality", "Dead letters", "Model events", "Rollouts"),
        *("Diamonds", "Titanic", "Reviews"),
    }


def luminance(color: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", BACKGROUNDS)
@pytest.mark.parametrize("name", COLORS)
def test_a_color_is_seen_in_both_themes(name: str, theme: str) -> None:
    """With the contrast that WCAG asks of graphics, 3 to 1."""
    dark, light = sorted([luminance(COLORS[name]), luminance(BACKGROUNDS[theme])])

    assert (light + 0.05) / (dark + 0.05) >= 3
