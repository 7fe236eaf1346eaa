"""What can be told of an ES|QL query without running it."""

import pytest

from monitoring.dashboards.esql import UnreadableQuery, shape

QUERY = """
FROM inference-logs-*
| WHERE @timestamp >= ?_tstart AND @timestamp < ?_tend AND inflight.model.name == "diamonds | x"
| EVAL off = ABS(inflight.prediction.price - TO_DOUBLE(inflight.label)) / 2.5e1, cheap = CASE(off IS NULL, 1, 0)
| STATS n = COUNT(*), AVG(off), ideal = MAX(off) WHERE KQL("inflight.features.cut: \\"Very Good\\" and a.b > 3")
    BY BUCKET(@timestamp, 60, ?_tstart, ?_tend), event.outcome, d = DATE_TRUNC(1 hour, @timestamp)
| SORT n DESC NULLS LAST
| LIMIT 10
"""


def test_columns_are_those_of_the_last_command_that_makes_them() -> None:
    """A name given with =, or the whole text of the expression."""
    assert shape(QUERY).columns == {
        "n",
        "AVG(off)",
        "ideal",
        "BUCKET(@timestamp, 60, ?_tstart, ?_tend)",
        "event.outcome",
        "d",
    }


def test_fields_are_those_of_the_index_and_not_what_the_query_makes() -> None:
    """Neither words of the language, nor functions, nor what stands in a text; KQL's are apart."""
    found = shape(QUERY)

    assert found.pattern == "inference-logs-*"
    assert found.fields == {
        "@timestamp",
        "inflight.model.name",
        "inflight.prediction.price",
        "inflight.label",
        "event.outcome",
    }
    assert found.kql_fields == {"inflight.features.cut", "a.b"}
    assert found.limited
    assert not found.aliased_bucket


def test_keep_narrows_and_eval_widens() -> None:
    """In the order in which they stand."""
    found = shape("FROM a | KEEP x, y.z | EVAL w = x + 1 | MV_EXPAND x")

    assert found.columns == {"x", "y.z", "w"}
    assert found.fields == {"x", "y.z"}
    assert not found.limited


def test_a_query_that_names_no_columns_gives_all_fields() -> None:
    """Which is no list of columns."""
    assert shape("from a | where b > 1").columns is None


def test_a_renamed_bucket_of_time_is_noticed() -> None:
    """Of time only: a bucket of a number may have a name."""
    assert shape("FROM a | STATS n = COUNT(*) BY t = BUCKET(@timestamp, 1 hour)").aliased_bucket
    assert not shape("FROM a | STATS n = COUNT(*) BY t = BUCKET(price, 100)").aliased_bucket


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ROW a = 1", "FROM"),
        ("FROM a | STATS n = COUNT(*) | SORT m", "the column m was dropped; the columns are n"),
        ("FROM a | KEEP b | EVAL c = d", "the column d was dropped; the columns are b"),
        ("FROM a | INLINESTATS n = COUNT(*)", "unsupported command INLINESTATS"),
        ("FROM a | ENRICH policy", "unsupported command ENRICH"),
        ("FROM a | | LIMIT 1", "an empty command"),
        ("FROM a | EVAL b = 1,, c = 2", "nothing between two commas"),
        ('FROM a | EVAL b = "open', "unsupported syntax at '\"open'"),
        ("FROM a | EVAL b = c; d", "unsupported syntax at '; d'"),
    ],
)
def test_what_it_cannot_follow_is_an_error(query: str, expected: str) -> None:
    """So nothing passes unread."""
    with pytest.raises(UnreadableQuery, match=expected):
        shape(query)
