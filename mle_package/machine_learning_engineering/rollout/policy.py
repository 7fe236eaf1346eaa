"""Policies: how a new version reaches production, and when a model is retrained. They come from ``inflight.toml``."""

from typing import Annotated

from msgspec import Meta, Struct

Share = Annotated[float, Meta(gt=0, le=1)]
Probability = Annotated[float, Meta(gt=0, lt=1)]
PositiveSeconds = Annotated[float, Meta(gt=0)]


class RolloutPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a rollout of a model proceeds. Durations are in seconds.

    `alpha` is the probability that a version that is no better passes, and separately that one that is no worse is
    rolled back, however often anybody looks. Zero `shadow_share` skips the shadow, an empty `ramp` the canary. `key` is
    a path in the features, such as ``customer``; without, the record's key decides, and without that the request id.
    """

    shadow_share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    ramp: tuple[Annotated[int, Meta(ge=1, le=100)], ...] = (1, 5, 25, 50)
    key: str = ""
    alpha: Probability = 0.05
    min_requests: Annotated[int, Meta(ge=1)] = 500
    """Requests of the challenger before a step may pass."""
    min_labels: Annotated[int, Meta(ge=0)] = 200
    """Labelled pairs before a shadow may pass; 0 needs no labels."""
    warm_up_requests: Annotated[int, Meta(ge=0)] = 20
    """First requests of a freshly opened version, which count for no verdict."""
    max_error_rate: Probability = 0.01
    """The challenger's rate of failures may exceed the champion's by this."""
    max_latency_ratio: Annotated[float, Meta(gt=1)] = 3.0
    """The challenger's p99 of scoring, relative to the champion's."""
    max_memory_bytes: Annotated[int, Meta(ge=0)] = 0
    """The challenger's memory; 0 for no limit."""
    max_psi: Annotated[float, Meta(gt=0)] = 0.25
    """Population stability index of predictions between the arms of a canary."""
    quality_margin: Annotated[float, Meta(ge=0)] = 0.0
    """The challenger's loss may exceed the champion's by this share of it and still be no worse."""
    require_better: bool = True
    """Whether the shadow passes only a version that is better by its labels; otherwise one that is no worse."""
    label_delay: Annotated[float, Meta(ge=0)] = 0.0
    """Requests count for quality once they are this old, so that fast labels are no special sample."""
    min_coverage: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the requests old enough that must have a label, in each arm."""
    max_coverage_gap: Share = 0.2
    """Largest difference of that share between the arms; above it the verdict waits."""
    min_step: PositiveSeconds = 300.0
    max_shadow: PositiveSeconds = 7 * 86_400.0
    max_canary: PositiveSeconds = 7 * 86_400.0
    bake: Annotated[float, Meta(ge=0)] = 86_400.0
    """How long a promoted version is watched; the one before stays loaded for as long."""


class RetrainingPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a model is retrained. Durations are in seconds. Triggers only train: a rollout decides what is served."""

    schedule: str = ""
    """Cron line in UTC, such as ``0 3 * * 1``; empty for no schedule."""
    drift: bool = True
    quality: bool = True
    new_labels: Annotated[int, Meta(ge=0)] = 0
    """Number of labels since the champion's training that is a reason; 0 for no such reason."""
    max_age: Annotated[float, Meta(ge=0)] = 0.0
    """A champion older than this is retrained; 0 for no limit."""
    false_alarms_per_year: Probability = 0.1
    """Probability of at least one retraining for drift or quality in a year in which nothing has changed."""
    cool_down: Annotated[float, Meta(ge=0)] = 6 * 3_600.0
    daily_budget: Annotated[int, Meta(ge=1)] = 2
    window: PositiveSeconds = 90 * 86_400.0
    """Age of the oldest rows of the log that are trained on."""
    deadline: PositiveSeconds = 3_600.0
    data: tuple[str, ...] = ()
    """Data sources as for ``inflight train``; by default the labelled rows of the log."""


class ModelPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The table ``[models.NAME]`` of ``inflight.toml``. Without `retraining`, nothing retrains the model."""

    retraining: RetrainingPolicy | None = None
    rollout: RolloutPolicy = RolloutPolicy()
