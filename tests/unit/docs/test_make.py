"""The requests of the pictures."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from docs.pictures import make
from inflight.settings import Settings
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.evaluation.splits import split
from machine_learning_engineering.training.layers import validate
from machine_learning_engineering.training.sources import collect
from model.titanic import Titanic
from producers.labels import RequestLabel
from producers.sources import Request

FAMILY = {"sibsp": 0, "parch": 0}


class Passengers(Titanic):
    """A hundred passengers, of whom each two that follow one another paid the same fare at the same age."""

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        for number in range(100):
            features = {"pclass": 3, "sex": "male", "age": 20.0, "fare": float(number // 2), **FAMILY}
            yield Example(features, number % 3 == 0)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a home where passengers are the only dataset."""
    monkeypatch.setattr(make, "available", lambda: {"titanic": Passengers})
    return Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]


def test_no_training_fits_on_a_request(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the answers would look better than they are. Each request gets its label."""
    sent: list[dict[str, Any]] = []
    labelled: list[RequestLabel] = []

    def replay(_: Settings, requests: Iterable[Request], **__: Any) -> None:
        sent.extend(request.features for request in requests)

    def publish_labels(_: Settings, labels: Iterable[RequestLabel], **__: Any) -> None:
        labelled.extend(labels)

    monkeypatch.setattr(make, "replay", replay)
    monkeypatch.setattr(make, "publish_labels", publish_labels)
    records = validate(Passengers(), collect(Passengers, settings, ["dataset"]).records)
    rows = list(Passengers.examples())
    fitted = [rows[number].features for number in split(len(rows), settings.seed, records.groups)[0]]

    kept = make.held_out(settings, "titanic")
    make.play(settings, datetime.now(UTC) - timedelta(hours=1), "titanic", kept, 0.0, 20.0, [])

    assert len(sent) == len(labelled) == 20 * make.RATES["titanic"] > len(kept)
    assert not [one for one in sent if one in fitted]
