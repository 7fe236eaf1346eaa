"""Rehearsals of a declaration, or of a version in the registry, on the newest events of its topic."""

from inflight.adapters.adoption import Options, from_declaration, rehearsal
from inflight.adapters.newest import newest_records
from inflight.settings import Settings
from machine_learning_engineering.adoption.model import AdoptedModel
from machine_learning_engineering.adoption.rehearsal import Rehearsal, rehearse
from machine_learning_engineering.adoption.release import AdoptionRefused
from machine_learning_engineering.registry.registry import Registry


def rehearse_model(model: str, last: int, settings: Settings) -> tuple[str, Rehearsal]:
    """Score the newest events of a model's topic.

    Args:
        model: Path of a declaration, or name or URI of a version.
        last: Number of events.

    Returns:
        The model's name and version, and the rehearsal.

    Raises:
        AdoptionRefused: The model is not adopted, or has no topic.
        RegistryError: The version can't be opened.
    """
    if model.endswith(".toml"):
        found = from_declaration(model, Options(), settings, events=last)
        done = rehearsal(found, settings)
        if done is None:
            raise AdoptionRefused(f"{model} has no [source]: write the topic whose events are requests")
        return found.declaration.model.name, done
    registry = Registry(settings.registry_dir)
    name, version = registry.locate(model)
    if registry.declaration(name, version) is None:
        raise AdoptionRefused(f"`{name}` {version} is a model of a class: inflight replay sends its own rows")
    opened = registry.open(name, version, model_class=AdoptedModel)
    source = opened.declared.source
    if source is None:
        raise AdoptionRefused(f"`{name}` {version} has no [source]: adopt it with --topic")
    records = newest_records(settings, source.topic, last)
    profile = registry.profile(name, version)
    done = rehearse(opened, records, profile, significance=settings.drift_significance)
    return f"{name} {version}", done
