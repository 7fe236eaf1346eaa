"""Turns scrapes into overviews."""

from datetime import UTC, datetime

import msgspec

from monitoring.top.overview import DeadLetters, Drift, Indexer, Lag, Latency, Model, Overview, Process, Quality, Worker
from monitoring.top.samples import LabelDict, Window
from monitoring.top.sources import PROCESSES, Alert, ScrapeResult
from monitoring.top.warnings import find_warnings

_LATENCY = "inflight_prediction_latency_seconds"
_STAGES = ("queue", "score", "total")
_CONSECUTIVE_WINDOWS = 2
"""As in the alert InflightDriftDetected."""


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
        running = {f"inflight-{name}" for name, scrapes in up.items() if scrapes}
        lags = self._lag(max((one.at for one in up.get("exporter", [])), default=None), running)
        found = Overview(
            at=datetime.now(UTC),
            processes=[Process(name, one.url, one.problem) for name, of_kind in results.items() for one in of_kind],
            per_second=None if worker is None else self._windows["worker"].rate("inflight_worker_records_total"),
            models=_models(self._windows["exporter"], self._windows["worker"]),
            worker=worker,
            lags=lags,
            dead_letters=_dead_letters(self._windows["exporter"]),
            indexer=_indexer(self._windows["indexer"], lags) if up.get("indexer") else None,
            drift=_drift(self._windows["drift-monitor"]),
            quality=_quality(self._windows["label-joiner"], self._windows["worker"]),
            alerts=alerts if isinstance(alerts, list) else [],
            lag_age_seconds=(
                self._windows["exporter"].smallest("inflight_consumer_lag_age_seconds") if up.get("exporter") else None
            ),
        )
        unread = [f"alerts cannot be read: {alerts}"] if isinstance(alerts, str) else []
        return msgspec.structs.replace(found, warnings=find_warnings(found) + unread)

    def _lag(self, at: float | None, running: set[str]) -> list[Lag]:
        if at is None:
            self._lags.clear()
            return []
        now, ages, stalled, committed = (
            self._largest(f"inflight_consumer_{name}")
            for name in ("lag_records", "lag_seconds", "stalled_seconds", "committed_partitions")
        )
        used = {group for (group, _), partitions in committed.items() if partitions} | running | {"inflight-worker"}
        kept = [(when, lags) for when, lags in self._lags if at - when <= self._seconds]
        # At least one earlier poll to compare with, however long the interval.
        self._lags = [*(kept or self._lags[-1:]), (at, now)]
        then, before = self._lags[0]
        return [
            Lag(
                *key,
                records,
                (records - before[key]) / (at - then) if at > then and key in before else None,
                ages.get(key, 0.0),
                stalled.get(key, 0.0),
                # An exporter of another release does not say.
                key[0] in used or key not in committed,
            )
            for key, records in sorted(now.items())
        ]

    def _largest(self, name: str) -> dict[tuple[str, str], float]:
        """By group and topic. Each exporter reads the lag of every group: the largest counts, not the sum."""
        found: dict[tuple[str, str], float] = {}
        for labels, value in self._windows["exporter"].values(name):
            key = labels["group"], labels["topic"]
            found[key] = max(value, found.get(key, 0.0))
        return found


def _models(exporter: Window, worker: Window) -> list[Model]:
    rates = exporter.rates("inflight_predictions_total", "model", "outcome")
    requests = exporter.counts("inflight_predictions_total", "model")
    errors = exporter.counts("inflight_prediction_errors_total", "model", type="prediction_error")
    timed = exporter.counts(f"{_LATENCY}_count", "model", stage="total")
    fast = exporter.counts(f"{_LATENCY}_bucket", "model", stage="total", le="1.0")
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
        asked, raised, measured, quick = (counts.get((name,), 0.0) for counts in (requests, errors, timed, fast))
        found.append(Model(name, versions, completed, failed, queue, score, total, asked, raised, measured - quick))
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
        models_refused=sorted(
            {labels["model"] for labels, value in window.values("inflight_worker_model_refused") if value}
        ),
        dead_letters=sum(window.counts("inflight_worker_records_total", outcome="dead_letter").values()),
    )


def _dead_letters(window: Window) -> list[DeadLetters]:
    rates = window.rates("inflight_dead_letters_total", "stage", "reason")
    totals: dict[tuple[str, str], float] = {}
    for labels, value in window.values("inflight_dead_letters_total"):
        key = labels["stage"], labels["reason"]
        totals[key] = totals.get(key, 0.0) + value
    found = [DeadLetters(*key, rates.get(key, 0.0), total) for key, total in totals.items()]
    return sorted(found, key=lambda letters: (-letters.per_second, -letters.total))


def _indexer(window: Window, lags: list[Lag]) -> Indexer:
    lag = [one.records for one in lags if one.group == "inflight-indexer"]
    # A request that is too large is sent again in halves: that is no failure of Elasticsearch.
    retries = window.rates("inflight_indexer_retries_total", "cause")
    return Indexer(
        documents_per_second=window.rate("inflight_indexer_documents_total") or 0.0,
        retries_per_second=sum(rate for (cause,), rate in retries.items() if cause != "halved"),
        lag_records=sum(lag) if lag else None,
        in_flight=window.total("inflight_indexer_in_flight_documents"),
    )


def _drift(window: Window) -> list[Drift]:
    fields: dict[tuple[str, str], dict[str, float]] = {}
    # Several drift monitors share the partitions: take the largest of each field.
    for labels, psi in window.values("inflight_drift_psi"):
        of_version = fields.setdefault((labels["model"], labels["model_version"]), {})
        of_version[labels["field"]] = max(psi, of_version.get(labels["field"], psi))
    drifted: dict[tuple[str, str], set[str]] = {}
    consecutive: dict[tuple[str, str], set[str]] = {}
    for labels, windows in window.values("inflight_drift_drifted_windows"):
        version = labels["model"], labels["model_version"]
        if windows:
            drifted.setdefault(version, set()).add(labels["field"])
        if windows >= _CONSECUTIVE_WINDOWS:
            consecutive.setdefault(version, set()).add(labels["field"])
    found = []
    for version, of_version in sorted(fields.items()):
        names = sorted(drifted.get(version, ()), key=lambda name: (-of_version.get(name, 0.0), name))
        worst = max(names or of_version, key=lambda name: of_version.get(name, 0.0))
        twice = [name for name in names if name in consecutive.get(version, ())]
        found.append(Drift(*version, worst, of_version.get(worst, 0.0), names, twice))
    return found


def _quality(window: Window, worker: Window) -> list[Quality]:
    def by_series(name: str) -> dict[frozenset[tuple[str, str]], float]:
        found: dict[frozenset[tuple[str, str]], float] = {}
        # Several label joiners may have measured a version: the greatest counts, as in the alert.
        for labels, value in window.values(name):
            series = frozenset(labels.items())
            found[series] = max(value, found.get(series, value))
        return found

    served = {
        (labels["model"], labels["model_version"])
        for labels, value in worker.values("inflight_worker_model_info")
        if value
    }
    lower, upper, reference = (by_series(f"inflight_model_quality_{end}") for end in ("lower", "upper", "reference"))
    found = []
    for series, value in by_series("inflight_model_quality").items():
        labels = LabelDict(series)
        if labels.get("primary", "true").lower() in ("true", "1", "yes"):
            version = labels["model"], labels["model_version"]
            interval = lower.get(series), upper.get(series)
            found.append(
                Quality(*version, labels["metric"], value, *interval, reference.get(series), served=version in served)
            )
    return found
