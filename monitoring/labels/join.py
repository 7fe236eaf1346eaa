"""Joining labels to the log, whatever the search node does meanwhile: every report gets one result, or is interrupted.

The outcome is the same in any order of reports and however often each comes: of the labels of a request the one
observed last stays. What a search does not find yet is "early", which is no error.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from monitoring.labels.reports import REJECTED, WRONG_MODEL, Report, compare, latest
from monitoring.labels.store import Logged, Written
from monitoring.runtime.retry import FAILURES, cause_of

EARLY = "early"
# What is done to several documents of one request is told by the first of these that was done to any.
_ORDER = ("joined", "replaced", REJECTED, "repeated", "superseded", EARLY)
# Other errors with status 400 are about the index or the cluster, and pass.
_ABOUT_THE_DOCUMENT = ("document_parsing_exception", "mapper_parsing_exception", "illegal_argument_exception")
_T = TypeVar("_T")


class Interrupted(Exception):
    """The process stops, or its partitions are taken away: what is unfinished is read again later."""


class Patience(Protocol):
    """Waits between two attempts."""

    def wait(self, attempt: int, cause: str, labels: int) -> None:
        """Wait for a while, longer for later attempts, which count from 0.

        Raises:
            Interrupted: there is no point in waiting.
        """


class Store(Protocol):
    """What is needed of `store.LabelStore`."""

    def find(self, request_ids: Sequence[str]) -> list[Logged]: ...
    def look_again(self, documents: Sequence[Logged]) -> list[Logged | None]: ...
    def write(self, labels: Sequence[tuple[Logged, Report]]) -> list[Written]: ...


class Result(NamedTuple):
    """What became of a report: a result of `reports.compare`, "early", or the reason of a dead letter.

    `document` is the one that was labelled, where one was.
    """

    report: Report
    result: str
    document: Logged | None = None
    explanation: str = ""


class Join:
    """Joins batches of reports, one at a time."""

    def __init__(self, store: Store, patience: Patience) -> None:
        self._store = store
        self._patience = patience

    def join(self, reports: Sequence[Report]) -> list[Result]:
        """One result for each report, in any order.

        Raises:
            Interrupted: while the search node was away; joining the same reports again is harmless.
        """
        results: list[Result] = []
        waiting = list(reports)
        while waiting:
            found, waiting = self._join(waiting)
            results += found
        return results

    def _join(self, reports: Sequence[Report]) -> tuple[list[Result], list[Report]]:
        """Results, and the reports that are to be joined after all, since the one before them was refused."""
        by_request: defaultdict[str, list[Report]] = defaultdict(list)
        for report in reports:
            by_request[report.request_id].append(report)
        documents: defaultdict[str, list[Logged]] = defaultdict(list)
        for document in self.ask(lambda: self._store.find(list(by_request)), len(reports)):
            documents[document.request_id].append(document)
        results: list[Result] = []
        wanted: list[tuple[Logged, Report]] = []
        beaten: dict[int, list[Report]] = {}
        for request_id, ones in by_request.items():
            for same_model in _by_model(ones).values():
                winner = latest(same_model)
                found = [one for one in documents[request_id] if one.model == winner.model]
                others = [one for one in same_model if one is not winner]
                if not found and documents[request_id]:
                    model = documents[request_id][0].model
                    results += [Result(one, WRONG_MODEL, None, f"the request was for {model}") for one in same_model]
                elif not found:
                    results += [Result(one, EARLY) for one in same_model]
                else:
                    wanted += [(document, winner) for document in found]
                    beaten[id(winner)] = others
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

    def ask(self, question: Callable[[], _T], labels: int) -> _T:
        """The answer to a question, asked until there is one.

        Raises:
            Interrupted: see `Patience`.
        """
        attempt = 0
        while True:
            try:
                return question()
            except FAILURES as error:
                self._patience.wait(attempt, cause_of(error), labels)
                attempt += 1

    def _write(self, wanted: list[tuple[Logged, Report]]) -> list[Result]:
        done: dict[int, list[Result]] = defaultdict(list)
        attempt = 0
        while wanted:
            decided = [(document, report, compare(document.held, report)) for document, report in wanted]
            for document, report, result in decided:
                if result in ("repeated", "superseded"):
                    done[id(report)].append(Result(report, result, document))
            changes = [(document, report, result) for document, report, result in decided if _is_change(result)]
            if not changes:
                break
            pairs = [(document, report) for document, report, _ in changes]
            answers = self.ask(lambda pairs=pairs: self._store.write(pairs), len(pairs))  # type: ignore[misc]
            stale: list[tuple[Logged, Report]] = []
            wanted, cause = [], ""
            for (document, report, result), answer in zip(changes, answers, strict=True):
                if answer.status < 300:
                    done[id(report)].append(Result(report, result, document))
                elif answer.status in (404, 409):
                    stale.append((document, report))
                elif answer.status == 400 and answer.error.startswith(_ABOUT_THE_DOCUMENT):
                    done[id(report)].append(Result(report, REJECTED, document, answer.error))
                else:
                    wanted.append((document, report))
                    cause = str(answer.status)
            if wanted or (stale and attempt):
                self._patience.wait(attempt, cause or "conflict", len(wanted) + len(stale))
            attempt += 1
            if stale:
                again = self.ask(lambda stale=stale: self._store.look_again([one for one, _ in stale]), len(stale))  # type: ignore[misc]
                for present, (_, report) in zip(again, stale, strict=True):
                    if present is None:
                        done[id(report)].append(Result(report, EARLY))
                    else:
                        wanted.append((present, report))
        return [min(results, key=lambda one: _ORDER.index(one.result)) for results in done.values()]


def _is_change(result: str) -> bool:
    return result in ("joined", "replaced")


def _by_model(reports: Sequence[Report]) -> dict[str, list[Report]]:
    found: defaultdict[str, list[Report]] = defaultdict(list)
    for report in reports:
        found[report.model].append(report)
    return found
