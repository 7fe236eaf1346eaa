"""Against the champion: on the same rows, of which neither was fitted on any, or else the reason says so."""

import errno
from pathlib import Path

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training import run_log as training_log
from machine_learning_engineering.training.pipeline import run_training
from machine_learning_engineering.training.quick import train

pytest.importorskip("pyarrow")
pytest.importorskip("optuna")

MAY_KNOW = "which may have been fitted on some of these rows: its own were held out"


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


def test_against_a_champion_of_the_same_data_recorded_metrics_decide(doubler_class, settings):
    assert train(doubler_class, settings).promoted
    entry = run_training(doubler_class, settings)
    assert not entry.promoted
    assert "is not better than" in entry.reason


def test_on_other_data_the_champion_is_measured_again(doubler_class, settings):
    """Its recorded metric is perfect, but it is that of a world in which the label was another."""
    assert train(doubler_class, settings).metrics["r2"] == pytest.approx(1.0)
    halves = [Example({"number": n}, n / 2 + (-1) ** n / 10) for n in range(50)]
    entry = run_training(doubler_class, settings, examples=halves)
    assert entry.metrics["r2"] < 1
    assert entry.promoted
    assert Registry(settings.registry_dir).champions() == {"doubler": entry.version}


def test_rows_that_are_added_do_not_let_a_champion_be_measured_on_what_it_knows(memorizing_class, settings):
    """It would be right on them, and whatever is new would look worse than it."""
    champion = run_training(memorizing_class, settings, examples=noisy(200))
    more = run_training(memorizing_class, settings, examples=noisy(1_000))
    assert not parts_of(champion, "fit") & parts_of(more, "held-out")
    assert parts_of(champion, "held-out") < parts_of(more, "held-out")
    measured = Registry(settings.registry_dir).open("doubler", champion.version, model_class=memorizing_class)
    known = [measured.decode(msgspec.json.encode(one.features)) for one in noisy(200)]
    assert measured.evaluate(measured.predict(known), [one.label for one in noisy(200)])["r2"] > 0.8
    assert float(more.reason.rpartition(" of v1")[0].split()[-1]) < 0.6
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
    assert entry.reason.endswith(f"of v1, {MAY_KNOW} {how}")


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_promotion_that_fails_is_logged_as_what_came_of_it(doubler_class, settings, monkeypatch, written):
    """The log has been written when the alias is; the disk may be full, or fail once the alias is there."""
    train(doubler_class, settings)
    replace = durable.replace

    def full(path: Path, content: bytes) -> None:
        if path.name != "aliases.json":
            return replace(path, content)
        if written:
            replace(path, content)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "replace", full)
    other = [Example({"number": n}, 3.0 * n) for n in range(50)]
    with pytest.raises(OSError, match="No space left"):
        run_training(doubler_class, settings, examples=other)
    first, last = training_log.read(settings.training_log)
    assert first.run_id == last.run_id
    assert (first.outcome, first.promoted) == ("completed", True)
    assert (last.outcome, last.promoted) == ("failed", written)
    assert Registry(settings.registry_dir).champions() == {"doubler": "v2" if written else "v1"}
