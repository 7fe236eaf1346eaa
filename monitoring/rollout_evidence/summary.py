"""`summarize`: the evidence in what was collected. Pure: the same records and the same time give the same evidence."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from machine_learning_engineering.drift.profile import Field, NumericHistogram
from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.rollout.comparison import Value, path_of
from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence, PairEvidence
from monitoring.rollout_evidence.answers import Answer, Label, Pair
from monitoring.rollout_evidence.losses import Losses
from monitoring.rollout_evidence.records import Records
from monitoring.rollout_evidence.sample import Sample

MAX_AHEAD = timedelta(hours=1)
"""A label that was observed this long after now is not used."""
FIRST_ANSWERS = 1_000
"""Answers of the champion by whose quantiles predictions are counted, where it has no profile."""
BINS = 10
CATEGORIES = 50
_QUANTILE = 0.99

_Start = tuple[float, int]
"""Acceptance of a request, and the hash of its id: where the warm-up ends."""
_Ordered = list[tuple[int, Answer]]


def summarize(records: Records, losses: Losses, now: datetime, profile: Mapping[str, Field] | None = None) -> Evidence:
    """The evidence of a stage.

    Args:
        records: What was collected.
        losses: Computes losses that are not known yet.
        now: Requests whose labels are due by then are mature.
        profile: The fields of the champion's predictions in its reference profile.
    """
    return _Summary(records, losses, now).evidence(profile or {})


class _Summary:
    def __init__(self, records: Records, losses: Losses, now: datetime) -> None:
        self._records, self._losses = records, losses
        self._rollout = records.rollout
        self._latest = now + MAX_AHEAD
        self._mature = now.timestamp() - self._rollout.policy.label_delay
        self._future: set[int] = set()

    def evidence(self, profile: Mapping[str, Field]) -> Evidence:
        records, rollout = self._records, self._rollout
        start = warm_up_end(records)
        champion, challenger = _after(records.champion, start), _after(records.challenger, start)
        bins = Bins([answer for _, answer in champion], profile)
        return Evidence(
            champion=self._arm(rollout.champion, champion, bins, records.champion.share),
            challenger=self._arm(rollout.challenger, challenger, bins, records.challenger.share),
            pairs=self._pairs(start),
            expected_share=self._rollout.percent / 100,
            labels_from_the_future=records.from_the_future + len(self._future),
            labels_unknown=records.unknown,
        )

    def _arm(self, version: str, answers: _Ordered, bins: "Bins", share: float) -> ArmEvidence:
        counted = [answer for _, answer in answers if answer.outcome != "rejected"]
        mature = labelled = 0
        loss = Moments()
        for key, answer in answers:
            if answer.outcome != "completed" or answer.accepted > self._mature:
                continue
            mature += 1
            found = self._loss(key, answer, version)
            if found is not None:
                labelled += 1
                loss = loss.add(found)
        return ArmEvidence(
            version=version,
            requests=len(counted),
            errors=sum(answer.outcome == "failed" for answer in counted),
            invalid=sum(answer.outcome == "invalid" for answer in counted),
            latency_p99=quantile([answer.seconds for answer in counted if answer.seconds is not None], _QUANTILE),
            memory_bytes=self._records.memory.get(version),
            predictions=bins.count(answer.value for answer in counted),
            mature=mature,
            labelled=labelled,
            loss=loss,
            units=sum(unit.version == version for _, unit in self._records.units.items()),
            share=share,
        )

    def _pairs(self, start: _Start) -> PairEvidence:
        dropped = pairs = different = labelled = better = worse = 0
        distance, loss = Moments(), Moments()
        for key, pair in sorted(self._records.pairs.items(), key=_by_key):
            if (pair.accepted, key) <= start:
                continue
            if pair.dropped:
                dropped += 1
                continue
            pairs += 1
            different += pair.different
            if pair.distance is not None:
                distance = distance.add(pair.distance)
            if pair.accepted > self._mature or (losses := self._losses_of(key, pair)) is None:
                continue
            labelled += 1
            better += losses[1] < losses[0]
            worse += losses[1] > losses[0]
            loss = loss.add(losses[1] - losses[0])
        return PairEvidence(
            pairs=pairs,
            dropped=dropped,
            different=different,
            difference=distance,
            labelled=labelled,
            better=better,
            worse=worse,
            loss=loss,
        )

    def _label(self, key: int, accepted: float) -> Label | None:
        """The label of a request, if it can have been observed by now."""
        label = self._records.labels.get(key)
        if label is None:
            return None
        if label.observed_at > self._latest or label.observed_at.timestamp() < accepted:
            self._future.add(key)
            return None
        return label

    def _loss(self, key: int, answer: Answer, version: str) -> float | None:
        label = self._label(key, answer.accepted)
        if label is None:
            return None
        if answer.judged is not label:
            answer.loss = self._losses.loss(self._rollout.model, version, answer.prediction, label.text)
            answer.judged = label
        return answer.loss

    def _losses_of(self, key: int, pair: Pair) -> tuple[float, float] | None:
        label = self._label(key, pair.accepted)
        if label is None:
            return None
        if pair.judged is not label:
            model = self._rollout.model
            champion = self._losses.loss(model, self._rollout.champion, pair.champion, label.text)
            challenger = self._losses.loss(model, self._rollout.challenger, pair.challenger, label.text)
            pair.losses = None if champion is None or challenger is None else (champion, challenger)
            pair.judged = label
        return pair.losses


def warm_up_end(records: Records) -> _Start:
    """Where the challenger has answered its first `warm_up_requests`: what both arms did before does not count.

    Both arms have one end, so that they are compared over the same time. Until the challenger has answered that number,
    nothing counts but the split.
    """
    needed = records.rollout.policy.warm_up_requests
    if needed == 0:
        return (-math.inf, 0)
    answered = sorted((answer.accepted, key) for key, answer in records.challenger.items())
    return answered[needed - 1] if len(answered) >= needed else (math.inf, 0)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values do not exceed; None without values."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else None


class Bins:
    """Bins of predictions that both arms share.

    Numbers are counted in the bins of the champion's profile, or by the quantiles of its first answers; texts and truth
    values by the most frequent ones of those.

    Args:
        champion: Its answers.
        profile: Fields of its predictions, by path.
    """

    def __init__(self, champion: Sequence[Answer], profile: Mapping[str, Field]) -> None:
        answers = sorted((one for one in champion if one.value is not None), key=lambda one: (one.accepted, one.rank))
        first = answers[:FIRST_ANSWERS]
        numbers = sorted(one.value for one in first if isinstance(one.value, float))
        counts = Counter(one.value for one in first if isinstance(one.value, str))
        self._is_known = bool(first)
        self._is_numeric = len(numbers) >= counts.total()
        self._edges = _edges(first, numbers, profile) if self._is_numeric and numbers else []
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CATEGORIES]
        self._categories = {value: number for number, (value, _) in enumerate(most)}

    def count(self, values: Iterable[Value | None]) -> tuple[int, ...]:
        """The number of values in each bin; the last one is of other categories. Empty without any bins."""
        if not self._is_known:
            return ()
        if self._is_numeric:
            counts = [0] * (len(self._edges) + 1)
            for value in values:
                if isinstance(value, float):
                    counts[bisect_right(self._edges, value)] += 1
            return tuple(counts)
        counts = [0] * (len(self._categories) + 1)
        for value in values:
            if value is not None:
                counts[self._categories.get(str(value), len(self._categories))] += 1
        return tuple(counts)


def _edges(first: Sequence[Answer], numbers: Sequence[float], profile: Mapping[str, Field]) -> list[float]:
    field = profile.get(path_of(first[0].prediction) or "")
    if isinstance(field, NumericHistogram) and field.edges:
        return field.edges
    return sorted({numbers[len(numbers) * number // BINS] for number in range(1, BINS)})


def _after(sample: Sample[Answer], start: _Start) -> _Ordered:
    """The answers after the warm-up, in an order that depends on the requests alone."""
    return [(key, answer) for key, answer in sorted(sample.items(), key=_by_key) if (answer.accepted, key) > start]


def _by_key(item: tuple[int, object]) -> int:
    return item[0]
