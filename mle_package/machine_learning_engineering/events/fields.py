"""Fields that many events have."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

RequestId = Annotated[str, Meta(min_length=1, max_length=256, description="Unique per request; also the record's key.")]
ModelName = Annotated[str, Meta(min_length=1, max_length=128, description="Name of the model, such as `diamonds`.")]
Timestamp = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Seconds = Annotated[float, Meta(ge=0, description="A duration in seconds.")]
