"""Failures of a training: what fails alone is left out, and whatever fails leaves the champion as it is."""

import errno

import pytest

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.datasets import DatasetUnavailable
from machine_learning_engineering.evaluation.estimates import Estimate, FitFailed
from machine_learning_engineering.evaluation.metrics import classification_metrics
from machine_learning_engineering.evaluation.splits import split, split_key
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training import pipeline
from machine_learning_engineering.training import run_log as training_log
from machine_learning_engineering.training.pipeline import run_training

pytest.importorskip("pyarrow")
pytest.importorskip("optuna")


def ridge(params, seed):
    from sklearn.linear_model import Ridge

    return Ridge(alpha=params["alpha"], random_state=seed)


def failing(params, seed):
    raise ZeroDivisionError("no memory for trees")


@pytest.fixture
def champion(compared_class, settings):
    """Answers whether the champion is the one of the beginning, and opens."""
    first = run_training(compared_class, settings)

    def stays() -> bool:
        registry = Registry(settings.registry_dir)
        registry.open("doubler", model_class=compared_class)
        return registry.champions() == {"doubler": first.version}

    return stays


def last_entry(settings) -> training_log.TrainingEntry:
    return list(training_log.read(settings.training_log))[-1]


def test_bad_data_is_logged_and_the_champion_stays(compared_class, settings, champion):
    with pytest.raises(InvalidFeatures, match=r"1 of 21 records are invalid:\nexamples line 21: feature `number`"):
        run_training(
            compared_class, settings, examples=[*[Example({"number": n}, n) for n in range(20)], Example({}, 1)]
        )
    failed = last_entry(settings)
    assert (failed.outcome, failed.version) == ("failed", "")
    assert failed.error.startswith("BadData: 1 of 21 records")
    assert list(failed.layers) == ["bronze"]
    assert champion()


def test_too_few_rows_are_an_error(compared_class, settings, champion):
    with pytest.raises(ValueError, match="2 rows are too few to train on"):
        run_training(compared_class, settings, examples=[Example({"number": n}, n) for n in range(2)])
    with pytest.raises(ValueError, match="different rows are too few for 5 folds"):
        run_training(compared_class, settings, examples=[Example({"number": n}, n) for n in range(4)])
    assert champion()


def test_where_all_candidates_fail_each_is_named_and_the_champion_stays(settings, champion, one_of_a_kind):
    one, other = Candidate("broken", failing), Candidate("other", lambda params, seed: None)
    with pytest.raises(FitFailed, match="candidate broken failed: ZeroDivisionError: no memory for trees"):
        run_training(one_of_a_kind(one), settings)
    assert last_entry(settings).error.startswith("FitFailed: candidate broken failed")
    with pytest.raises(FitFailed, match=r"(?s)no candidate could be trained.*broken failed.*other failed"):
        run_training(one_of_a_kind(one, other), settings)
    assert [failed.candidate for failed in last_entry(settings).failed_candidates] == ["broken", "other"]
    assert champion()


class Unpicklable:
    """A fitted estimator that the registry can't keep."""

    def fit(self, columns, labels):
        return self

    def predict(self, columns):
        return columns[:, 0] * 2


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Candidate("broken", failing), "ZeroDivisionError: no memory for trees"),
        (Candidate("broken", lambda params, seed: Unpicklable()), "types that are not trusted"),
        (
            Candidate("broken", ridge, {}, lambda trial: {"beta": trial.suggest_float("beta", 0, 1)}, trials=3),
            "'alpha'",
        ),
    ],
    ids=["fit", "save", "search"],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_failing_candidate_is_reported_and_left_out(settings, compared_class, one_of_a_kind, broken, why, last):
    """Whichever place it has among the others; every fit is still accounted for."""
    steps = []
    candidates = [*compared_class.compared, broken] if last else [broken, *compared_class.compared]
    entry = run_training(one_of_a_kind(*candidates), settings, on_progress=lambda *step: steps.append(step))
    assert (entry.outcome, entry.promoted) == ("completed", True)
    assert [model.candidate for model in entry.models] == ["mean", "ridge"]
    [failed] = entry.failed_candidates
    assert failed.candidate == "broken"
    assert why in failed.error
    assert list(training_log.read(settings.training_log)) == [entry]
    assert steps[-1][1] == steps[-1][2]
    best = Registry(settings.registry_dir).open("doubler", model_class=one_of_a_kind(*candidates))
    assert best.estimator.alpha == entry.models[1].params["alpha"]


def test_params_that_are_objects_are_used_as_they_are_and_logged_as_text(settings, one_of_a_kind):
    """As a search suggests them, or as defaults; a missing value may be NaN."""
    used = []

    class Kernel:
        def __repr__(self):
            return "Kernel()"

    def make(params, seed):
        used.append(params)
        return ridge({"alpha": 1.0}, seed)

    kernel = Kernel()
    objects = Candidate(
        "objects",
        make,
        {"missing": float("nan")},
        lambda trial: {"kernel": kernel, "x": trial.suggest_int("x", 1, 9)},
        2,
    )
    entry = run_training(one_of_a_kind(objects), settings)
    assert any(params.get("kernel") is kernel for params in used)
    [logged] = training_log.read(settings.training_log)
    assert (logged, logged.outcome, logged.promoted) == (entry, "completed", True)
    assert logged.models[0].params["missing"] == "nan"
    assert {trial.params.get("kernel") for trial in logged.models[0].trials} == {None, "Kernel()"}
    assert Registry(settings.registry_dir).champions() == {"doubler": "v1"}


