"""What the console asks of others, which `producers` does not speak to: the entry point hands it in."""

from datetime import datetime
from typing import NamedTuple, Protocol

from msgspec import Raw, Struct

from machine_learning_engineering.events.schemas import PredictionLogged


class GroupLag(Struct, frozen=True):
    """What a consumer group has not read of a topic.

    `waiting_seconds` is how long the first record waits, None if none does or that is unknown. `active` is false for a
    group that has never read the topic: the process that uses it was never started here.
    """

    group: str
    topic: str
    records: int
    waiting_seconds: float | None
    active: bool


class LagUnavailable(Exception):
    """The lag can't be read now. The message names the reason."""


class Lags(Protocol):
    """The lag of all consumer groups. One thread at a time."""

    def read(self) -> list[GroupLag]:
        """Read it from the broker. Blocks.

        Raises:
            LagUnavailable: the broker does not respond, or refuses.
        """

    def close(self) -> None:
        """Close the connections; a later `read` opens them again."""


class StoredStory(NamedTuple):
    """A request as the prediction log has it. The label is None if there is none."""

    event: PredictionLogged
    label: Raw | None
    label_observed_at: datetime | None
    source: str
    """The log's name, such as Elasticsearch."""


class Logbook(Protocol):
    """The prediction log: requests that the console's memory does not hold."""

    async def find(self, request_id: str) -> StoredStory | None:
        """The request of this id.

        Raises:
            HistoryUnavailable: the log does not respond.
        """


class ConsoleSources(NamedTuple):
    """All of them."""

    lags: Lags
    logbook: Logbook


class NoLags:
    """`Lags` of a gateway without them."""

    def read(self) -> list[GroupLag]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing to close."""


class NoLogbook:
    """A `Logbook` that knows nothing: for a deployment without a prediction log."""

    async def find(self, request_id: str) -> StoredStory | None:
        """Find nothing."""
        return None
