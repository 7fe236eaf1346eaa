"""Which arm answers a request: a pure function of salt, key and percent. No state, so that all workers agree.

The hash is keyed by the rollout's salt and is not Kafka's partitioner: arms follow neither partitions nor machines, and
the keys of one rollout's canary are not those of the next.
"""

from hashlib import blake2b

BUCKETS = 10_000
"""A percent is this many hundredths: keys move in steps of 0.01 %."""


class Splitter:
    """Divides keys into the buckets of one rollout.

    Args:
        salt: The rollout's, at most 64 bytes in UTF-8.
        domain: What is split, at most 16 bytes; each domain splits independently of the others.
    """

    def __init__(self, salt: str, domain: str = "") -> None:
        self._hash = blake2b(key=salt.encode(), person=domain.encode(), digest_size=8)

    def bucket(self, key: bytes) -> int:
        """The bucket of a key, 0 to 9,999. It never changes within a rollout."""
        hashed = self._hash.copy()
        hashed.update(key)
        return int.from_bytes(hashed.digest(), "big") % BUCKETS

    def is_challenger(self, key: bytes, percent: float) -> bool:
        """Whether a key belongs to the challenger at this percentage. A larger one only adds keys."""
        return self.bucket(key) * 100 < percent * BUCKETS
