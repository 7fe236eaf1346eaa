"""Training and test rows from sources, by way of the three data layers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.splits import HeldOut, hash_fraction, split
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.storage.location import parse_place
from machine_learning_engineering.training import layers
from machine_learning_engineering.training.sources import collect

if TYPE_CHECKING:
    from machine_learning_engineering.prediction_log.store import PredictionLog


class TrainTestSplit(NamedTuple):
    """Training rows and held-out rows, each with labels and split keys.

    `train_min_hash` is the lowest hash of a training row, see `evaluation.splits.hash_fraction`.
    """

    rows: list[Any]
    labels: list[Any]
    groups: list[bytes]
    held_out: HeldOut
    train_min_hash: float
    seed: int
    training_data_sha256: str


def prepare(
    model_class: type[Model],
    settings: KernelSettings,
    sources: Sequence[str],
    examples: Iterable[Example] | None,
    *,
    logs: "Mapping[str, PredictionLog] | None",
    on_progress: Callable[[str], None],
    record: Callable[..., None],
) -> TrainTestSplit:
    """Write the layers and read the rows back from the silver layer, so that training uses what is stored.

    Args:
        logs: See `training.sources.collect`.
        on_progress: Called with each step when it begins.
        record: Called with fields of the training's entry as soon as they are known, also for a failed training.

    Raises:
        SourceUnreadable: A source is unreadable.
        DatasetUnavailable: The model's dataset is unavailable.
        BadData: Records do not fit the model's schema.
        ValueError: There are too few rows.
        OSError: A layer can't be written.
    """
    model, folder = model_class(), settings.layers_dir
    on_progress("reading the data")
    found = collect(model_class, settings, sources, examples=examples, logs=logs)
    record(sources=found.sources, training_data_sha256=found.sha256)
    bronze = layers.write(folder, "bronze", model, layers.bronze_table(found.records), sources=found.sources)
    record(layers={"bronze": bronze})
    on_progress(f"checking {len(found.records)} records")
    accepted = layers.validate(model, found.records)
    fitting, held_out = split(len(accepted.rows), settings.seed, accepted.groups)
    table = layers.silver_table(model, accepted, found.records)
    silver = layers.write(folder, "silver", model, table, parents=[bronze])
    gold = layers.write(folder, "gold", model, layers.gold_table(model, accepted, held_out), parents=[silver])
    record(
        layers={"bronze": bronze, "silver": silver, "gold": gold},
        rows_trained=len(fitting),
        rows_held_out=len(held_out),
    )
    rows, labels = layers.rows_of(model, layers.read(parse_place(silver.path))[1])
    return TrainTestSplit(
        [rows[index] for index in fitting],
        [labels[index] for index in fitting],
        [accepted.groups[index] for index in fitting],
        HeldOut.select(rows, labels, accepted.groups, held_out, settings.seed),
        hash_fraction(accepted.groups[fitting[0]], settings.seed),
        settings.seed,
        found.sha256,
    )
