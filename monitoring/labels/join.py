"""Joins labels to the log: every report gets one result, or the join is interrupted.

The outcome does not depend on the order of reports or on repetitions: of the labels of a request, the one observed last
stays. A label whose request is not found yet is "early", which is not an error.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from machine_learning_engineering.observability.logging import log_event
from monitoring.elastic.bulk import describe_error, describe_refusal
from monitoring.elastic.client import FAILURES
from monitoring.labels.reports import REJECTED, WRONG_MODEL, Report, compare, counts_more
from monitoring.labels.store import LabelStore, LoggedRequest
from monitoring.runtime.retry import error_label, error_reason

EARLY = "early"
CHANGES = ("joined", "replaced")
# If a request has several documents, its result is the first of these that any of them has.
_ORDER = ("joined", "replaced", REJECTED, "repeated", "superseded", EARLY)
# Other errors with status 400 concern the index or the cluster, and are temporary.
_DOCUMENT_ERRORS = ("document_parsing_exception", "mapper_parsing_exception", "illegal_argument_exception")
# The state of one index, for example of an archive: its labels wait like early ones, and no other label waits for them.
_BLOCKED = ("cluster_block_exception", "index_closed_exception")
_T = TypeVar("_T")


class Result(NamedTuple):
    """Result of a report: that of `reports.compare`, "early", or the reason of a dead letter.

    `document` is the labelled one, if there is one.
    """

    report: Report
    result: str
    document: LoggedRequest | None = None
    explanation: str = ""


class Join:
    """Joins batches of reports, one at a time.

    Args:
        wait: waits before a retry; is given the attempt (from 0), the cause and the number of labels. Raises
            `Interrupted` if there is no point in waiting.
    """

    def __init__(self, store: LabelStore, wait: Callable[[int, str, int], None]) -> None:
        self._store = store
        self._wait = wait

    def join(self, reports: Sequence[Report]) -> list[Result]:
        """One result for each report, in any order.

        Raises:
            Interrupted: while Elasticsearch was unavailable; joining the same reports again is harmless.
        """
        results: list[Result] = []
        waiting = list(reports)
        while waiting:
            found, waiting = self._join(waiting)
            results += found
        return results

    def _join(self, reports: Sequence[Report]) -> tuple[list[Result], list[Report]]:
        """Results, and the reports that have to be joined after all because the one that beat them was rejected."""
        by_request: defaultdict[str, list[Report]] = defaultdict(list)
        for report in reports:
            by_request[report.request_id].append(report)
        documents: defaultdict[str, list[LoggedRequest]] = defaultdict(list)
        for document in self.retry(lambda: self._store.find(list(by_request)), len(reports)):
            documents[document.request_id].append(document)
        results: list[Result] = []
        wanted: list[tuple[LoggedRequest, Report]] = []
        beaten: dict[int, list[Report]] = {}
        for request_id, ones in by_request.items():
            for name, same_model in _by_model(ones).items():
                found = [one for one in documents[request_id] if one.model == name]
                if not found and documents[request_id]:
                    model = documents[request_id][0].model
                    results += [Result(one, WRONG_MODEL, None, f"the request was for {model}") for one in same_model]
                elif not found:
                    results += [Result(one, EARLY) for one in same_model]
                else:
                    winner = max(same_model, key=lambda report: report.rank)
                    wanted += [(document, winner) for document in found]
                    beaten[id(winner)] = [one for one in same_model if one is not winner]
        again: list[Report] = []
        for result in self._write(wanted):
            results.append(result)
            others = beaten[id(result.report)]
            if result.result == REJECTED:
                again += others
            else:
                held = result.report.rank
                results += [Result(one, compare(held, one)) for one in others]
        return results, again

    def retry(self, call: Callable[[], _T], labels: int) -> _T:
        """Repeat a call until it succeeds; return its result.

        Raises:
            Interrupted: see `wait`.
        """
        attempt = 0
        while True:
            try:
                return call()
            except FAILURES as error:
                if attempt == 0 and (reason := error_reason(error)):
                    log_event("label-joiner", "refused", cause=error_label(error), reason=reason)
                self._wait(attempt, error_label(error), labels)
                attempt += 1

    def _write(self, wanted: list[tuple[LoggedRequest, Report]]) -> list[Result]:
        done: dict[int, list[Result]] = defaultdict(list)
        attempt = 0
        while wanted:
            decided = [(document, report, compare(document.held, report)) for document, report in wanted]
            for document, report, result in decided:
                if not counts_more(document.held, report):
                    done[id(report)].append(Result(report, result, document))
            changes = [one for one in decided if counts_more(one[0].held, one[1])]
            if not changes:
                break
            pairs = [(document, report) for document, report, _ in changes]
            items = self.retry(lambda pairs=pairs: self._store.write(pairs), len(pairs))  # type: ignore[misc]
            stale: list[tuple[LoggedRequest, Report]] = []
            wanted, cause, reason = [], "", ""
            for (document, report, result), item in zip(changes, items, strict=True):
                if item.status < 300:
                    done[id(report)].append(Result(report, result, document))
                elif item.status in (404, 409):
                    stale.append((document, report))
                elif item.status == 403 or item.error_type in _BLOCKED:
                    why = f"index {document.index_name} takes no label: {describe_refusal(item.error)}"
                    done[id(report)].append(Result(report, EARLY, None, why))
                elif item.status == 400 and item.error_type in _DOCUMENT_ERRORS:
                    done[id(report)].append(Result(report, REJECTED, document, describe_error(item.error)))
                else:
                    wanted.append((document, report))
                    cause, reason = str(item.status), describe_refusal(item.error)
            if attempt == 0 and reason:
                log_event("label-joiner", "refused", cause=cause, reason=reason)
            if wanted or (stale and attempt):
                self._wait(attempt, cause or "conflict", len(wanted) + len(stale))
            attempt += 1
            if stale:
                again = self.retry(lambda stale=stale: self._store.reread([one for one, _ in stale]), len(stale))  # type: ignore[misc]
                for present, (_, report) in zip(again, stale, strict=True):
                    if present is None:
                        done[id(report)].append(Result(report, EARLY))
                    else:
                        wanted.append((present, report))
        return [min(results, key=lambda one: _ORDER.index(one.result)) for results in done.values()]


def _by_model(reports: Sequence[Report]) -> dict[str, list[Report]]:
    found: defaultdict[str, list[Report]] = defaultdict(list)
    for report in reports:
        found[report.model].append(report)
    return found
