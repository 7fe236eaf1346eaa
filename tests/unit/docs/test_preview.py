"""Pictures of dashboards: every kind of panel is drawn with its columns, its formats, and texts of any kind."""

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from docs.pictures.preview import compose, tiles
from docs.pictures.preview.charts import chart_spec
from docs.pictures.preview.draw import VEGA_LITE, Documents, Failed, is_empty, picture
from docs.pictures.preview.series import Frame, all_series
from docs.pictures.preview.style import in_turn
from docs.pictures.preview.text import cut, lines, shown, width
from monitoring.dashboards.lens import lens_panel
from monitoring.dashboards.queries import QueryResult
from monitoring.dashboards.source import COLORS, Column, Dashboard, Line, Metric, Pie, QueryPanel, load_all, parse

END = datetime(2026, 1, 31, 12, tzinfo=UTC)
START = END - timedelta(hours=1)
FRAME = Frame(500, 240, START, END)
TIMES = ["2026-01-31T11:10:00.000Z", "2026-01-31T11:20:00.000Z", "2026-01-31T11:30:00.000Z"]
NASTY = '<script>alert("&")</script> ]]> \x00 &amp; \'; datum.x ✓ 星'
PLACE = 'title = "T"\nat = [0, 0]\nsize = [24, 12]\nesql = "FROM x"\n'
PANELS = {
    "line": 'chart = "line"\nx = { column = "t", format = "date" }\ny = ["n", "m"]\n',
    "line by": 'chart = "line"\nfrom_zero = false\nx = { column = "t", format = "date" }\ny = ["n"]\nbreakdown = "s"\n',
    "area": 'chart = "area"\nx = { column = "t", format = "date" }\ny = ["n"]\nbreakdown = "s"\n',
    "area shares": 'chart = "area"\nstack = "percent"\nx = { column = "t", format = "date" }\ny = ["n", "m"]\n',
    "bar": 'chart = "bar"\nx = { column = "t", format = "date" }\ny = ["n"]\nbreakdown = "s"\n',
    "bar names": 'chart = "bar"\nx = "s"\ny = [{ column = "n", prefix = "$" }]\n',
    "bar lying": 'chart = "bar"\nhorizontal = true\nx = "s"\ny = ["n", "m"]\n',
    "bar shares": 'chart = "bar"\nstack = "percent"\nx = "s"\ny = ["n", "m"]\n',
    "bar grouped": 'chart = "bar"\nstack = "grouped"\nhorizontal = true\nx = "s"\ny = ["n", "m"]\n',
    "pie": 'chart = "pie"\nslices = "s"\nvalue = "n"\n',
    "pie full": 'chart = "pie"\ndonut = false\nslices = "s"\nvalue = "n"\n',
    "heatmap": 'chart = "heatmap"\nx = { column = "t", format = "date" }\ny = "s"\nvalue = "n"\n',
    "heatmap bands": 'chart = "heatmap"\nx = "s"\ny = "s"\n[panel.value]\ncolumn = "n"\n'
    'thresholds = [{ value = 0, color = "good" }, { value = 5, color = "bad" }]\n',
}


def answer(*names: str) -> QueryResult:
    """Rows of all columns that the panels name; the number 7.25 and the texts are found again in a picture."""
    rows = [[time, name, 7.25 + at, 3.5] for at, time in enumerate(TIMES) for name in names or ("one", "two")]
    return QueryResult((("t", "date"), ("s", "keyword"), ("n", "double"), ("m", "double")), rows)


def board(panel: str) -> Dashboard:
    """A board of one panel."""
    top = 'id = "x"\ntitle = "X & Y"\ndescription = "<b>"\n[[panel]]\nid = "p"\n'
    return parse(top + PLACE + panel, "x.toml")


def panel_of(kind: str) -> QueryPanel:
    """The panel of the kind."""
    (found,) = board(PANELS[kind]).panels
    assert isinstance(found, QueryPanel)
    return found


def svg_of(panel: QueryPanel, found: QueryResult) -> str:
    """The chart, as Vega-Lite draws it."""
    return vl_convert.vegalite_to_svg(msgspec.json.encode(chart_spec(panel, found, FRAME)).decode(), VEGA_LITE)


@pytest.mark.parametrize("kind", PANELS)
def test_every_chart_compiles_and_shows_its_columns(kind: str) -> None:
    """As valid Vega-Lite, that draws a mark at least, with the names of series and places."""
    panel = panel_of(kind)
    drawn = svg_of(panel, answer())
    texts = " ".join(ElementTree.fromstring(drawn).itertext())

    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert drawn.count("graphics-symbol") >= 1
    for column in panel.columns:
        if column.column == "s":
            assert "one" in texts
            assert "two" in texts
    # A lone series needs no legend: the title says what it is.
    if sum(column.column in ("n", "m") for column in panel.columns) > 1:
        assert {"n", "m"} <= set(texts.split())


