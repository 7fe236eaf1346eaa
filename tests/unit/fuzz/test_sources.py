"""Records of existing topics, from bytes to one outcome; and declarations, from text to a mapping or one message."""

import io
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import fastavro
import hypothesis
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.declaration.framed import AvroDecoder
from machine_learning_engineering.declaration.mapping import SourceMapping, UnmappedRecord
from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration
from machine_learning_engineering.declaration.schema_registry import SchemaRegistry, SchemaRegistryAway
from machine_learning_engineering.events.schemas import decode_log, decode_result
from machine_learning_engineering.events.sources import source_of
from monitoring.runtime.sources import Source
from stream_app.serving.bindings import Binding
from stream_app.serving.outcomes import OutputTopics
from stream_app.serving.scorer import Scorer
from tests.support import fuzz_corpus as corpus
from tests.support.bound import source_batch, source_record
from tests.support.fuzzing import SECRET, bounded, check_message, dose, mutated
from tests.unit.fuzz.test_requests import REASONS, headers, keys, timestamps

_K = "mle_package/machine_learning_engineering/"
DOORS = (
    _K + "declaration/fields.py:EventFields.__init__",
    _K + "declaration/fields.py:EventFields.read_slowly",
    _K + "declaration/fields.py:EventFields.unknown",
    _K + "declaration/mapping.py:_decode",
    _K + "declaration/mapping.py:_decode_time",
    _K + "declaration/tables.py:parse",
    "stream_app/serving/bindings.py:Binding._check_field",
    "monitoring/runtime/sources.py:_decode_fields",
    _K + "declaration/framed.py:_decode_schema",
    _K + "declaration/schema_registry.py:_decode",
    _K + "declaration/request_ids.py:_decode",
)
DECLARATION = b"""
[model]
name = "houses"
answer = { price = "predict" }
[source]
topic = "orders"
request_id = "order.id@n"
requested_at = "ts"
[features]
area = { from = "house.area", type = "float", numbers_as_text = true }
rooms = { from = "house.rooms", type = "int", default = 3 }
[result]
topic = "scores"
include = ["order.id", "owner"]
"""
EVENTS = (
    b'{"order":{"id":"a1"},"n":7,"ts":"2026-01-02T03:04:05Z","owner":"' + SECRET.encode() + b'",'
    b'"house":{"area":81.5,"rooms":3.0},"more":[{"x":1}]}',
    b'{"house":{"rooms":null,"area":"81.50"},"order":{"id":5},"n":0,"ts":1767322000123,"owner":null}',
)
TOPICS = OutputTopics("results", "logs", "dead-letters")
MAX_BYTES = 100_000


def outcome(value: bytes | None, *, enriched: bool = False, **record: Any) -> None:
    """Score one record; check that it has one outcome, which every reader can read, and that nothing is quoted."""
    form = b'form = "enriched"\ninclude' if enriched else b"include"
    declared = DECLARATION.replace(b"include", form)
    binding = Binding(parse_declaration(declared), "results")
    scorer = Scorer({"houses": corpus.fitted()}, TOPICS, max_request_bytes=MAX_BYTES, bindings={"orders": binding})
    with bounded(len(value or b"")):
        [scored] = scorer.score([source_batch([source_record(value, **record)])])
    if value is None:
        assert (scored.tombstones, scored.completed, scored.failed, scored.dead_letters) == (1, 0, 0, 0)
        return
    assert scored.completed + scored.failed + scored.dead_letters == 1
    for letter in scored.outputs["dead-letters"]:
        origin = read_origin(letter[2])
        assert origin.reason in REASONS
        check_message(origin.message)
        return
    [(_, made, _)] = scored.outputs["scores"]
    found = msgspec.json.decode(made)
    if enriched:
        assert (made or b"").startswith(value.rstrip()[:-1])
        found = found["prediction"]
    result = decode_result(msgspec.json.encode(found))
    assert decode_result(Source(parse_declaration(declared)).result_of(made or b"")) == result
    [(_, logged, _)] = scored.outputs["logs"]
    log = decode_log(logged or b"")
    assert log.request_id == result.request_id
    assert log.topic == "orders"
    if log.error is not msgspec.UNSET:
        check_message(log.error.message)


@dose(60)
@given(value=mutated(EVENTS), enriched=st.booleans())
@hypothesis.example(value=b'{"order":{"id":"a"},"n":1,"house":[]}', enriched=True)
@hypothesis.example(value=b"\0\0\0\0\7" + EVENTS[0], enriched=False)
def test_an_event_has_one_outcome(value: bytes, enriched: bool) -> None:
    outcome(value, enriched=enriched)


@dose(20)
@given(value=st.none() | mutated(EVENTS, most=1), key=keys, headers=headers, timestamp=timestamps)
def test_a_whole_record_has_one_outcome(value: Any, key: Any, headers: Any, timestamp: Any) -> None:
    outcome(value, key=key, headers=headers, timestamp=timestamp)


@dose(60)
@given(text=mutated([DECLARATION]))
def test_a_declaration_is_a_mapping_or_one_message(text: bytes) -> None:
    try:
        mapping = SourceMapping(parse_declaration(text))
    except InvalidDeclaration as error:
        assert str(error)
    else:
        assert mapping.unknown_fields(EVENTS[0]) is not None


AVRO = {
    "type": "record",
    "name": "o",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "area", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]},
    ],
}


class OneSchema(SchemaRegistry):
    """A registry that answers with the same bytes for every id."""

    def __init__(self, body: bytes) -> None:
        super().__init__("http://registry")
        answer = SimpleNamespace(status=200, read=lambda _size: body, release_conn=lambda: None)
        self._http = SimpleNamespace(request=lambda *_, **__: answer)  # type: ignore[assignment]


def avro(row: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(AVRO), row)
    return b"\0\0\0\0\7" + stream.getvalue()


ANSWER = msgspec.json.encode({"schema": msgspec.json.encode(AVRO).decode()})
ROWS = [avro({"id": SECRET, "tags": ["a", "bc"], "area": Decimal("81.50")}), avro({"id": "", "tags": [], "area": None})]


@dose(60)
@given(value=mutated(ROWS), answer=st.just(ANSWER) | mutated([ANSWER]))
def test_avro_is_json_or_one_message(value: bytes, answer: bytes) -> None:
    decode = AvroDecoder(OneSchema(answer), parse_declaration(DECLARATION))
    try:
        with bounded(len(value) + len(answer)):
            made = decode(value)
    except UnmappedRecord as error:
        assert error.reason in ("not_framed", "not_avro", "unknown_schema")
        check_message(str(error))
    except SchemaRegistryAway as error:
        assert answer != ANSWER
        check_message(str(error))
    else:
        msgspec.json.decode(made)


@dose(40)
@given(value=mutated([b"orders/3/17", b"a.b-c_d/0/999999999999999999"]))
def test_a_header_names_a_place_or_nothing(value: bytes) -> None:
    place = source_of([("other", b"x/1/2"), ("inflight_source", value)])
    assert place is None or place.topic.encode() == value.split(b"/")[0]