def test_an_entry_that_can_not_be_written_leaves_one_of_the_failure(settings, compared_class, champion, monkeypatch):
    """Whatever may yet be found that JSON can't hold."""
    monkeypatch.setattr(pipeline, "bootstrap_estimate", lambda *a, **o: {"r2": Estimate(0.5, float("nan"), 1.0, 0.1)})
    with pytest.raises(ValueError, match="not finite"):
        run_training(compared_class, settings)
    failed = last_entry(settings)
    assert (failed.outcome, failed.promoted, failed.held_out) == ("failed", False, {})
    assert failed.error.startswith("ValueError: a number is not finite")
    assert champion()


def test_a_metric_that_some_rows_do_not_define_does_not_end_the_training(settings, doubler_class):
    class Partly(doubler_class):
        def evaluate(self, predictions, labels):
            return {**super().evaluate(predictions, labels), "rare": float("nan")}

    entry = run_training(Partly, settings)
    assert entry.promoted
    assert entry.metrics.keys() == entry.held_out.keys() == {"r2", "mae", "rmse"}


def test_folds_that_lack_a_label_are_left_out(settings, doubler_class):
    """Two rows to fit on are of the rare class: most folds have none to measure on, and so no ROC curve."""

    class Rare(doubler_class):
        primary_metric = "roc_auc"

        def evaluate(self, predictions, labels):
            return classification_metrics([min(1.0, max(0.0, one.double)) for one in predictions], labels)

    numbers = [float(n) for n in range(100)]
    groups = [split_key(None, Rare.Features(number=n)) for n in numbers]
    fitting, held_out = split(100, settings.seed, groups)
    rare = {numbers[row] for row in (*fitting[:2], held_out[0])}
    entry = run_training(Rare, settings, examples=[Example({"number": n}, n in rare) for n in numbers])
    assert entry.outcome == "completed"
    assert 0 <= entry.models[0].cross_validation["roc_auc"].mean <= 1


def test_labels_may_be_lists(settings, doubler_class):
    class Lists(doubler_class):
        Label = list[float]

        def new_estimator(self, seed):
            from sklearn.linear_model import LinearRegression

            return LinearRegression()

        def predict(self, rows):
            return [self.Prediction(values[0]) for values in self.estimator.predict(self.build_inputs(rows)).tolist()]

        def evaluate(self, predictions, labels):
            return super().evaluate(predictions, [label[0] for label in labels])

    rows = [Example({"number": float(n)}, [2.0 * n, 1.0]) for n in range(50)]
    entry = run_training(Lists, settings, examples=rows)
    assert entry.metrics["r2"] == pytest.approx(1.0)


def test_a_failing_search_is_named_and_the_champion_stays(settings, champion, one_of_a_kind):
    broken = Candidate("broken", ridge, {}, lambda trial: {"beta": trial.suggest_float("beta", 0, 1)}, trials=3)
    with pytest.raises(FitFailed, match="candidate broken failed: KeyError: 'alpha'"):
        run_training(one_of_a_kind(broken), settings)
    assert champion()


def test_a_model_that_the_registry_would_not_open_is_refused_and_the_champion_stays(settings, champion, one_of_a_kind):
    class Untrusted:
        def fit(self, columns, labels):
            return self

        def predict(self, columns):
            return columns[:, 0] * 2

    with pytest.raises(RegistryError, match="types that are not trusted"):
        run_training(one_of_a_kind(Candidate("untrusted", lambda params, seed: Untrusted())), settings)
    assert champion()


def test_a_dataset_that_can_not_be_had_is_logged(doubler_class, settings):
    class Offline(doubler_class):
        @classmethod
        def examples(cls, data_dir=None):
            raise DatasetUnavailable("can't download it")

    with pytest.raises(DatasetUnavailable):
        run_training(Offline, settings)
    assert last_entry(settings).error == "DatasetUnavailable: can't download it"


def test_an_interruption_is_logged_and_the_champion_stays(compared_class, settings, champion):
    def interrupt(step: str, done: int, total: int) -> None:
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(compared_class, settings, on_progress=interrupt)
    assert last_entry(settings).error.startswith("KeyboardInterrupt")
    assert champion()


def test_without_a_log_there_is_no_promotion(compared_class, settings, champion, monkeypatch):
    def full(path, entry):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training_log, "append", full)
    better = [Example({"number": n}, 3.0 * n) for n in range(50)]
    with pytest.raises(OSError, match="No space left") as raised:
        run_training(compared_class, settings, examples=better)
    assert "training log could not be written either" in raised.value.__notes__[0]
    assert champion()
