"""Faust's producer interface, without a producer: outputs are published by the scheduler."""

from typing import Any, NoReturn

from faust.transport import base


class Producer(base.Producer):  # type: ignore[misc]
    """The interface that Faust requires; ``topic.send`` raises."""

    async def send(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: nothing would hold back the commit until this record is acknowledged.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("agents don't send: `BatchScheduler` publishes the outputs of each batch")

    send_and_wait = send

    async def flush(self) -> None:
        """Do nothing: a batch is finished only after its outputs were acknowledged."""
