"""The promotion rule: on the same rows, better on new ones and not worse on the champion's, in every training."""

import errno
from pathlib import Path

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.drift.profile import Profile
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training import run_log as training_log
from machine_learning_engineering.training.pipeline import run_training
from machine_learning_engineering.training.quick import train

pytest.importorskip("pyarrow")
pytest.importorskip("optuna")

MAY_KNOW = "v1 may have been fitted on some of these rows: its own were held out"


def noisy(count: int) -> list[Example]:
    """The same first rows for every count."""
    random = np.random.default_rng(5)
    rows = zip(random.uniform(0, 100, 2_000).tolist(), random.normal(0, 40, 2_000).tolist(), strict=True)
    return [Example({"number": number}, 2.0 * number + error) for number, error in rows][:count]


@pytest.fixture
def memorizing_class(doubler_class):
    """Answers each row that it was fitted on with its very label."""

    class Memorizing(doubler_class):
        trusted_types = frozenset({"sklearn.tree._tree.Tree"})

        def new_estimator(self, seed):
            from sklearn.tree import DecisionTreeRegressor

            return DecisionTreeRegressor(random_state=seed)

    return Memorizing


def parts_of(entry: training_log.TrainingEntry, part: str) -> set[float]:
    from machine_learning_engineering.training import layers

    _, gold = layers.read(Path(entry.layers["gold"].path))
    return {row["input_0"] for row in gold.to_pylist() if row["part"] == part}


def linear(count: int, slope: float, noise: float, seed: int = 1) -> list[Example]:
    random = np.random.default_rng(seed)
    rows = zip(random.uniform(0, 100, count).tolist(), random.normal(0, noise, count).tolist(), strict=True)
    return [Example({"number": number}, slope * number + error) for number, error in rows]


def trained(how, model_class, settings, examples) -> tuple[str, bool, str]:
    if how == "quick":
        run = train(model_class, settings, examples=examples)
        return run.version, run.promoted, run.reason
    entry = run_training(model_class, settings, examples=examples)
    return entry.version, entry.promoted, entry.reason


BOTH = pytest.mark.parametrize("how", ["quick", "pipeline"])


@BOTH
def test_an_equal_version_of_the_same_data_is_not_promoted(how, doubler_class, settings):
    assert train(doubler_class, settings).promoted
    _, promoted, reason = trained(how, doubler_class, settings, list(doubler_class.examples()))
    assert not promoted
    assert "is not significantly better than" in reason


@BOTH
def test_easier_rows_do_not_make_a_version_better(how, doubler_class, settings):
    """The recorded metrics differ by far, but those are of different rows: on the same ones the models are equal."""
    first = train(doubler_class, settings, examples=linear(600, 2.0, 60.0))
    version, promoted, reason = trained(how, doubler_class, settings, linear(200, 2.0, 0.1, seed=2))
    recorded = Registry(settings.registry_dir).manifest("doubler", version).metrics["r2"]
    assert first.metrics["r2"] < 0.7 < 0.99 < recorded
    # On rows without noise the new fit is closer, and both are right.
    assert "r2 1 of v2" in reason
    assert float(reason.split("better than ")[1].split()[0]) > 0.95
    assert promoted == ("not significantly worse" in reason)


@BOTH
def test_an_odd_export_does_not_replace_the_champion(how, doubler_class, settings):
    """Few rows of another task, which are easy to learn. The champion is bad at it, and the version at the old one."""
    train(doubler_class, settings, examples=linear(600, 2.0, 30.0))
    _, promoted, reason = trained(
        how,
        doubler_class,
        settings,
        [Example({"number": one.features["number"]}, 100 - one.label) for one in linear(200, 1.0, 0.1, seed=2)],
    )
    assert not promoted
    assert "is better than" in reason
    assert "but worse on the" in reason
    assert "inflight models promote doubler:v2" in reason
    assert Registry(settings.registry_dir).champions() == {"doubler": "v1"}


@BOTH
def test_a_version_that_is_better_on_both_replaces_the_champion(how, memorizing_class, doubler_class, settings):
    """The champion has learned noise by heart."""

    class Line(memorizing_class):
        new_estimator = doubler_class.new_estimator

    train(memorizing_class, settings, examples=linear(300, 2.0, 30.0))
    version, promoted, reason = trained(how, Line, settings, linear(600, 2.0, 30.0, seed=2))
    assert promoted, reason
    assert "and not significantly worse on the" in reason
    assert Registry(settings.registry_dir).champions() == {"doubler": version}


def test_equal_versions_rarely_replace_one_another(doubler_class, tmp_path):
    """A coin would promote every second one; the rule states 5 % at most."""
    promotions = 0
    for run in range(30):
        settings = KernelSettings(home=tmp_path / str(run), _env_file=None)
        train(doubler_class, settings, examples=linear(100, 2.0, 30.0, seed=run))
        promotions += train(doubler_class, settings, examples=linear(100, 2.0, 30.0, seed=1_000 + run)).promoted
    assert promotions <= 5  # more would be a chance of 1 in 1,000


def test_rows_of_one_group_are_one_reason_to_promote(doubler_class, settings):
    """The held-out rows are of a few groups, whose rows are all alike."""

    def copies(seed):
        return [
            Example(one.features, one.label, f"{seed}-{number // 50}")
            for number, one in enumerate(linear(1_000, 2.0, 30.0, seed=seed))
        ]

    train(doubler_class, settings, examples=copies(1))
    run = train(doubler_class, settings, examples=[Example(e.features, 3 * e.label, e.group) for e in copies(2)])
    groups = len({row.group for row in Registry(settings.registry_dir).profile("doubler", "v1").held_out_rows})
    assert 2 <= groups < 10
    assert run.rows_held_out > 100
    if groups < 5:
        assert "too few to show a difference" in run.reason


