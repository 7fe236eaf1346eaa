"""Data for the figures of drift: splits of a dataset, a model of each, and the log that its worker would write."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.events.schemas import DriftMeasured, PredictionLogged, encode
from machine_learning_engineering.registry.profiles import ProfileCache
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from model.diamonds.model import Diamonds
from model.reviews.dataset import sentences, stars
from model.reviews.model import CANDIDATES, Reviews
from monitoring.drift.batch import read_batch
from monitoring.drift.measurement import measure
from monitoring.drift.windows import Limits, Windows

SIGNIFICANCE = 0.01
MIN_PSI = 0.1
START = datetime(2026, 3, 1, tzinfo=UTC)
Features = dict[str, Any]


class QuickDiamonds(Diamonds):
    """With an estimator that is fitted in seconds."""

    def new_estimator(self, seed: int) -> Any:
        """Fewer trees."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(loss="gamma", max_iter=40, learning_rate=0.15, random_state=seed)


class QuickReviews(Reviews):
    """With an estimator that is fitted in seconds."""

    def new_estimator(self, seed: int) -> Any:
        """The first candidate."""
        return CANDIDATES[0].estimator(None, seed)


class Record(NamedTuple):
    """A Kafka record, as far as it is read here."""

    bytes: bytes
    number: int

    def value(self) -> bytes:
        return self.bytes

    def offset(self) -> int:
        return self.number

    def partition(self) -> int:
        return 0


class Served:
    """A champion, trained on some examples, and what its worker would log of other requests."""

    def __init__(self, model: type[MLEModel], examples: Sequence[Example], home: Path) -> None:
        settings = Settings(home=home, _env_file=None)  # type: ignore[call-arg]
        train(model, settings, examples=examples)
        self._model = Registry(settings.registry_dir).open(model.name, model_class=model)
        self.references = ProfileCache(settings.registry_dir)
        found = self.references.get(model.name, self._model.version)
        assert found is not None
        self.fields = len(found.profile.features) + len(found.profile.predictions)

    def records(self, rows: Sequence[Features]) -> list[Record]:
        """The log of these requests, in their order."""
        raw = [msgspec.json.encode(row) for row in rows]
        answers = self._model.predict([self._model.decode(features) for features in raw])
        return [
            Record(self._logged(number, features, answer), number)
            for number, (features, answer) in enumerate(zip(raw, answers, strict=True))
        ]

    def _logged(self, number: int, features: bytes, answer: Any) -> bytes:
        at = START + timedelta(milliseconds=number)
        return encode(
            PredictionLogged(
                request_id=f"request-{number}",
                model=self._model.name,
                outcome="completed",
                features=Raw(features),
                requested_at=at,
                accepted_at=at,
                completed_at=at,
                queue_seconds=0.001,
                score_seconds=0.001,
                total_seconds=0.002,
                batch_size=64,
                partition=0,
                offset=number,
                model_version=self._model.version,
                prediction=Raw(msgspec.json.encode(answer)),
                traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
        )

    def windows(self, rows: Sequence[Features], size: int, min_psi: float = MIN_PSI) -> list[DriftMeasured]:
        """The measurements of windows of so many rows."""
        return list(watch(self.records(rows), self.references, size, min_psi))


def watch(records: Sequence[Record], references: ProfileCache, size: int, min_psi: float) -> Iterator[DriftMeasured]:
    """The drift monitor's work on records, in batches as it fetches them, including its states."""
    windows = Windows(references, Limits(size, timedelta(days=1), 1, 1e9))
    for at in range(0, len(records), 4_000):
        for closed in windows.add(read_batch(records[at : at + 4_000])):  # type: ignore[arg-type]
            yield measure(closed, significance=SIGNIFICANCE, min_psi=min_psi)
        msgspec.json.encode(windows.state(0))


class Data(NamedTuple):
    """How a dataset is split: rows to train on, rows of a window, shuffled examples."""

    model: type[MLEModel]
    trained: int
    size: int
    examples: list[Example]

    def split(self, number: int) -> tuple[list[Example], list[Features]]:
        """Examples to train on, and the features of all others, in a random order."""
        order = np.random.default_rng(number).permutation(len(self.examples)).tolist()
        rows = [self.examples[index] for index in order]
        return rows[: self.trained], [row.features for row in rows[self.trained :]]


def diamonds() -> Data:
    """53,940 diamonds: 20,000 to train on, windows of 1,000."""
    return Data(QuickDiamonds, 20_000, 1_000, list(Diamonds.examples()))


def amazon() -> Data:
    """3,708 sentences about products, each as a review: 2,000 to train on, windows of 200."""
    found = [Example({"title": None, "text": one.text}, round(stars(one.rating), 3)) for one in sentences()]
    return Data(QuickReviews, 2_000, 200, found)
