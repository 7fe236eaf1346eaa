"""Single dead letters from their topic, and their replay. Blocks: for a thread."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import errors as kafka_errors

from machine_learning_engineering.dead_letters.reader import Address, DeadLetter, letter_of
from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.registry.sources import RegistrySources
from producers.dead_letter_replay import replay
from producers.gateway.recall import Position
from producers.gateway.settings import GatewaySettings
from producers.gateway.tail import read_at

MAX_REPLAY = 50
"""Letters of one replay; `inflight dlq replay` takes any number."""
MAX_SHOWN_BYTES = 64 * 1024
SECONDS = 10.0
"""Time for the broker to acknowledge what is published."""


class BrokerAway(Exception):
    """The broker does not respond."""


class Replayed(NamedTuple):
    """What became of a letter: an outcome of `dead_letter_replay.replay`, or "gone" if the topic has no such letter."""

    address: str
    outcome: str


def find(settings: GatewaySettings, address: Address) -> DeadLetter | None:
    """The dead letter at an address, None if there is none.

    Raises:
        BrokerAway: the broker does not respond.
    """
    try:
        message = read_at(settings, DEAD_LETTERS, Position(*address))
    except TimeoutError as error:
        raise BrokerAway(str(error)) from None
    return None if message is None else letter_of(message)


def replay_letters(settings: GatewaySettings, addresses: Sequence[Address], *, again: bool) -> list[Replayed]:
    """Publish dead letters again, as `inflight dlq replay` does, with the same journal.

    Args:
        again: also those that were replayed before.

    Raises:
        BrokerAway: the broker does not respond.
        JournalInUse: another replay is running on this machine.
    """
    found = {address: find(settings, address) for address in addresses}
    outcomes = {str(address): "gone" for address in addresses}

    def note(letter: DeadLetter, outcome: str) -> None:
        outcomes[str(letter.address)] = outcome

    limited = settings.model_copy(
        update={"producer_delivery_timeout": min(SECONDS, settings.producer_delivery_timeout)}
    )
    letters = [letter for letter in found.values() if letter is not None]
    try:
        replay(limited, letters, again=again, on_result=note, sources=RegistrySources(settings).topics())
    except kafka_errors.KafkaError as error:
        raise BrokerAway(f"the broker does not respond ({type(error).__name__})") from None
    return [Replayed(*one) for one in outcomes.items()]


def shown(letter: DeadLetter) -> dict[str, Any]:
    """The bytes of a dead letter as text, in part if there are many."""
    value = letter.value
    return {
        "key": _text(letter.key, 1_024),
        "value": _text(value, MAX_SHOWN_BYTES),
        "bytes": None if value is None else len(value),
        "shown_bytes": None if value is None else min(len(value), MAX_SHOWN_BYTES),
        "headers": [[name, _text(content, 1_024)] for name, content in letter.headers[:50]],
    }


def _text(content: bytes | None, limit: int) -> str | None:
    return None if content is None else content[:limit].decode(errors="replace")
