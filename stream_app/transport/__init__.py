"""Kafka under Faust, in slices: one Faust event carries a contiguous run of one partition's records.

librdkafka fetches and publishes; Faust keeps its consumer interface, its agents and its rebalancing. The unit of
acknowledgement is a slice, so what may be committed is simple to state: nothing at or above the lowest slice that is
not finished. Why Faust's own drivers are not used is in ``docs/decisions/0002-faust-in-slices.md``.
"""

from stream_app.transport.offsets import OffsetTracker
from stream_app.transport.slices import Slice, SliceSchema

__all__ = ["OffsetTracker", "Slice", "SliceSchema"]
