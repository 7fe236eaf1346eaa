"""Positions of a live stream: the next offset of every partition, as the id of an event says them. Pure."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from machine_learning_engineering.events.topics import MEASUREMENTS, MODEL_EVENTS, RESULTS

StreamName = Literal["results", "measurements", "events"]
NAMES: tuple[StreamName, ...] = get_args(StreamName)
TOPICS: dict[StreamName, str] = {"results": RESULTS, "measurements": MEASUREMENTS, "events": MODEL_EVENTS}
"""The topic of each stream, without the deployment's prefix."""
_LETTERS: dict[StreamName, str] = {"results": "r", "measurements": "m", "events": "e"}
_BY_LETTER = {letter: name for name, letter in _LETTERS.items()}
_PART = re.compile(r"([rme])(0|[1-9]\d{0,5}):(0|[1-9]\d{0,17})")
MAX_ID_CHARACTERS = 64 * 1024


class Place(NamedTuple):
    """A partition of the topic of a stream."""

    stream: StreamName
    partition: int


Positions = dict[Place, int]
"""The next offset to read, by place."""


def event_id(positions: Mapping[Place, int]) -> str:
    """Positions as the id of an event, such as ``r0:17,r1:4,e0:2``."""
    return ",".join(f"{_LETTERS[place.stream]}{place.partition}:{offset}" for place, offset in positions.items())


def read_event_id(text: str) -> Positions:
    """The positions that an id says.

    Raises:
        ValueError: it is none of ours.
    """
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError("an id of an event is not so long")
    found: Positions = {}
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError("not the id of an event of these streams, such as r0:17,r1:4")
        place = Place(_BY_LETTER[match[1]], int(match[2]))
        if place in found:
            raise ValueError("a partition is there twice")
        found[place] = int(match[3])
    return found
