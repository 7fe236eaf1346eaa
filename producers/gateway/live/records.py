"""Records of the topics as events of a live stream, and what can be missing between them. Pure."""

from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from producers.gateway.live.positions import Place, Positions, StreamName, event_id

EVENT_NAMES: dict[StreamName, str] = {"results": "result", "measurements": "measurement", "events": "model_event"}


class Record(NamedTuple):
    """A record of a topic. `text` is its event without the id; empty if it is none of ours, or has nothing to show."""

    place: Place
    offset: int
    model: str
    text: bytes


class Gap(NamedTuple):
    """Events that a stream leaves out.

    Of the reasons, `overflow` means that the client was too slow: it can ask for the events from `resume_from` on. With
    `retention` they are deleted, and with `reset` the topic was created anew. `offsets` is how many offsets are left
    out: at least as many as records.
    """

    reason: Literal["overflow", "retention", "reset"]
    offsets: int
    resume_from: Positions | None = None


class _View(Struct):
    model: str
    type: str


_decode = msgspec.json.Decoder(_View).decode


def record(place: Place, offset: int, value: bytes | None) -> Record:
    """A record of a topic, with the text of its event."""
    try:
        view = _decode(value or b"")
        line = value or b""
        if _breaks(line):
            line = msgspec.json.format(line, indent=-1)
        line.decode()
    except (ValueError, RecursionError):
        return Record(place, offset, "", b"")
    if _breaks(line):
        return Record(place, offset, "", b"")
    return Record(place, offset, view.model, f"event: {EVENT_NAMES[place.stream]}\ndata: ".encode() + line + b"\n\n")


def _breaks(line: bytes) -> bool:
    """Whether there is a line break, which would end the event's data."""
    return b"\n" in line or b"\r" in line


def shown(found: Record, positions: Positions) -> bytes:
    """The event of a record. `positions` are those behind it."""
    return b"id: %b\n%b" % (event_id(positions).encode(), found.text)


def shown_gap(gap: Gap, positions: Positions) -> bytes:
    """A gap as an event. `positions` are those behind it."""
    content: dict[str, object] = {"reason": gap.reason, "offsets": gap.offsets}
    if gap.resume_from is not None:
        content["resume_from"] = event_id(gap.resume_from)
    data = msgspec.json.encode(content)
    return b"id: %b\nevent: gap\ndata: %b\n\n" % (event_id(positions).encode(), data)


def shown_ping(positions: Positions) -> bytes:
    """A comment that keeps the connection open. With the id, a client resumes behind what was not for it."""
    return b": ping\nid: %b\n\n" % event_id(positions).encode()
