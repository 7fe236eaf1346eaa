"""Messages of the decoder: what is told of them, and that a hostile record costs no more than its length."""

from time import process_time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core.validation import parse_decoder_message, redact_decoder_message
from machine_learning_engineering.events.schemas import decode_label, decode_log, decode_model_event

LABEL = {"request_id": "r", "model": "m", "label": 1, "observed_at": "2026-01-01T00:00:00Z"}
DECODERS = (decode_label, decode_log, decode_model_event)
# What the messages of the decoder are made of.
PIECES = st.sampled_from(
    [
        "value '",
        "'",
        "`",
        " - at `$",
        " - at `$.",
        "field `",
        "Object contains unknown field `",
        ".",
        "[",
        "[0]",
        "a secret",
    ]
)


def _error(document: dict[str, object], decode: object = decode_label) -> msgspec.ValidationError:
    with pytest.raises(msgspec.ValidationError) as raised:
        decode(msgspec.json.encode(document))  # type: ignore[operator]
    return raised.value


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**LABEL, "colour": 1}, "Object contains unknown field `colour`"),
        ({**LABEL, "Jane Doe": 1}, "Object contains unknown field `…`"),
        ({**LABEL, "a` - at `$.Jane Doe": 1}, "Object contains unknown field `a` - at `$.…`"),
        ({**LABEL, "a`b` - at `$.Jane": 1}, "Object contains unknown field `….…`"),
        ({**LABEL, "model": 3}, "Expected `str`, got `int` - at `$.model`"),
        ({"request_id": "r"}, "Object missing required field `model`"),
        ({"type": "secret", **LABEL}, "Invalid value - at `$.type`"),
        ({"type": "x' - at `$.secret`", **LABEL}, "Invalid value - at `$.type`"),
    ],
)
def test_a_message_quotes_no_value(document: dict[str, object], message: str) -> None:
    """Neither a value nor a name that may be one, wherever it stands."""
    assert redact_decoder_message(_error(document)) == message


@given(st.lists(PIECES, min_size=1, max_size=4), st.sampled_from(["name", "type", "observed_at"]))
def test_the_cost_is_linear(pieces: list[str], where: str) -> None:
    """A megabyte of whatever the patterns look for takes no longer than its length explains."""
    text = "".join(pieces)
    text *= 1_000_000 // len(text)
    error = _error({**LABEL, text: 1} if where == "name" else {**LABEL, where: text})
    began = process_time()
    redacted = redact_decoder_message(error)
    parse_decoder_message(error)
    assert process_time() - began < 0.5
    assert len(redacted) < 5_000
    assert "secret" not in redacted


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_message_can_be_redacted(document: object) -> None:
    """Whatever a record holds, and whoever reads it."""
    for decode in DECODERS:
        try:
            decode(msgspec.json.encode(document))
        except msgspec.ValidationError as error:
            redacted = redact_decoder_message(error)
        else:
            continue
        assert redacted