@pytest.mark.parametrize("kind", PANELS)
def test_numbers_of_every_column_are_in_the_chart(kind: str) -> None:
    """Both the value and, where the panel names it, the second number."""
    panel = panel_of(kind)
    values = chart_spec(panel, answer(), FRAME)["data"]["values"]
    numbers = [number for one in values for number in one.values() if isinstance(number, float)]

    if "shares" in kind:
        assert {one["y1"] for one in values} >= {1.0}
    else:
        # Three times one row of each name; of places that are names the last row is the one that counts.
        assert 9.25 in numbers
        if any(column.column == "m" for column in panel.columns):
            assert {3.5, 9.25 + 3.5} & set(numbers)


@pytest.mark.parametrize("kind", PANELS)
def test_texts_of_any_kind_stay_texts(kind: str) -> None:
    """Markup and quotes in a value are letters in the picture."""
    dashboard = board(PANELS[kind])

    drawn = picture(dashboard, {"p": answer(NASTY)}, START, END)

    assert "<script" not in drawn.svg
    assert "<b>" not in drawn.svg
    assert drawn.empty == []
    assert drawn.png(1).startswith(b"\x89PNG")


def test_stacked_numbers_stand_upon_one_another() -> None:
    """Each series begins where the one below it ends."""
    values = chart_spec(panel_of("bar"), answer(), FRAME)["data"]["values"]

    first, second = values[:2]
    assert (first["series"], first["y0"], first["y1"]) == ("one", 0, 7.25)
    assert (second["series"], second["y0"], second["y1"]) == ("two", 7.25, 14.5)


def test_a_series_without_a_number_at_a_time_is_zero_in_an_area() -> None:
    """So that the areas above it do not hang in the air."""
    found = QueryResult(answer().columns, [row for row in answer().rows if row[:2] != [TIMES[1], "one"]])
    values = chart_spec(panel_of("area"), found, FRAME)["data"]["values"]

    assert [one["y1"] for one in values if one["series"] == "one"] == [7.25, 0.0, 9.25]


def test_a_color_of_the_source_is_the_color_drawn() -> None:
    """By value in a breakdown, and by column."""
    breakdown = 'x = { column = "t", format = "date" }\ny = ["n"]\n[panel.breakdown]\ncolumn = "s"\n'
    (panel,) = board(f'chart = "bar"\n{breakdown}format = "text"\ncolors = {{ one = "bad" }}\n').panels
    (line,) = board('chart = "line"\nx = "s"\ny = [{ column = "n", color = "#123456" }, "m"]\n').panels
    assert isinstance(panel, QueryPanel)
    assert isinstance(line, QueryPanel)

    assert COLORS["bad"] in svg_of(panel, answer())
    assert "#123456" in svg_of(line, answer())
    shades = in_turn(["a", "b", "c"], {"b": "main"})
    assert shades["b"] == COLORS["main"]
    assert len(set(shades.values())) == 3


def test_panels_without_results_say_so() -> None:
    """No rows, and the null that a sum over no documents is."""
    metric = board('chart = "metric"\nvalue = "n"\n')
    line = board(PANELS["line"])
    nothing = QueryResult((("n", "double"),), [[None]])

    for dashboard, found in ((metric, nothing), (line, QueryResult(answer().columns, []))):
        drawn = picture(dashboard, {"p": found}, START, END)
        assert drawn.empty == ["p"]
        assert "no results" in drawn.svg
    (panel,) = metric.panels
    assert isinstance(panel, Metric)
    assert not is_empty(panel, QueryResult((("n", "double"),), [[0]]))


def test_a_refused_query_is_shown_in_its_panel() -> None:
    """With the search node's words; the other panels are drawn."""
    drawn = picture(board(PANELS["line"]), {"p": Failed("Unknown index <x>")}, START, END)

    assert drawn.failed == {"p": "Unknown index <x>"}
    assert "Unknown index &lt;x&gt;" in drawn.svg
    assert drawn.empty == []


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (Column("n"), 1234.6, "1,235"),
        (Column("n", decimals=2, suffix=" ms"), 0.126, "0.13 ms"),
        (Column("n", format="percent", decimals=1), 0.1234, "12.3%"),
        (Column("n", prefix="$"), -1234.0, "-$1,234"),
        (Column("n", prefix="$", compact=True), 1_234_567, "$1.2m"),
        (Column("n", format="bytes", decimals=1), 1_572_864, "1.5 MB"),
        (Column("n", format="bytes"), 12, "12 B"),
        (Column("n", format="date"), "2026-01-31T11:10:07.123Z", "Jan 31, 11:10:07"),
        (Column("n", format="text"), True, "true"),
        (Column("n", format="text"), ["a", "b"], "a, b"),
        (Column("n"), None, "-"),
    ],
)
def test_values_are_written_in_the_format_of_their_column(column: Column, value: Any, expected: str) -> None:
    """With unit, decimals and prefix."""
    assert shown(column, value) == expected


