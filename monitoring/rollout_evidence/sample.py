"""Samples of requests: bounded, uniform, and the same in whatever order the requests come. Pure.

A request is kept if the hash of its id is below a threshold, which is halved whenever too many are kept. So what is
kept depends on which requests there were, and not on their order, nor on how often each was read. Nobody who sends
requests can choose to be kept: the hash is keyed.
"""

from collections.abc import ItemsView
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

_BITS = 64


class Item(Protocol):
    """What is kept of a request. Of two for the same request, the one of smaller `rank` stays; `size` is in bytes."""

    @property
    def rank(self) -> tuple[float, int, int, int]: ...
    @property
    def size(self) -> int: ...


_T = TypeVar("_T", bound=Item)


class Keys:
    """Hashes of ids and keys, with the rollout's salt.

    Args:
        salt: At most 64 bytes in UTF-8.
    """

    def __init__(self, salt: str) -> None:
        # Another hash than that of the split, or the sample of an arm would be one of its keys.
        self._hash = blake2b(key=salt.encode(), digest_size=_BITS // 8, person=b"evidence")

    def __call__(self, identity: bytes) -> int:
        """The hash of what identifies a request or a key, below 2^64."""
        hashed = self._hash.copy()
        hashed.update(identity)
        return int.from_bytes(hashed.digest(), "big")


class Sample(Generic[_T]):
    """A sample of requests by the hash of their ids.

    Args:
        max_items: Requests that are kept.
        max_bytes: Their size in all.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._items: dict[int, _T] = {}
        self._bytes = 0
        self.limit = 1 << _BITS
        """Hashes below it are kept."""

    @property
    def share(self) -> float:
        """Share of the requests that are kept."""
        return self.limit / (1 << _BITS)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> ItemsView[int, _T]:
        """What is kept, by the hash of the request."""
        return self._items.items()

    def put(self, key: int, item: _T) -> bool:
        """Keep what is known of a request, if it belongs to the sample; return whether the threshold has changed."""
        if key >= self.limit:
            return False
        known = self._items.get(key)
        if known is not None:
            if known.rank <= item.rank:
                return False
            self._bytes -= known.size
        self._items[key] = item
        self._bytes += item.size
        if len(self._items) <= self._max_items and self._bytes <= self._max_bytes:
            return False
        while len(self._items) > self._max_items or (self._bytes > self._max_bytes and len(self._items) > 1):
            self.limit //= 2
            self._items = {key: item for key, item in self._items.items() if key < self.limit}
            self._bytes = sum(item.size for item in self._items.values())
        return True
