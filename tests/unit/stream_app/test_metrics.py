"""What the worker tells of its own lag, by librdkafka's statistics."""

from typing import Any

from stream_app.runtime.metrics import WorkerMetrics


def statistics(**partitions: tuple[bool, int]) -> dict[str, Any]:
    """Of these partitions of a topic: whether it is ours, and how far the committed offset is behind."""
    told = {
        name.removeprefix("p"): {"desired": ours, "consumer_lag": lag, "consumer_lag_stored": -1}
        for name, (ours, lag) in partitions.items()
    }
    return {"topics": {"requests": {"partitions": told}}}


def lags(metrics: WorkerMetrics) -> dict[str, float]:
    return {
        sample.labels["partition"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "inflight_worker_lag_records"
    }


def test_the_lag_is_that_of_the_committed_offset() -> None:
    """Offsets are committed by us and never stored: what librdkafka has of stored ones is never known."""
    metrics = WorkerMetrics()
    metrics.on_statistics(statistics(p0=(True, 7), p1=(True, 0), p2=(True, -1)))
    assert lags(metrics) == {"0": 7, "1": 0}


def test_a_partition_that_went_to_another_worker_has_no_lag_here() -> None:
    """It would be as it was for ever."""
    metrics = WorkerMetrics()
    metrics.on_statistics(statistics(p0=(True, 7), p1=(True, 5)))
    metrics.on_statistics(statistics(p0=(True, 8), p1=(False, 5)))
    assert lags(metrics) == {"0": 8}


def test_counters_of_a_partition_begin_at_zero() -> None:
    """An alert on their increase would not see the first value of a series."""
    metrics = WorkerMetrics()
    metrics.on_statistics(statistics(p0=(True, -1), p1=(False, 0)))
    for name in ("requests_missing", "partitions_restarted", "unreadable_batches"):
        name = f"inflight_worker_{name}_total"
        assert metrics.registry.get_sample_value(name, {"partition": "0"}) == 0
        assert metrics.registry.get_sample_value(name, {"partition": "1"}) is None
    metrics.on_unreadable(0)
    assert metrics.registry.get_sample_value("inflight_worker_unreadable_batches_total", {"partition": "0"}) == 1