@given(st.text(), st.floats(20, 400))
def test_a_text_is_cut_to_its_room(text: str, room: float) -> None:
    """And broken into no more lines than are allowed, each of which fits."""
    assert width(cut(text, 11, room), 11) <= max(room, width("…", 11))
    broken = lines(text, 11, room, 2)
    assert len(broken) <= 2
    assert all(width(line, 11) <= max(room, width("…", 11)) or " " not in line for line in broken)


def test_a_table_says_how_many_rows_there_are() -> None:
    """Where not all of them have room."""
    (panel,) = board('chart = "table"\nshow = [{ column = "s", format = "text" }, "n"]\n').panels
    found = answer(*(f"row{at}" for at in range(9)))

    drawn = tiles.table(panel, found, 400, 120)  # type: ignore[arg-type]

    assert "row0" in drawn
    assert "row8" not in drawn
    assert "3 of 27 rows" in drawn


def test_documents_show_nested_and_flat_fields() -> None:
    """A field by its path, an object as JSON, and a dash for what is not there."""
    top = 'id = "x"\ntitle = "X"\ndescription = "X"\n[[panel]]\nid = "p"\ntitle = "T"\nat = [0, 0]\nsize = [48, 12]\n'
    dashboard = parse(top + 'chart = "search"\nindex = "i-*"\nfields = ["a.b", "a", "c.d", "e"]\n', "x")
    document = {"@timestamp": TIMES[0], "a": {"b": "<deep>"}, "c.d": 0.5}

    drawn = picture(dashboard, {"p": Documents([document], 1)}, START, END).svg

    assert "&lt;deep&gt;" in drawn
    assert '{"b":"&lt;deep&gt;"}' in drawn
    assert "0.5000" in drawn
    assert picture(dashboard, {"p": Documents([], 0)}, START, END).empty == ["p"]


def test_markdown_is_set_in_lines() -> None:
    """With bold and code, and a comma that stays with its word."""
    top = 'id = "x"\ntitle = "X"\ndescription = "X"\n[[panel]]\nid = "p"\ntitle = ""\nat = [0, 0]\nsize = [12, 8]\n'
    dashboard = parse(top + 'chart = "markdown"\ntext = "**Bold & more:** see `a < b`, then\\n\\nthe end."\n', "x")

    drawn = ElementTree.fromstring(picture(dashboard, {}, START, END).svg)

    texts = ["".join(one.itertext()) for one in drawn.iter(f"{{{compose.SVG}}}text")]
    assert "Bold & more: see a < b, then" in texts
    assert "the end." in texts


def test_a_picture_says_that_it_is_a_preview() -> None:
    """On every board, whose size follows from its panels."""
    for dashboard in load_all():
        wide, high = compose.size(dashboard)
        svg = compose.compose(dashboard, {}, START, END)
        assert compose.NOTE in svg
        assert (wide, high) == (1316, compose.HEAD + compose.MARGIN + 28 * _rows(dashboard) - 8)


def _rows(dashboard: Dashboard) -> int:
    return max(panel.at[1] + panel.size[1] for panel in dashboard.panels)


def test_ids_of_charts_do_not_meet() -> None:
    """Each chart's clip paths are its own."""
    drawn = svg_of(panel_of("line"), answer())

    both = [ElementTree.fromstring(compose.nested(drawn, prefix)) for prefix in ("a-", "b-")]

    ids = [[one.get("id") for one in root.iter() if one.get("id")] for root in both]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    used = [value for one in both[0].iter() for value in one.attrib.values() if value.startswith("url(#")]
    assert {value.removeprefix("url(#").rstrip(")") for value in used} <= set(ids[0])


def test_series_have_the_names_of_breakdown_and_column() -> None:
    """Of both, where there are several columns."""
    (panel,) = board('chart = "line"\nx = "t"\ny = ["n", { column = "m", label = "M" }]\nbreakdown = "s"\n').panels
    assert isinstance(panel, Line)

    assert [one.name for one in all_series(panel, answer())] == ["one - n", "one - M", "two - n", "two - M"]
    (pie,) = board(PANELS["pie"]).panels
    assert isinstance(pie, Pie)
    assert isinstance(pie, QueryPanel)
    slices = QueryResult(answer().columns, [[None, "one", 1.0, 0.0], [None, "two", 3.0, 0.0]])
    labels = {one["slice"] for one in chart_spec(pie, slices, FRAME)["data"]["values"]}
    assert labels == {"one  25.0%", "two  75.0%"}


def test_a_line_that_does_not_begin_at_zero_does_not_in_kibana_either() -> None:
    """The axis has the bounds of the data in both."""
    state = [
        lens_panel("x", panel_of(kind))["embeddableConfig"]["attributes"]["state"]["visualization"]
        for kind in ("line", "line by")
    ]

    assert "yLeftExtent" not in state[0]
    assert state[1]["yLeftExtent"] == {"mode": "dataBounds"}
    scales = [chart_spec(panel_of(kind), answer(), FRAME)["encoding"]["y"]["scale"] for kind in ("line", "line by")]
    assert [scale["zero"] for scale in scales] == [True, False]
