"""Promotion of a new version: the champion's metric on the same rows, and the rule."""

from collections.abc import Callable
from typing import NamedTuple

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.estimates import measure
from machine_learning_engineering.registry.manifest import Manifest, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.training.data import TrainTestSplit


class ChampionScore(NamedTuple):
    """A champion's primary metric, and a remark that follows its version in the reason."""

    metric: float
    remark: str = ""


def champion_on(parts: TrainTestSplit, champion: Model, manifest: Manifest) -> ChampionScore:
    """The champion's primary metric on held-out rows: the recorded one if the rows are the same, else measured.

    Raises:
        ValueError: A metric is not finite, or the primary one is missing.
    """
    metric = champion.primary_metric
    same_seed = manifest.seed == parts.seed
    # Hashes depend on the seed. Without a recorded hash the champion may have been fitted on any row.
    train_min_hash = manifest.params.get("train_min_hash", 0.0) if same_seed else 0.0
    same_data = manifest.training_data_sha256 == parts.training_data_sha256
    if same_data and train_min_hash == parts.train_min_hash and metric in manifest.metrics:
        return ChampionScore(manifest.metrics[metric])
    found = measure(champion, parts.held_out, parts.held_out_labels)[metric]
    if train_min_hash > parts.test_max_hash:
        return ChampionScore(found)
    how = "in another way" if same_seed else "with another seed"
    return ChampionScore(found, f", which may have been fitted on some of these rows: its own were held out {how}")


def promote_if_better(
    registry: Registry,
    model_class: type[Model],
    version: str,
    *,
    measured: Callable[[Model, Manifest], ChampionScore] | None = None,
    decided: Callable[[bool, str], None] = lambda promoted, reason: None,
) -> tuple[bool, str]:
    """Promote a version if there is no champion, or if the champion can't be opened or has a lower primary metric.

    Args:
        measured: Returns the champion's score; by default the metric in its manifest.
        decided: Called with the decision and its reason before it takes effect. If it raises, the champion stays.

    Returns:
        Whether the version was promoted, and why.

    Raises:
        CorruptModel: The aliases are unreadable.
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
    better = reached > best
    verdict = "is better than" if better else "is not better than"
    return better, f"{metric} {reached:.5g} {verdict} {best:.5g} of {champion}{remark}"
