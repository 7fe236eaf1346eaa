"""`trigger_retraining` on real degradations: quiet while nothing changes, and a better champion once something does."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inflight.settings import Settings
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.retraining.decision import Decision
from machine_learning_engineering.retraining.trigger import SIGNIFICANCE
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from model.diamonds.model import Diamonds
from model.reviews.model import CANDIDATES, Reviews
from model.titanic.model import Titanic
from tests.support.doses import FULL

WINDOWS = 50 if FULL else 10
ROWS = 600
TRAINED = 16_000
LOOSE = SIGNIFICANCE if FULL else 0.01
"""Of tests that reject in any case: a fifth of the permutations."""


class QuickDiamonds(Diamonds):
    def new_estimator(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(
            loss="gamma", max_iter=40, max_leaf_nodes=63, learning_rate=0.15, early_stopping=False, random_state=seed
        )


class QuickReviews(Reviews):
    def new_estimator(self, seed: int) -> Any:
        return CANDIDATES[0].estimator(None, seed)


class Serving:
    """A champion of a registry in a folder, and what it answered."""

    def __init__(self, model_class: type[MLEModel], home: Path) -> None:
        self.model_class = model_class
        self.settings = Settings(home=home, _env_file=None)
        self.registry = Registry(self.settings.registry_dir)
        self._logs = 0

    def look(self, examples: Sequence[Example], /, *, labelled: bool = True, **options: Any) -> Decision:
        """Answer examples, report their labels or not, and let retraining be triggered on a log of these alone."""
        champion = self.registry.open(self.model_class.name, model_class=self.model_class)
        ids = [str(number) for number in range(len(examples))]
        self._logs += 1
        with SqlitePredictionLog(self.settings.home / f"log-{self._logs}.sqlite") as log:
            champion.predict_with_logging([example.features for example in examples], log, request_ids=ids)
            labels = dict(zip(ids, [example.label for example in examples], strict=True)) if labelled else None
            return self.model_class.trigger_retraining(log, labels, settings=self.settings, **options)


@pytest.fixture(scope="module")
def diamonds() -> list[Example]:
    """All of them, shuffled: windows that follow one another differ by chance alone."""
    examples = list(Diamonds.examples())
    return [examples[index] for index in np.random.default_rng(1).permutation(len(examples)).tolist()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, diamonds: list[Example]) -> Path:
    home: Path = tmp_path_factory.mktemp("retraining")
    train(QuickDiamonds, Settings(home=home, _env_file=None), examples=diamonds[:TRAINED])
    return home


@pytest.fixture
def serving(trained: Path, tmp_path: Path) -> Serving:
    return Serving(QuickDiamonds, Path(shutil.copytree(trained, tmp_path / "home")))


@pytest.fixture
def fresh(diamonds: list[Example]) -> list[Example]:
    return diamonds[TRAINED + WINDOWS * ROWS :][:3_000]


def windows(diamonds: list[Example]) -> Iterator[list[Example]]:
    for start in range(TRAINED, TRAINED + WINDOWS * ROWS, ROWS):
        yield diamonds[start : start + ROWS]


@pytest.mark.parametrize("labelled", [True, False], ids=["by-metric", "by-drift"])
def test_undisturbed_windows_trigger_nothing(serving: Serving, diamonds: list[Example], labelled: bool) -> None:
    decisions = [serving.look(window, labelled=labelled) for window in windows(diamonds)]
    assert [(one.outcome, one.significance) for one in decisions] == [("kept", SIGNIFICANCE)] * WINDOWS
    assert all((one.evidence.metric is not None) == labelled for one in decisions)
    assert all(one.evidence.drift is not None and one.evidence.drift.rows == ROWS for one in decisions)
    assert serving.registry.versions("diamonds") == ["v1"]


def dearer(example: Example) -> Example:
    """As in a year in which everything costs two fifths more."""
    return Example(example.features, example.label * 1.4)


def in_grams(example: Example) -> Example:
    """As from a producer who sends the weight in grams, not in carats of 0.2 g."""
    return Example(example.features | {"carat": example.features["carat"] * 0.2}, example.label)


@pytest.mark.parametrize("disturb", [dearer, in_grams], ids=["dearer", "in-grams"])
def test_a_disturbed_window_leads_to_a_challenger_that_a_person_may_promote(
    serving: Serving, fresh: list[Example], disturb: Callable[[Example], Example]
) -> None:
    disturbed = [disturb(example) for example in fresh]
    decision = serving.look(disturbed[:2_000], promote=True, significance=LOOSE)
    assert (decision.outcome, decision.error) == ("rejected", "")
    assert serving.registry.aliases("diamonds") == {"champion": "v1", "challenger": "v2"}
    assert decision.evidence.metric is not None
    assert decision.evidence.metric.significant
    assert decision.gate is not None
    assert decision.gate.significant
    # What has changed for good and what is wrongly labelled look the same.
    assert decision.held_out_gate is not None
    assert decision.held_out_gate.significant
    serving.registry.promote("diamonds", "v2")
    # Rows that neither model has seen, not even to decide between them.
    rest = disturbed[2_000:]
    mae = {version: _mae(serving, version, rest) for version in ("v1", "v2")}
    assert mae["v2"] < mae["v1"] / 2
    assert serving.registry.rollback("diamonds") == "v1"


def test_inputs_in_another_unit_are_found_without_labels_and_named(serving: Serving, fresh: list[Example]) -> None:
    decision = serving.look([in_grams(example) for example in fresh[:ROWS]], labelled=False)
    assert decision.outcome == "retraining_due"
    assert decision.evidence.drift is not None
    assert set(decision.evidence.drift.drifted) == {"features.carat", "predictions.price"}
    assert serving.registry.versions("diamonds") == ["v1"]


def test_prices_of_another_year_cannot_be_seen_without_labels(serving: Serving, fresh: list[Example]) -> None:
    """What changes in the answers alone shows only in the labels: the reason to collect them."""
    assert serving.look([dearer(example) for example in fresh[:ROWS]], labelled=False).outcome == "kept"


def _mae(serving: Serving, version: str, examples: list[Example]) -> float:
    import msgspec

    model = serving.registry.open("diamonds", version, model_class=QuickDiamonds)
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    return model.evaluate(model.predict(rows), [example.label for example in examples])["mae"]


def test_reviews_of_products_then_of_films(tmp_path: Path) -> None:
    serving = Serving(QuickReviews, tmp_path)
    products = list(Reviews.examples())
    some = np.random.default_rng(1).permutation(len(products))[: None if FULL else 3_000].tolist()
    train(QuickReviews, serving.settings, examples=[products[index] for index in some])
    films = list(Reviews.shifted_examples())
    order = np.random.default_rng(1).permutation(len(films))[:1_600].tolist()
    shifted = [films[index] for index in order]
    unlabelled = serving.look(shifted, labelled=False)
    assert unlabelled.outcome == "retraining_due"
    assert unlabelled.evidence.drift is not None
    assert "features.text" in unlabelled.evidence.drift.drifted
    decision = serving.look(shifted, promote=True, significance=LOOSE)
    # Of films alone one learns nothing about products.
    assert (decision.outcome, decision.error) == ("rejected", ""), decision.reason
    assert decision.gate is not None
    assert decision.gate.significant
    assert decision.held_out_gate is not None
    assert decision.held_out_gate.significant
    assert serving.registry.aliases("reviews") == {"champion": "v1", "challenger": "v2"}


@pytest.mark.parametrize("honest", [0, 1, 4], ids=["all false", "half false", "a fifth false"])
def test_inverted_labels_do_not_replace_a_model_by_its_opposite(tmp_path: Path, honest: int) -> None:
    """Somebody sends each passenger twice, with another fare, and reports the opposite of what happened."""
    serving = Serving(Titanic, tmp_path)
    train(Titanic, serving.settings)
    random = np.random.default_rng(3)
    reported = []
    for copy in range(1 + honest if honest else 2):
        for example in Titanic.examples():
            fare = round(example.features["fare"] * random.uniform(0.97, 1.03), 4)
            label = example.label if copy < honest else not example.label
            reported.append(Example(example.features | {"fare": fare}, label))
    decision = serving.look(reported, promote=True)
    assert decision.outcome in ("kept", "rejected"), decision.reason
    assert decision.error == ""
    assert serving.registry.champions() == {"titanic": "v1"}
    if not honest:
        assert decision.gate is not None
        assert decision.gate.significant
        assert decision.held_out_gate is not None
        assert decision.held_out_gate.reference < 0.3 < 0.8 < decision.held_out_gate.observed
