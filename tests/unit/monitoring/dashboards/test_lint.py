"""The checks of dashboards that need no search node."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.dashboards.esql import shape
from monitoring.dashboards.fields import Fields, mapped_fields
from monitoring.dashboards.lint import lint, span
from monitoring.dashboards.source import Control, Dashboard, QueryPanel, Search, load_all, parse

REPOSITORY = Path(__file__).parents[4]
QUERY = "FROM logs-* | WHERE @timestamp >= ?_tstart AND @timestamp < ?_tend | STATS n = COUNT(*) BY kind | LIMIT 10"
SOURCE = f"""
id = "mine"
title = "Mine"
description = "What it answers."
[[control]]
id = "kind"
title = "Kind"
index = "logs-*"
field = "kind"
[[panel]]
id = "kinds"
chart = "bar"
title = "Kinds"
at = [0, 0]
size = [24, 10]
esql = "{QUERY}"
x = "kind"
y = ["n"]
[[panel]]
id = "documents"
chart = "search"
title = "Documents"
at = [24, 0]
size = [24, 10]
index = "logs-*"
fields = ["kind", "parent", "bag.key"]
"""
FIELDS = {
    "logs-*": Fields(
        [
            {
                "properties": {
                    "@timestamp": {"type": "date"},
                    "kind": {"type": "keyword"},
                    "bag": {"type": "flattened"},
                    "parent": {"properties": {"child": {"type": "long"}}},
                    "answer": {"type": "object", "dynamic": True},
                }
            }
        ]
    )
}


def problems(*changes: tuple[str, str]) -> list[str]:
    """What is wrong after these replacements in a source that is right."""
    source = SOURCE
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return [f"{one.panel}: {one.message}" for one in lint([parse(source, "mine.toml")], FIELDS)]


def test_a_right_source_has_no_problems() -> None:
    """It is what the other tests change."""
    assert problems() == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("BY kind", "BY kind, kin", "kinds: query: logs-* has no field kin that a query can read"),
        ("BY kind", "BY kind, bag", "kinds: query: logs-* has no field bag that a query can read"),
        ("COUNT(*)", "COUNT(bag.key)", "kinds: query: logs-* has no field bag.key that a query can read"),
        ("FROM logs-*", "FROM metrics-*", "kinds: query: no template matches metrics-*; the patterns are logs-*"),
        ("n = COUNT", "m = COUNT", "kinds: the query returns no column n; it returns kind, m"),
        (" | LIMIT 10", "", "kinds: query: has no LIMIT, so Elasticsearch silently truncates it at 1,000 rows"),
        (
            " AND @timestamp < ?_tend",
            "",
            "kinds: query: is not limited to the dashboard's time range, ?_tend is missing",
        ),
        ("STATS n = COUNT(*) BY kind | ", "", "kinds: query: returns all fields of the index; select columns"),
        ("LIMIT 10", "LIMIT 10 | FORK", "kinds: query: unsupported command FORK"),
        ("size = [24, 10]\nesql", "size = [40, 10]\nesql", "documents: it overlaps the panel kinds"),
        ("at = [24, 0]", "at = [30, 0]", "documents: it ends at column 54 of 48"),
        ('id = "documents"', 'id = "kinds"', "kinds: duplicate id"),
        ('["kind", "parent"', '["kin", "parent"', "documents: logs-* has no field kin"),
        ('index = "logs-*"\nfields', 'index = "log-*"\nfields', "documents: no template matches log-*"),
        ('field = "kind"', 'field = "bag"', ": control kind: logs-* has no field bag"),
        ('index = "logs-*"\nfield =', 'index = "a-*"\nfield =', ": control kind: no template matches a-*"),
        ('["n"]', '[{ column = "n", color = "pinkish" }]', "kinds: unknown color pinkish; the colors are good"),
        (
            '["n"]',
            '[{ column = "n", thresholds = [{ value = 1, color = "bad" }, { value = 0, color = "good" }] }]',
            "kinds: the thresholds of n are not ascending",
        ),
        (
            'x = "kind"',
            'x = { column = "kind", thresholds = [{ value = 1, color = "bad" }] }',
            "kinds: kind has thresholds but is not a number",
        ),
        (
            "BY kind |",
            "BY kind, t = BUCKET(@timestamp, 1 hour) |",
            "kinds: query: do not rename BUCKET; name the column by its full expression",
        ),
        (
            "COUNT(*)",
            "SUM(CASE(kind == 1, 1, 0))",
            "kinds: query: SUM(CASE()) is null where nothing matches, and shown as -; COUNT(*) WHERE is 0",
        ),
    ],
)
def test_a_problem_is_named(old: str, new: str, expected: str) -> None:
    """With its panel and with what would be right."""
    found = problems((old, new))

    assert len(found) >= 1
    assert found[-1].startswith(expected)


BUCKET = "BUCKET(@timestamp, 60, ?_tstart, ?_tend)"
WHOLE = (
    "EVAL range_end = TO_DATETIME(?_tend) "
    f"| STATS n = COUNT(*) BY {BUCKET}, unfinished = BUCKET(range_end, 60, ?_tstart, ?_tend) "
    f"| WHERE `{BUCKET}` >= ?_tstart AND `{BUCKET}` < unfinished"
)


@pytest.mark.parametrize(
    ("query", "is_whole"),
    [
        (WHOLE, True),
        (f"STATS n = COUNT(*) BY {BUCKET}", False),
        (WHOLE.replace(" >= ?_tstart AND", " < ?_tend AND"), False),
        (WHOLE.replace("` < unfinished", "` <= unfinished"), False),
        (WHOLE.replace("BUCKET(range_end, 60", "BUCKET(range_end, 30"), False),
        (WHOLE.replace("TO_DATETIME(?_tend)", "TO_DATETIME(?_tstart)"), False),
    ],
)
def test_buckets_of_time_have_to_be_whole(query: str, is_whole: bool) -> None:
    """The first and the last one of a range are cut off by its ends."""
    changes = (("STATS n = COUNT(*) BY kind", query), ('x = "kind"', f'x = "{BUCKET}"'))

    assert [one.startswith("kinds: query: shows buckets that are not whole") for one in problems(*changes)] == (
        [] if is_whole else [True]
    )


def test_a_heatmap_shows_its_newest_cell() -> None:
    """It holds the greatest value, which is right however much of the time has passed."""
    heatmap = ('chart = "bar"', 'chart = "heatmap"'), ('y = ["n"]', 'y = "kind"\nvalue = "n"')
    query = ("BY kind", f"BY kind, {BUCKET}"), ('x = "kind"', f'x = "{BUCKET}"')

    assert problems(*heatmap, *query) == []


def test_kql_searches_keys_of_flattened_fields() -> None:
    """Which no query can read."""
    kql = "COUNT(*) WHERE KQL('''bag.key: 3 and {field}: 1''')".replace("'''", '\\"')

    assert problems(("COUNT(*)", kql.format(field="answer.price"))) == []
    assert problems(("COUNT(*)", kql.format(field="kin"))) == [
        "kinds: query: logs-* has no field kin that KQL can search"
    ]


def test_two_dashboards_may_not_have_one_id() -> None:
    """The second would overwrite the first."""
    dashboard = parse(SOURCE, "mine.toml")

    assert [str(one) for one in lint([dashboard, dashboard], FIELDS)] == ["mine: duplicate id"]


def test_a_dashboards_time_range_has_a_length() -> None:
    """With what rounding down to a day may add."""
    assert span("now-15m") == timedelta(minutes=15)
    assert span("now-7d") == timedelta(days=7)
    assert span("now-1d/d") == timedelta(days=2)


def test_the_products_own_dashboards_are_right() -> None:
    """All of them, against the templates that the indexer puts."""
    assert [str(one) for one in lint(load_all(), mapped_fields())] == []


def used_fields(dashboard: Dashboard) -> set[tuple[str, str]]:
    """Pattern and field of everything that the dashboard reads."""
    found = {(control.index, control.field) for control in dashboard.controls}
    for panel in dashboard.panels:
        if isinstance(panel, Search):
            found |= {(panel.index, name) for name in panel.fields}
        elif isinstance(panel, QueryPanel):
            read = shape(panel.esql)
            found |= {(read.pattern, name) for name in read.fields | read.kql_fields}
    return found


def test_every_field_is_on_a_dashboard_or_documented() -> None:
    """What is fed and nobody can find out about is a mistake."""
    used = set[tuple[str, str]]().union(*map(used_fields, load_all()))
    documented = (REPOSITORY / "docs" / "elasticsearch.md").read_text()
    fields = [(pattern, name) for pattern, known in mapped_fields().items() for name in known.types]

    unknown = [
        f"{pattern} {name}" for pattern, name in fields if (pattern, name) not in used and f"`{name}`" not in documented
    ]
    assert len(fields) > 60
    assert unknown == []


def test_problems_are_for_machines_too() -> None:
    """As JSON with the fields of the Struct."""
    (problem,) = lint([parse(SOURCE.replace("BY kind", "BY kind, kin"), "mine.toml")], FIELDS)
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(problem))

    assert (decoded["dashboard"], decoded["panel"]) == ("mine", "kinds")


def test_a_control_has_an_index_and_a_field() -> None:
    """As the source says."""
    assert parse(SOURCE, "f").controls == (Control("kind", "Kind", "logs-*", "kind"),)
