"""Cutting fetched records into slices."""

from collections import defaultdict

from confluent_kafka import Message
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream_app.faust_adapter.schema import BatchSchema
from stream_app.serving.batch import RECORD_OVERHEAD_BYTES, cut

TPS = st.builds(TP, st.sampled_from(["requests", "others"]), st.integers(0, 2))


def record(tp: TP, offset: int, size: int) -> Message:
    return Message(topic=tp.topic, partition=tp.partition, offset=offset, key=b"", value=b"x" * size)


@st.composite
def fetched(draw: st.DrawFn) -> list[Message]:
    """Records of several partitions mixed, each partition's in offset order and with holes."""
    position: dict[TP, int] = defaultdict(int)
    messages = []
    for tp, hole, size in draw(st.lists(st.tuples(TPS, st.integers(0, 3), st.integers(0, 600)), max_size=60)):
        offset = position[tp] + hole
        position[tp] = offset + 1
        messages.append(record(tp, offset, size))
    return messages


@given(fetched(), st.integers(1, 3_000))
def test_slices_are_ordered_contiguous_bounded_and_complete(messages: list[Message], limit: int) -> None:
    """Whatever was fetched: each record is in exactly one slice, and a partition's slices follow one another."""
    slices = cut(messages, limit)
    by_partition: dict[TP, list[Message]] = defaultdict(list)
    reached: dict[TP, int] = defaultdict(int)
    for slice_ in slices:
        assert slice_.records
        assert {TP(found.topic(), found.partition()) for found in slice_.records} == {slice_.tp}
        assert slice_.first == slice_.records[0].offset() >= reached[slice_.tp]
        assert slice_.next_offset == slice_.records[-1].offset() + 1
        assert slice_.size == sum(len(found) + RECORD_OVERHEAD_BYTES for found in slice_.records)
        assert slice_.size <= limit or len(slice_.records) == 1
        reached[slice_.tp] = slice_.next_offset
        by_partition[slice_.tp] += slice_.records
    expected: dict[TP, list[Message]] = defaultdict(list)
    for message in messages:
        expected[TP(message.topic(), message.partition())].append(message)
    assert by_partition == expected


def test_a_slice_is_cut_only_where_it_has_to_be() -> None:
    """As few slices as the limit allows."""
    tp = TP("requests", 0)
    messages = [record(tp, offset, 100) for offset in range(10)]
    assert [len(slice_.records) for slice_ in cut(messages, 3 * (100 + RECORD_OVERHEAD_BYTES))] == [3, 3, 3, 1]


@given(st.integers(2, 50), st.data())
def test_a_split_slice_is_the_same_in_two_parts(count: int, data: st.DataObject) -> None:
    """Also over offsets that the log no longer holds."""
    tp = TP("requests", 0)
    (whole,) = cut([record(tp, 3 * number, number) for number in range(count)], 1_000_000)
    records = data.draw(st.integers(1, count - 1))
    first, rest = whole.split(records)
    assert (first.tp, first.first, rest.tp, rest.next_offset) == (tp, whole.first, tp, whole.next_offset)
    assert (len(first.records), first.records + rest.records) == (records, whole.records)
    assert first.next_offset == first.records[-1].offset() + 1 <= rest.first == rest.records[0].offset()
    assert first.size + rest.size == whole.size
    assert min(first.size, rest.size) > 0


def test_faust_hands_a_slice_on_as_it_is() -> None:
    """No decoding before our code: Faust acknowledges what it can't decode."""
    slice_ = cut([record(TP("requests", 0), 5, 1)], 1_000)[0]

    class Received:
        value = slice_

    schema = BatchSchema()
    assert schema.loads_value(None, Received) is slice_
    assert schema.loads_key(None, Received) is None
