"""Resolves each reported label: joined, pending, or a dead letter."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from machine_learning_engineering.dead_letters.writer import DeadLetterWriter, RejectedRecord
from machine_learning_engineering.observability.logging import log_event
from monitoring.elastic.bulk import describe_refusal
from monitoring.labels.join import CHANGES, EARLY, Join, Result
from monitoring.labels.metrics import RESULTS, LabelJoinerMetrics
from monitoring.labels.pending import PendingLabel, PendingLabels
from monitoring.labels.reports import INVALID, REJECTED, UNMATCHED, WRONG_MODEL, Record, Report, read
from monitoring.model_version import ModelVersion
from monitoring.runtime.batch_reader import Interrupted
from monitoring.runtime.metrics import UNKNOWN, Children
from monitoring.settings import LabelJoinerSettings

_REJECTED = (WRONG_MODEL, REJECTED)
# Age of pending labels (from, to), and how often they are looked up, in seconds.
TIERS = ((-3_600.0, 60.0, 2.0), (60.0, 3_600.0, 30.0), (3_600.0, 1e9, 600.0))


RejectionReason = Callable[[str, bytes], str | None]
"""Why a label (JSON text) is not one of a model; None if it is, or if the model is unknown."""


class _Tier:
    """Pending labels of an age, and how far they have been looked up in this round."""

    def __init__(self, youngest: float, oldest: float, every: float) -> None:
        self.ages = (youngest, oldest)
        self.every = every
        self.due = 0.0
        self.after: list[Any] | None = None


class LabelResolver:
    """Resolves labels in batches. For one thread.

    Everything may be repeated after an interruption. A label is counted when it is resolved; one that is reread after a
    crash is counted again, as repeated or superseded.

    Args:
        wait: see `Join`.
        mark_dirty: is given the versions that got labels.
        cancelled: set when the process stops; ends waiting for the broker.
    """

    def __init__(
        self,
        settings: LabelJoinerSettings,
        join: Join,
        pending: PendingLabels,
        dead_letters: DeadLetterWriter,
        wait: Callable[[int, str, int], None],
        metrics: LabelJoinerMetrics,
        *,
        rejection_reason: RejectionReason,
        mark_dirty: Callable[[Iterable[ModelVersion]], None],
        cancelled: threading.Event,
    ) -> None:
        self._settings = settings
        self._join = join
        self._pending = pending
        self._dead_letters = dead_letters
        self._wait = wait
        self._labels = Children(metrics.labels)
        self._introduced: set[str] = set()
        self._delay = Children(metrics.delay)
        self._rejection_reason = rejection_reason
        self._mark_dirty = mark_dirty
        self._cancelled = cancelled
        self._tiers = [_Tier(*tier) for tier in TIERS]

    def process(self, records: Sequence[Record]) -> None:
        """Resolve reported labels; early ones become pending.

        Raises:
            Interrupted: not everything is resolved.
            KafkaException: the broker permanently rejects a dead letter.
        """
        reports: list[Report] = []
        dead_letters: list[RejectedRecord] = []
        for record in records:
            report = read(record)
            if isinstance(report, RejectedRecord):
                dead_letters.append(report)
            elif (why := self._rejection_reason(report.model, report.label.encode())) is not None:
                dead_letters.append(report.dead_letter(INVALID, why))
            else:
                reports.append(report)
        results = self._join.join(reports)
        self._park([one.report for one in results if one.result == EARLY])
        dead_letters += [_dead_letter(one) for one in results if one.result in _REJECTED]
        self._write_dead_letters(dead_letters)
        for dead_letter in dead_letters:
            # Not by the model's name in the record: any sender could fill Prometheus with names.
            self._labels(UNKNOWN, dead_letter.reason).inc()
        self._count([one for one in results if one.result not in (EARLY, *_REJECTED)])

    def look_up(self, partitions: Collection[int]) -> bool:
        """Try to join a page of pending labels, if any are due; return whether there may be more.

        Raises:
            Interrupted: not everything is resolved.
            KafkaException: the broker permanently rejects a dead letter.
        """
        # The tier that is overdue for longest: if steps are slow, the first is always due, and the others would starve.
        # A tier stays due until the end of its round.
        tier = min(self._tiers, key=lambda one: one.due)
        if monotonic() < tier.due or not partitions:
            return False
        now, size = datetime.now(UTC), self._settings.label_joiner_batch_records
        after = tier.after
        page = self._join.retry(lambda: self._pending.page(partitions, tier.ages, now, after, size), 0)
        if page:
            self._resolve(page, now)
        tier.after = page[-1].sort if len(page) == size else None
        if tier.after is None:
            tier.due = monotonic() + tier.every
        return tier.after is not None

    def start_over(self) -> None:
        """Look up all pending labels from the first on: the partitions have changed."""
        for tier in self._tiers:
            tier.after, tier.due = None, 0.0

    def _resolve(self, page: list[PendingLabel], now: datetime) -> None:
        pending = {id(one.report): one for one in page}
        done: list[Result] = []
        for result in self._join.join([one.report for one in page]):
            if result.result == EARLY:
                age = (now - pending[id(result.report)].since).total_seconds()
                if age <= self._settings.label_match_timeout:
                    continue
                why = result.explanation or f"no request {result.report.request_id!r} appeared in the log"
                result = result._replace(result=UNMATCHED, explanation=f"{why}, within {age:,.0f} s")
            done.append(result)
        self._write_dead_letters([_dead_letter(one) for one in done if one.result in (*_REJECTED, UNMATCHED)])
        resolved = [pending[id(one.report)] for one in done]
        removed = self._join.retry(lambda: self._pending.remove(resolved), len(resolved)) if resolved else []
        # A label that another process removed was counted there.
        self._count([one for one, removed_here in zip(done, removed, strict=True) if removed_here])

    def _park(self, reports: list[Report]) -> None:
        attempt = 0
        now = datetime.now(UTC)
        while reports:
            items = self._join.retry(lambda reports=reports: self._pending.park(reports, now), len(reports))  # type: ignore[misc]
            # 409: it is pending already.
            failed = [
                (report, item)
                for report, item in zip(reports, items, strict=True)
                if item.status >= 300 and item.status != 409
            ]
            reports = [report for report, _ in failed]
            if failed:
                if attempt == 0:
                    reason = describe_refusal(failed[0][1].error)
                    log_event("label-joiner", "refused", cause=str(failed[0][1].status), reason=reason)
                self._wait(attempt, str(failed[0][1].status), len(failed))
                attempt += 1

    def _write_dead_letters(self, dead_letters: list[RejectedRecord]) -> None:
        if dead_letters and not self._dead_letters.write(dead_letters, self._cancelled):
            raise Interrupted

    def _count(self, results: list[Result]) -> None:
        dirty: set[ModelVersion] = set()
        for one in results:
            document = one.document
            model = UNKNOWN if document is None else document.model
            if model not in self._introduced:
                self._introduced.add(model)
                # With the value 0: `increase` does not see the first value of a series.
                for result in RESULTS:
                    self._labels(model, result)
            self._labels(model, one.result).inc()
            if document is not None and one.result in CHANGES:
                delay = (one.report.observed_at - document.accepted_at).total_seconds()
                self._delay(document.model).observe(max(0.0, delay))
            # Also if repeated: the response to the first write may have been lost.
            if document is not None and one.result in (*CHANGES, "repeated"):
                dirty.add(ModelVersion(document.model, document.version))
        if dirty:
            self._mark_dirty(dirty)


def _dead_letter(result: Result) -> RejectedRecord:
    return result.report.dead_letter(result.result, result.explanation)