@pytest.mark.parametrize("profile", ["without rows", "none"])
def test_a_champion_without_stored_rows_is_replaced_by_a_person_only(doubler, doubler_class, settings, profile):
    """Its version is older than the rule. On the new rows it is by far the worse."""
    registry = Registry(settings.registry_dir)
    doubler.estimator.coef_ = doubler.estimator.coef_ * 3
    stored = None if profile == "none" else Profile(features={}, predictions={})
    version = registry.save(doubler, metrics={"r2": 0.1}, training_data_sha256="", seed=settings.seed, profile=stored)
    registry.promote("doubler", version)
    run = train(doubler_class, settings)
    assert not run.promoted
    assert (
        "they can't be compared on the rows that were held out for v1: its profile holds no held-out rows" in run.reason
    )
    assert "inflight models promote doubler:v2" in run.reason


def test_a_champion_that_fails_on_the_new_rows_stays_and_the_reason_says_so(doubler_class, settings):
    class Choosy(doubler_class):
        def predict(self, rows):
            if self.version == "v1" and any(row.number > 60 for row in rows):
                raise ArithmeticError("too large")
            return super().predict(rows)

    train(Choosy, settings)
    run = train(Choosy, settings, examples=linear(200, 3.0, 1.0))
    assert not run.promoted
    assert "v2 can't be compared with v1: v1 fails on the rows (ArithmeticError: too large)" in run.reason


def test_stored_rows_are_the_held_out_ones_within_their_size(doubler_class, settings):
    run = train(doubler_class, settings, examples=linear(600, 2.0, 30.0))
    stored = Registry(settings.registry_dir).profile("doubler", run.version).held_out_rows
    labels = {one.features["number"]: one.label for one in linear(600, 2.0, 30.0)}
    assert len(stored) == len({row.group for row in stored}) == run.rows_held_out
    assert all(labels[row.features["number"]] == row.label for row in stored)


def test_rows_that_are_added_do_not_let_a_champion_be_measured_on_what_it_knows(memorizing_class, settings):
    """It would be right on them, and whatever is new would look worse than it."""
    champion = run_training(memorizing_class, settings, examples=noisy(200))
    more = run_training(memorizing_class, settings, examples=noisy(1_000))
    assert not parts_of(champion, "fit") & parts_of(more, "held-out")
    assert parts_of(champion, "held-out") < parts_of(more, "held-out")
    measured = Registry(settings.registry_dir).open("doubler", champion.version, model_class=memorizing_class)
    known = [measured.decode(msgspec.json.encode(one.features)) for one in noisy(200)]
    assert measured.evaluate(measured.predict(known), [one.label for one in noisy(200)])["r2"] > 0.8
    assert float(more.reason.partition(" of v1")[0].split()[-1]) < 0.6
    assert MAY_KNOW not in more.reason


def test_a_row_stays_on_its_side_from_whatever_file_it_comes(doubler_class, settings, tmp_path):
    from_dataset = run_training(doubler_class, settings)
    (tmp_path / "new.csv").write_text("label,number\n" + "".join(f"{2 * n},{n}\n" for n in reversed(range(100))))
    both = run_training(doubler_class, settings, sources=[str(tmp_path / "new.csv"), "dataset"])
    assert parts_of(from_dataset, "held-out") == {n for n in parts_of(both, "held-out") if n < 50}
    assert both.rows_trained + both.rows_held_out == 150


@pytest.mark.parametrize(("changes", "how"), [({"seed": 8}, "with another seed"), ({}, "in another way")])
def test_a_champion_that_may_know_the_rows_is_told_in_the_reason(memorizing_class, settings, changes, how):
    """Its seed was another, or it is of the time before a row's side was its own affair."""
    run_training(memorizing_class, settings.model_copy(update=changes), examples=noisy(200))
    if not changes:
        path = settings.registry_dir / "doubler" / "v1" / "manifest.json"
        manifest = msgspec.json.decode(path.read_bytes())
        del manifest["params"]["train_min_hash"]
        path.write_bytes(msgspec.json.encode(manifest))
    entry = run_training(memorizing_class, settings, examples=noisy(200))
    assert not entry.promoted
    assert f"({MAY_KNOW} {how})" in entry.reason


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_promotion_that_fails_is_logged_as_what_came_of_it(doubler_class, settings, monkeypatch, written):
    """The log has been written when the alias is; the disk may be full, or fail once the alias is there."""
    train(doubler_class, settings, examples=noisy(200))
    (settings.registry_dir / "doubler" / "v1" / "model.skops").write_bytes(b"damaged")
    replace = durable.replace

    def full(path: Path, content: bytes) -> None:
        if path.name != "aliases.json":
            return replace(path, content)
        if written:
            replace(path, content)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        run_training(doubler_class, settings)
    first, last = training_log.read(settings.training_log)
    assert first.run_id == last.run_id
    assert (first.outcome, first.promoted) == ("completed", True)
    assert (last.outcome, last.promoted) == ("failed", written)
    assert Registry(settings.registry_dir).champions() == {"doubler": "v2" if written else "v1"}
