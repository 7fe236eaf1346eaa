"""Turns scrapes into overviews."""

from datetime import UTC, datetime

import msgspec

from monitoring.top.overview import DeadLetters, Drift, Indexer, Lag, Latency, Model, Overview, Process, Quality, Worker
from monitoring.top.samples import Window
from monitoring.top.sources import PROCESSES, Alert, ScrapeResult
from monitoring.top.warnings import find_warnings

_LATENCY = "inflight_prediction_latency_seconds"
_STAGES = ("queue", "score", "total")


class OverviewReader:
    """Turns successive polls of all endpoints into overviews.

    Args:
        seconds: the window of rates and quantiles.
    """

    def __init__(self, seconds: float) -> None:
        self._windows = {name: Window(seconds) for name in PROCESSES}
        self._lags: list[tuple[float, dict[tuple[str, str], float]]] = []
        self._seconds = seconds

    def poll(self, results: dict[str, list[ScrapeResult]], alerts: list[Alert] | str) -> Overview:
        """The overview after another poll."""
        for name, of_kind in results.items():
            for result in of_kind:
                self._windows[name].add(result.url, result.scrape)
        up = {name: [one.scrape for one in found if one.scrape is not None] for name, found in results.items()}
        worker = _worker(self._windows["worker"]) if up.get("worker") else None
        found = Overview(
            at=datetime.now(UTC),
            processes=[Process(name, one.url, one.problem) for name, of_kind in results.items() for one in of_kind],
            per_second=None if worker is None else self._windows["worker"].rate("inflight_worker_records_total"),
            models=_models(self._windows["exporter"], self._windows["worker"]),
            worker=worker,
            lags=self._lag(max((one.at for one in up.get("exporter", [])), default=None)),
            dead_letters=_dead_letters(self._windows["exporter"]),
            indexer=_indexer(self._windows["indexer"]) if up.get("indexer") else None,
            drift=_drift(self._windows["drift-monitor"]),
            quality=_quality(self._windows["label-joiner"]),
            alerts=alerts if isinstance(alerts, list) else [],
            lag_age_seconds=(
                self._windows["exporter"].smallest("inflight_consumer_lag_age_seconds") if up.get("exporter") else None
            ),
        )
        unread = [f"alerts cannot be read: {alerts}"] if isinstance(alerts, str) else []
        return msgspec.structs.replace(found, warnings=find_warnings(found) + unread)

    def _lag(self, at: float | None) -> list[Lag]:
        if at is None:
            self._lags.clear()
            return []
        # Each exporter reads the lag of every group: take the largest, not the sum.
        now: dict[tuple[str, str], float] = {}
        for labels, value in self._windows["exporter"].values("inflight_consumer_lag_records"):
            key = labels.get("group", ""), labels.get("topic", "")
            now[key] = max(value, now.get(key, 0.0))
        kept = [(when, lags) for when, lags in self._lags if at - when <= self._seconds]
        # At least one earlier poll to compare with, however long the interval.
        self._lags = [*(kept or self._lags[-1:]), (at, now)]
        then, before = self._lags[0]
        return [
            Lag(*key, records, (records - before[key]) / (at - then) if at > then and key in before else None)
            for key, records in sorted(now.items())
        ]


def _models(exporter: Window, worker: Window) -> list[Model]:
    rates = exporter.rates("inflight_predictions_total", "model", "outcome")
    served: dict[str, set[str]] = {}
    for labels, value in worker.values("inflight_worker_model_info"):
        if value:
            served.setdefault(labels["model"], set()).add(labels["model_version"])
    seen: dict[str, set[str]] = {}
    for labels, _ in exporter.values("inflight_predictions_total"):
        seen.setdefault(labels["model"], set()).add(labels["model_version"])
    found = []
    for name in sorted(served.keys() | seen.keys()):
        queue, score, total = (
            Latency(*(exporter.quantile(q, _LATENCY, model=name, stage=stage) for q in (0.5, 0.99)))
            for stage in _STAGES
        )
        versions = sorted(served.get(name) or seen.get(name, set()))
        completed, failed = (rates.get((name, outcome), 0.0) for outcome in ("completed", "failed"))
        found.append(Model(name, versions, completed, failed, queue, score, total))
    return sorted(found, key=lambda model: -(model.completed_per_second + model.failed_per_second))


