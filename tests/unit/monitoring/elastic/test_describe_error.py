"""What a dead letter says of a document that Elasticsearch refused: the kind of error and the field, and no value."""

from typing import Any

import pytest

from monitoring.elastic.bulk import describe_error

CANARY = "CANARY 7f3a"
PREFIX = str(list(CANARY.encode()))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            {
                "type": "document_parsing_exception",
                "reason": "[1:350] failed to parse field [inflight.prediction.price] of type [double] in document "
                f"with id 'r1'. Preview of field's value: '{CANARY}'",
                "caused_by": {"type": "number_format_exception", "reason": f'For input string: "{CANARY}"'},
            },
            "document_parsing_exception; field inflight.prediction.price; number_format_exception",
        ),
        (
            {
                "type": "illegal_argument_exception",
                "reason": 'Document contains at least one immense term in field="inflight.label" (whose encoding '
                f"is longer than the max length 32766). The prefix of the first immense term is: '{PREFIX}...'",
            },
            "illegal_argument_exception; field inflight.label",
        ),
        (
            {
                "type": "document_parsing_exception",
                "reason": "[1:2] object mapping for [inflight.prediction] tried to parse field [prediction] as "
                "object, but found a concrete value",
            },
            "document_parsing_exception; field inflight.prediction",
        ),
        (
            {
                "type": "illegal_argument_exception",
                "reason": "Limit of total fields [1000] has been exceeded while adding new fields [1]",
            },
            "illegal_argument_exception; Limit of total fields [1000] has been exceeded",
        ),
        ({"type": "x", "reason": f"failed to parse field [{CANARY}]: Unexpected character in {CANARY}"}, "x; field …"),
        ({"type": "parse_exception", "reason": None, "caused_by": CANARY}, "parse_exception"),
    ],
)
def test_only_the_kind_of_error_and_the_field_are_told(error: dict[str, Any], told: str) -> None:
    """Elasticsearch quotes values, their first bytes and whole lines, in words of its own for each error."""
    found = describe_error(error)
    assert found == f"Elasticsearch rejected the document: {told}"
    assert CANARY not in found
    assert PREFIX not in found


@pytest.mark.parametrize("error", [None, CANARY, [CANARY]])
def test_an_answer_without_words_is_told_all_the_same(error: Any) -> None:
    """A proxy may answer anything."""
    assert describe_error(error) == "Elasticsearch rejected the document"
