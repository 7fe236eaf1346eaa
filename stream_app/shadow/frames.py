"""What a worker and the child process of its shadow say to each other: frames of msgpack over a socket."""

import struct
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024
"""A frame of the child that claims more is none: it may have written anything."""


class Task(Struct, frozen=True):
    """What a child opens: a version in a registry's folder, by the class that module and name lead to."""

    module: str
    model_class: str
    folder: str
    name: str
    version: str
    address_bytes: int
    """Limit of the child's address space."""
    nice: int


class Opened(Struct, frozen=True):
    """The child is ready; with a `problem`, it can't open the version and ends."""

    problem: str = ""


class Question(Struct, frozen=True, array_like=True):
    """Features of requests that the version in service has answered in one predict call, as JSON."""

    features: list[bytes]


class Failure(Struct, frozen=True, array_like=True):
    """Why a row has no prediction."""

    row: int
    type: str
    message: str


class Reply(Struct, frozen=True, array_like=True):
    """Predictions as JSON, empty for the failed rows; `seconds` is the duration of all predict calls."""

    predictions: list[bytes]
    failures: list[Failure]
    seconds: float


encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(Task).decode
decode_opened = msgspec.msgpack.Decoder(Opened).decode
decode_question = msgspec.msgpack.Decoder(Question).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


_decode_array = msgspec.json.Decoder(list[Raw]).decode


def frame(message: Struct) -> bytes:
    """A message with its length before it."""
    body = encode(message)
    return HEADER.pack(len(body)) + body


def are_json(predictions: Sequence[bytes]) -> bool:
    """Whether each is a JSON value or empty: they are put into records as they are."""
    try:
        return len(_decode_array(b"[%b]" % b",".join([one or b"0" for one in predictions]))) == len(predictions)
    except (ValueError, RecursionError):
        return False


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The body of the next frame; None at the end of the stream.

    Args:
        read: returns the number of bytes that it is asked for, fewer only at the end.
    """
    header = read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    body = read(size)
    return body if len(body) == size else None
