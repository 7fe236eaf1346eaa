"""The champion measured on the rows that a new version was measured on, and whether it may know them already."""

from collections.abc import Callable
from typing import NamedTuple

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.estimates import measure
from machine_learning_engineering.registry.manifest import Manifest, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.training.data import TrainTestSplit


class ChampionScore(NamedTuple):
    """A champion's primary metric, and what has to be said of it right after its name."""

    metric: float
    remark: str = ""


def champion_on(parts: TrainTestSplit, champion: Model, manifest: Manifest) -> ChampionScore:
    """The champion's primary metric on the held-out rows: the recorded one if these rows are the same, else measured.

    Raises:
        ValueError: a metric is no finite number, or the primary one is missing.
    """
    metric = champion.primary_metric
    same_seed = manifest.seed == parts.seed
    # Places depend on the seed, and old versions have none recorded: then any row may have been fitted on.
    train_min_hash = manifest.params.get("train_min_hash", 0.0) if same_seed else 0.0
    same_data = manifest.training_data_sha256 == parts.training_data_sha256
    if same_data and train_min_hash == parts.train_min_hash and metric in manifest.metrics:
        return ChampionScore(manifest.metrics[metric])
    found = measure(champion, parts.held_out, parts.held_out_labels)[metric]
    if train_min_hash > parts.test_max_hash:
        return ChampionScore(found)
    how = "in another way" if same_seed else "by another seed"
    return ChampionScore(found, f", which may have been fitted on some of these rows: its own were held out {how}")


def promote_if_better(
    registry: Registry,
    model_class: type[Model],
    version: str,
    *,
    measured: Callable[[Model, Manifest], ChampionScore] | None = None,
    decided: Callable[[bool, str], None] = lambda promoted, reason: None,
) -> tuple[bool, str]:
    """Make a version the champion if there is none, or if the one there is can't be opened or has a lower metric.

    Args:
        measured: the primary metric of the champion, and what the reason should say of it; the one in its manifest by
            default.
        decided: told the decision before it takes effect; if it raises, the champion stays.

    Returns:
        Whether it was promoted, and why.

    Raises:
        CorruptModel: who is the champion can't be read.
    """
    with registry.edit_aliases(model_class.name) as aliases:
        champion = aliases.get(CHAMPION)
        promoted, reason = _is_better(registry, model_class, version, champion, measured)
        decided(promoted, reason)
        if promoted:
            aliases[CHAMPION] = version
            aliases.reason = reason
    return promoted, reason


def _is_better(
    registry: Registry,
    model_class: type[Model],
    version: str,
    champion: str | None,
    measured: Callable[[Model, Manifest], ChampionScore] | None,
) -> tuple[bool, str]:
    name, metric = model_class.name, model_class.primary_metric
    if champion is None:
        return True, "the first version"
    try:
        model = registry.open(name, champion, model_class=model_class)
        manifest = registry.manifest(name, champion)
        best, remark = ChampionScore(manifest.metrics[metric]) if measured is None else measured(model, manifest)
    except (RegistryError, KeyError) as error:
        return True, f"the champion {champion} can't be opened or compared: {error}"
    reached = registry.manifest(name, version).metrics[metric]
    if reached > best:
        return True, f"{metric} {reached:.5g} is better than {best:.5g} of {champion}{remark}"
    return False, f"{metric} {reached:.5g} is not better than {best:.5g} of {champion}{remark}"
