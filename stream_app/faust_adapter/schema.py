"""The Faust schema that hands partition batches through undecoded."""

from typing import Any

import faust

from stream_app.serving.batch import PartitionBatch


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Hands a slice to the agent as it is: the bytes are decoded by our code, where a bad record is a dead letter.

    (Faust acknowledges a message whose decoding failed before anyone hears of it.)
    """

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """A slice has no key."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> PartitionBatch:
        """The slice itself."""
        value: PartitionBatch = message.value
        return value