def _worker(window: Window) -> Worker:
    rates = window.rates("inflight_worker_records_total", "outcome")
    batches = window.rate("inflight_worker_batch_records_count")
    return Worker(
        completed_per_second=rates.get(("completed",), 0.0),
        failed_per_second=rates.get(("failed",), 0.0),
        dead_letters_per_second=rates.get(("dead_letter",), 0.0),
        batch_records=(window.rate("inflight_worker_batch_records_sum") or 0.0) / batches if batches else None,
        in_flight_batches=window.total("inflight_worker_in_flight_batches"),
        unacknowledged_records=window.total("inflight_worker_unacknowledged_records"),
        oldest_batch_seconds=window.largest("inflight_worker_oldest_batch_seconds") or 0.0,
        partitions=window.total("inflight_worker_assigned_partitions"),
        models_refused=window.total("inflight_worker_models_refused_total"),
    )


def _dead_letters(window: Window) -> list[DeadLetters]:
    rates = window.rates("inflight_dead_letters_total", "stage", "reason")
    totals: dict[tuple[str, str], float] = {}
    for labels, value in window.values("inflight_dead_letters_total"):
        key = labels["stage"], labels["reason"]
        totals[key] = totals.get(key, 0.0) + value
    found = [DeadLetters(*key, rates.get(key, 0.0), total) for key, total in totals.items()]
    return sorted(found, key=lambda letters: (-letters.per_second, -letters.total))


def _indexer(window: Window) -> Indexer:
    return Indexer(
        documents_per_second=window.rate("inflight_indexer_documents_total") or 0.0,
        retries_per_second=window.rate("inflight_indexer_retries_total") or 0.0,
        lag_records=window.total("inflight_indexer_lag_records"),
        in_flight=window.total("inflight_indexer_in_flight_documents"),
    )


def _drift(window: Window) -> list[Drift]:
    fields: dict[tuple[str, str], dict[str, float]] = {}
    # Several drift monitors share the partitions: take the largest of each field.
    for labels, psi in window.values("inflight_drift_psi"):
        of_version = fields.setdefault((labels["model"], labels["model_version"]), {})
        of_version[labels["field"]] = max(psi, of_version.get(labels["field"], psi))
    drifted: dict[tuple[str, str], set[str]] = {}
    for labels, windows in window.values("inflight_drift_drifted_windows"):
        if windows:
            drifted.setdefault((labels["model"], labels["model_version"]), set()).add(labels["field"])
    found = []
    for version, of_version in sorted(fields.items()):
        names = sorted(drifted.get(version, ()), key=lambda name: (-of_version.get(name, 0.0), name))
        worst = max(names or of_version, key=lambda name: of_version.get(name, 0.0))
        found.append(Drift(*version, worst, of_version.get(worst, 0.0), names))
    return found


def _quality(window: Window) -> list[Quality]:
    def by_series(name: str) -> dict[frozenset[tuple[str, str]], float]:
        return {frozenset(labels.items()): value for labels, value in window.values(name)}

    lower, upper, reference = (by_series(f"inflight_model_quality_{end}") for end in ("lower", "upper", "reference"))
    return [
        Quality(
            labels["model"],
            labels["model_version"],
            labels["metric"],
            value,
            *(ends.get(frozenset(labels.items())) for ends in (lower, upper, reference)),
        )
        for labels, value in window.values("inflight_model_quality")
        if labels.get("primary", "true").lower() in ("true", "1", "yes")
    ]
