"""What becomes of each reported label: joined, put to wait, or set aside as a dead letter."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Protocol

from machine_learning_engineering.dead_letters.writer import DeadLetter
from monitoring.labels.join import EARLY, Interrupted, Join, Patience, Result
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import Waiting
from monitoring.labels.reports import INVALID, REJECTED, UNMATCHED, WRONG_MODEL, Record, Report, read
from monitoring.labels.store import Logged, Version, Written
from monitoring.runtime.metrics import UNKNOWN, Children
from monitoring.settings import LabelJoinerSettings

_SET_ASIDE = (WRONG_MODEL, REJECTED)
_CHANGES = ("joined", "replaced")
# How long labels have waited (from, to) and how often these are looked up, in seconds.
TIERS = ((-3_600.0, 60.0, 2.0), (60.0, 3_600.0, 30.0), (3_600.0, 1e9, 600.0))


class Letters(Protocol):
    """What is needed of `dead_letters.DeadLetterWriter`."""

    def write(self, letters: list[DeadLetter], cancelled: threading.Event) -> bool: ...


class PendingStore(Protocol):
    """What is needed of `waiting.PendingLabels`."""

    def keep(self, reports: Sequence[Report], now: datetime) -> list[Written]: ...
    def page(
        self, partitions: Collection[int], ages: tuple[float, float], now: datetime, after: list[Any] | None, size: int
    ) -> list[Waiting]: ...
    def remove(self, waiting: Sequence[Waiting]) -> list[bool]: ...


Refusal = Callable[[str, bytes], str | None]
"""Why a label (JSON text) is none of a model; None if it is one, or if the model is not known here."""


class _Tier:
    """Labels of an age, and how far they have been looked up in this round."""

    def __init__(self, youngest: float, oldest: float, every: float) -> None:
        self.ages = (youngest, oldest)
        self.every = every
        self.due = 0.0
        self.after: list[Any] | None = None


class LabelResolver:
    """Settles labels in batches. For one thread.

    Everything may be done again after an interruption. A label is counted when it is settled; one that is read again
    after a crash is counted again, as repeated or superseded.

    Args:
        touched: told which versions got labels.
        cancelled: is set when the process stops; ends waiting for the broker.
    """

    def __init__(
        self,
        settings: LabelJoinerSettings,
        join: Join,
        shelf: PendingStore,
        letters: Letters,
        patience: Patience,
        metrics: LabelJoinerMetrics,
        *,
        refusal: Refusal,
        touched: Callable[[Iterable[Version]], None],
        cancelled: threading.Event,
    ) -> None:
        self._settings = settings
        self._join = join
        self._shelf = shelf
        self._letters = letters
        self._patience = patience
        self._labels = Children(metrics.labels)
        self._delay = Children(metrics.delay)
        self._refusal = refusal
        self._touched = touched
        self._cancelled = cancelled
        self._tiers = [_Tier(*tier) for tier in TIERS]

    def take(self, records: Sequence[Record]) -> None:
        """Settle what has been reported; what is early waits from now on.

        Raises:
            Interrupted: not everything is settled.
            KafkaException: the broker refuses a dead letter for good.
        """
        reports: list[Report] = []
        letters: list[DeadLetter] = []
        for record in records:
            found = read(record)
            if isinstance(found, DeadLetter):
                letters.append(found)
            elif (why := self._refusal(found.model, found.label.encode())) is not None:
                letters.append(found.letter(INVALID, why))
            else:
                reports.append(found)
        results = self._join.join(reports)
        self._keep([one.report for one in results if one.result == EARLY])
        letters += [_letter(one) for one in results if one.result in _SET_ASIDE]
        self._set_aside(letters)
        for letter in letters:
            # Not by the name that the record has: anybody could fill Prometheus with names.
            self._labels(UNKNOWN, letter.reason).inc()
        self._count([one for one in results if one.result not in (EARLY, *_SET_ASIDE)])

    def look_up(self, partitions: Collection[int]) -> bool:
        """Try to join a page of the labels that wait, if any are due; whether there may be more.

        Raises:
            Interrupted: not everything is settled.
            KafkaException: the broker refuses a dead letter for good.
        """
        # The one that is due for longest: when steps are slow, the first one always is, and the others would starve.
        # In the middle of a round one stays due.
        tier = min(self._tiers, key=lambda one: one.due)
        if monotonic() < tier.due or not partitions:
            return False
        now, size = datetime.now(UTC), self._settings.label_joiner_batch_records
        after = tier.after
        page = self._join.ask(lambda: self._shelf.page(partitions, tier.ages, now, after, size), 0)
        if page:
            self._settle(page, now)
        tier.after = page[-1].place if len(page) == size else None
        if tier.after is None:
            tier.due = monotonic() + tier.every
        return tier.after is not None

    def start_over(self) -> None:
        """Look up everything that waits, from its start: the partitions are other ones."""
        for tier in self._tiers:
            tier.after, tier.due = None, 0.0

    def _settle(self, page: list[Waiting], now: datetime) -> None:
        waiting = {id(one.report): one for one in page}
        done: list[Result] = []
        for result in self._join.join([one.report for one in page]):
            if result.result == EARLY:
                age = (now - waiting[id(result.report)].since).total_seconds()
                if age <= self._settings.label_match_timeout:
                    continue
                why = f"no request {result.report.request_id!r} came into the log within {age:,.0f} s"
                result = result._replace(result=UNMATCHED, explanation=why)
            done.append(result)
        letters = [_letter(one) for one in done if one.result in (*_SET_ASIDE, UNMATCHED)]
        self._set_aside(letters)
        settled = [waiting[id(one.report)] for one in done]
        removed = self._join.ask(lambda: self._shelf.remove(settled), len(settled)) if settled else []
        # What another process has removed it has counted.
        self._count([one for one, mine in zip(done, removed, strict=True) if mine])

    def _keep(self, reports: list[Report]) -> None:
        attempt = 0
        now = datetime.now(UTC)
        while reports:
            written = self._join.ask(lambda reports=reports: self._shelf.keep(reports, now), len(reports))  # type: ignore[misc]
            failed = [(one, answer) for one, answer in zip(reports, written, strict=True) if _failed(answer)]
            reports = [one for one, _ in failed]
            if failed:
                self._patience.wait(attempt, str(failed[0][1].status), len(failed))
                attempt += 1

    def _set_aside(self, letters: list[DeadLetter]) -> None:
        if letters and not self._letters.write(letters, self._cancelled):
            raise Interrupted

    def _count(self, results: list[Result]) -> None:
        touched: set[Version] = set()
        for one in results:
            document = one.document
            self._labels(UNKNOWN if document is None else document.model, one.result).inc()
            if document is not None and one.result in _CHANGES:
                self._delay(document.model).observe(_delay(one.report, document))
            # "repeated" too: the answer to the first time may have been lost on its way.
            if document is not None and one.result in (*_CHANGES, "repeated"):
                touched.add(Version(document.model, document.version))
        if touched:
            self._touched(touched)


def _letter(result: Result) -> DeadLetter:
    return result.report.letter(result.result, result.explanation)


def _delay(report: Report, document: Logged) -> float:
    return max(0.0, (report.observed_at - document.accepted_at).total_seconds())


def _failed(answer: Written) -> bool:
    # 409: it waits already.
    return answer.status >= 300 and answer.status != 409
