"""What is known of two versions in one stage of a rollout: sums and counts, from which verdicts are computed.

Everything is a function of the records since the stage began, so a controller that is killed reads them again.
"""

from msgspec import Struct

from machine_learning_engineering.evaluation.moments import Moments


class ArmEvidence(Struct, frozen=True, kw_only=True):
    """What is known of one version in this stage, without its warm-up.

    `errors` counts failures of the model and not of the request, `invalid` predictions that are not finite or out of
    range. `latency_p99` and `memory_bytes` are None where unknown. `predictions` counts the predictions by bins that
    both arms share. `mature` requests are as old as labels take; `labelled` of them have one, and `loss` is their loss.
    `units` counts what the split divides, warm-up included: distinct keys, or requests that have none. If it is 0 in
    both arms, the split is not checked. Above some tens of thousands of requests, all is of a sample: the `share` of
    them.
    """

    version: str
    requests: int = 0
    errors: int = 0
    invalid: int = 0
    latency_p99: float | None = None
    memory_bytes: int | None = None
    predictions: tuple[int, ...] = ()
    mature: int = 0
    labelled: int = 0
    loss: Moments = Moments()
    units: int = 0
    share: float = 1.0


class PairEvidence(Struct, frozen=True, kw_only=True):
    """What is known of requests that both versions answered, as in the shadow.

    `dropped` were not scored by the challenger because it was too slow. `different` answers differ; `difference` is the
    distance of numbers. `better` and `worse` count labelled pairs by whose loss is smaller, ties aside; `loss` is the
    challenger's loss minus the champion's over all labelled pairs.
    """

    pairs: int = 0
    dropped: int = 0
    different: int = 0
    difference: Moments = Moments()
    labelled: int = 0
    better: int = 0
    worse: int = 0
    loss: Moments = Moments()


class Evidence(Struct, frozen=True, kw_only=True):
    """Evidence of a stage. `expected_share` is the challenger's share of the requests that the split should give."""

    champion: ArmEvidence
    challenger: ArmEvidence
    pairs: PairEvidence = PairEvidence()
    expected_share: float = 0.0
    labels_from_the_future: int = 0
    labels_unknown: int = 0
