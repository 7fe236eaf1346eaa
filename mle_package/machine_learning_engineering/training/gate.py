"""The champion measured on the rows that a new version was measured on, and whether it may know them already."""

from machine_learning_engineering.model import MLEModel
from machine_learning_engineering.registry.manifest import Manifest
from machine_learning_engineering.training import Compared
from machine_learning_engineering.training.data import Parts
from machine_learning_engineering.training.evaluation import measure


def champion_on(parts: Parts, champion: MLEModel, manifest: Manifest) -> Compared:
    """The champion's primary metric on the held-out rows: the recorded one if these rows are the same, else measured.

    Raises:
        ValueError: a metric is no finite number, or the primary one is missing.
    """
    metric = champion.primary_metric
    same_seed = manifest.seed == parts.seed
    # Places depend on the seed, and old versions have none recorded: then any row may have been fitted on.
    fitted_from = manifest.params.get("fitted_from", 0.0) if same_seed else 0.0
    same_data = manifest.training_data_sha256 == parts.training_data_sha256
    if same_data and fitted_from == parts.fitted_from and metric in manifest.metrics:
        return Compared(manifest.metrics[metric])
    found = measure(champion, parts.held_out, parts.held_out_labels)[metric]
    if fitted_from > parts.held_out_to:
        return Compared(found)
    how = "in another way" if same_seed else "by another seed"
    return Compared(found, f", which may have been fitted on some of these rows: its own were held out {how}")
