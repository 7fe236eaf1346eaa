"""Sources of dashboards: what they may say, and how errors name the file and the panel."""

from pathlib import Path

import pytest

from monitoring.dashboards.source import Bar, Heatmap, InvalidDashboard, Line, Metric, Threshold, load_all, parse

TOP = 'id = "mine"\ntitle = "Mine"\ndescription = "What it answers."\n'
METRIC = """
[[panel]]
id = "count"
chart = "metric"
title = "Requests"
at = [0, 0]
size = [12, 6]
esql = "FROM inference-logs-* | STATS n = COUNT(*)"
value = "n"
"""


def panel(chart: str, *lines: str) -> str:
    """A panel of this chart with these lines; all else is fine."""
    head = ["", "[[panel]]", 'id = "p"', f'chart = "{chart}"', 'title = "P"', "at = [0, 0]", "size = [12, 6]"]
    return "\n".join([*head, 'esql = "FROM a"', *lines, ""])


def test_a_column_may_be_its_name_alone() -> None:
    """A value then is a number under its own name."""
    (found,) = parse(TOP + METRIC, "mine.toml").panels

    assert isinstance(found, Metric)
    assert (found.value.column, found.value.title, found.value.format) == ("n", "n", "number")


def test_x_is_a_date_where_it_is_a_bucket_of_time() -> None:
    """And a text elsewhere, as a breakdown is; what a source says itself stays."""
    time, name, number = (
        parse(TOP + panel("line", f"x = {x}", 'y = ["a"]', 'breakdown = "b"'), "f").panels[0]
        for x in ('"BUCKET(@timestamp, 60, ?_tstart, ?_tend)"', '"cut"', '{ column = "c", format = "number" }')
    )

    assert isinstance(time, Line)
    assert isinstance(name, Line)
    assert isinstance(number, Line)
    assert [one.x.format for one in (time, name, number)] == ["date", "text", "number"]
    assert time.breakdown is not None
    assert time.breakdown.format == "text"
    assert [column.column for column in name.columns] == ["cut", "a", "b"]


def test_rows_of_a_heatmap_are_names() -> None:
    """In a heatmap y is no number."""
    (found,) = parse(TOP + panel("heatmap", 'x = "a"', 'y = "b"', 'value = "c"'), "f").panels

    assert isinstance(found, Heatmap)
    assert (found.y.format, found.value.format) == ("text", "number")


def test_thresholds_and_colors_are_read() -> None:
    """As a list of values, and as a table from value to color."""
    text = panel("bar", 'x = "a"', 'y = [{ column = "n", thresholds = [{ value = 0, color = "good" }] }]')
    (found,) = parse(TOP + text + 'breakdown = { column = "b", colors = { x = "bad" } }\n', "f").panels

    assert isinstance(found, Bar)
    assert found.y[0].thresholds == (Threshold(0, "good"),)
    assert found.breakdown is not None
    assert found.breakdown.colors == {"x": "bad"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id = ", "mine.toml: Invalid value"),
        (TOP, r"mine.toml: .*length >= 1 - at `\$.panel`"),
        (METRIC, "mine.toml: Object missing required field"),
        (TOP + "colour = 1\n" + METRIC, "mine.toml: .*unknown field `colour`"),
        (TOP.replace('"mine"', '"My board"') + METRIC, r"mine.toml: .*\$\.id"),
        (TOP + 'since = "yesterday"\n' + METRIC, r"mine.toml: .*\$\.since"),
        (TOP + "panel = 7", r"mine.toml: write each panel as a \[\[panel\]\]"),
        (TOP + METRIC.replace('"metric"', '"gauge"'), "mine.toml: panel 'count': Invalid value 'gauge'"),
        (TOP + METRIC.replace('value = "n"', ""), "mine.toml: panel 'count': .*missing required field `value`"),
        (TOP + METRIC.replace('id = "count"', ""), "mine.toml: panel 1: .*missing required field `id`"),
        (TOP + METRIC.replace('"n"', "3"), r"mine.toml: panel 'count': .*`object`, got `int` - at `\$.value`"),
        (TOP + METRIC.replace("[12, 6]", "[49, 6]"), r"mine.toml: panel 'count': .*<= 48 - at `\$.size\[0\]`"),
        (TOP + METRIC + "colour = 3\n", "mine.toml: panel 'count': .*unknown field `colour`"),
        (
            TOP + METRIC.replace('"n"', '{ column = "n", prefix = "EUR" }'),
            r"mine.toml: panel 'count': .*\$.value.prefix",
        ),
    ],
)
def test_an_error_names_file_and_panel(text: str, expected: str) -> None:
    """Whatever is wrong: syntax, a field that is missing, misspelt or out of its range."""
    with pytest.raises(InvalidDashboard, match=expected):
        parse(text, "mine.toml")


def test_another_encoding_is_an_error_of_the_file(tmp_path: Path) -> None:
    """With its name and what to do."""
    (tmp_path / "mine.toml").write_bytes(b'id = "\xff"')
    with pytest.raises(InvalidDashboard, match=r"mine.toml: .*save it as UTF-8"):
        load_all(tmp_path)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    """Only its TOML files."""
    for name in ("b", "a"):
        (tmp_path / f"{name}.toml").write_text(TOP.replace("mine", name) + METRIC)
    (tmp_path / "notes.txt").write_text("not a dashboard")

    assert [dashboard.id for dashboard in load_all(tmp_path)] == ["a", "b"]


def test_what_comes_along_is_readable() -> None:
    """The product's own dashboards: one for each question, each panel with a description of what to read from it."""
    dashboards = load_all()

    assert {dashboard.id.removeprefix("inflight-") for dashboard in dashboards} == {
        "serving",
        "requests",
        "drift",
        "dead-letters",
        "model-events",
        "rollouts",
        "diamonds",
        "titanic",
        "reviews",
    }
    for dashboard in dashboards:
        for one in dashboard.panels:
            assert one.description or one.id in ("boards", "how-to"), f"{dashboard.id}/{one.id}"
