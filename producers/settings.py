"""Settings of the producers, read from ``INFLIGHT_PRODUCER_*``."""

from machine_learning_engineering.settings import KernelSettings, PositiveSeconds


class ProducerSettings(KernelSettings):
    """The producers' settings, with those that every process shares."""

    producer_delivery_timeout: PositiveSeconds = 60.0
    """A request that is not acknowledged within this time counts as indeterminate in a replay."""
