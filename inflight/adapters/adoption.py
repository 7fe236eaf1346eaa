"""What `inflight adopt` and `inflight try` look at: model, sample, declaration, events."""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from inflight.adapters.newest import newest_records
from inflight.settings import Settings
from machine_learning_engineering.adoption.inspection import inspect_model
from machine_learning_engineering.adoption.matching import EventFields, find_fields
from machine_learning_engineering.adoption.model import AdoptedModel
from machine_learning_engineering.adoption.opening import ModelRefused, OpenedModel, open_model
from machine_learning_engineering.adoption.proposal import Facts, Proposal, model_name, propose
from machine_learning_engineering.adoption.rehearsal import Record, Rehearsal, rehearse
from machine_learning_engineering.adoption.release import AdoptionRefused, Candidate, measure
from machine_learning_engineering.adoption.sample import Sample, UnreadableSample, read_sample
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.reading import InvalidDeclaration, located, parse_declaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION

EXPECTED = (ModelRefused, InvalidDeclaration, UnreadableSample, AdoptionRefused, RegistryError, ValueError, ImportError)
"""Errors whose message names the fix."""
_EVENTS = 500


class Options(NamedTuple):
    """What a person says about a fitted model; empty for what is to be found out."""

    name: str = ""
    label: str = ""
    sample: str = ""
    topic: str = ""
    folder: Path = Path()
    """Of the declaration, which names files relative to it."""


class Found(NamedTuple):
    """A declared model, put together."""

    declaration: Declaration
    text: str
    opened: OpenedModel
    sample: Sample | None
    sample_name: str
    sample_sha256: str
    fields: EventFields | None
    records: list[Record]
    proposal: Proposal | None
    """None if the declaration was given."""
    notes: list[str]
    """What a person should know or decide."""
    candidate: Candidate | None
    """None while fields of the events are not decided."""


def from_model(source: str, options: Options, settings: Settings) -> Found:
    """Look at a fitted model.

    Args:
        source: File or URI of the model.
        options: What is known.
        settings: For the topic.

    Raises:
        One of `EXPECTED`, or an error of Kafka or of the operating system.
    """
    opened = open_model(source)
    name = options.name or model_name(source)
    label = options.label or "label"
    sample = read_sample(options.sample, label) if options.sample else None
    if options.label and sample is not None and sample.labels is None:
        columns = ", ".join(map(str, sample.frame.columns[:20]))
        raise UnreadableSample(f"{options.sample} has no column `{label}`: --label names one of {columns}")
    inspection = inspect_model(opened.estimator, None if sample is None else sample.frame, label, opened.signature)
    if sample is not None and opened.format != "skops":
        # The original object answers the sample where it was opened, because it never comes here.
        opened = open_model(source, sample.frame[list(inspection.features)])
    records = newest_records(settings, options.topic, _EVENTS) if options.topic else []
    fields = find_fields((record.key, record.value) for record in records) if options.topic else None
    facts = Facts(
        name=name,
        label=label,
        file=_relative(source, options.folder),
        sample=_relative(options.sample, options.folder),
        origin=f"Made from {Path(source).name} ({opened.format}, scikit-learn {opened.scikit_learn_version}).",
    )
    proposal = propose(facts, opened.estimator, inspection, options.topic, fields)
    candidate = None
    if not proposal.undecided:
        content = proposal.text.encode()
        declared = parse_declaration(content, f"{name}.toml")
        candidate = _measured(declared, content, f"{name}.toml", opened, sample, settings)
    digest = _sha256(options.sample)
    return Found(
        proposal.declaration,
        proposal.text,
        opened,
        sample,
        options.sample,
        digest,
        fields,
        records,
        proposal,
        inspection.notes,
        candidate,
    )


def from_declaration(path: str, options: Options, settings: Settings, *, events: int = _EVENTS) -> Found:
    """Look at a declaration that somebody has edited.

    Args:
        path: The TOML file.
        options: `sample` goes before the one in the file.
        settings: For the registry and the topic.
        events: Number of newest events to read.

    Raises:
        As `from_model`.
    """
    content = Path(path).read_bytes()
    declaration = parse_declaration(content, path)
    folder = Path(path).parent
    sample_name = options.sample or _absolute(declaration.model.sample, folder)
    sample = read_sample(sample_name, declaration.model.label) if sample_name and Path(sample_name).exists() else None
    if sample is None and options.sample:
        raise UnreadableSample(f"{options.sample} does not exist: --sample names a file of labelled rows")
    opened = _open_declared(declaration, folder, sample, settings)
    topic = "" if declaration.source is None else declaration.source.topic
    records = newest_records(settings, topic, events) if topic else []
    fields = find_fields((record.key, record.value) for record in records) if topic else None
    candidate = _measured(declaration, content, path, opened, sample, settings)
    digest = _sha256(sample_name if sample is not None else "")
    text = content.decode()
    return Found(declaration, text, opened, sample, sample_name, digest, fields, records, None, [], candidate)


def rehearsal(found: Found, settings: Settings) -> Rehearsal | None:
    """Score the newest events of the declaration's topic; None without a topic, or while it is not decided."""
    if found.candidate is None or found.declaration.source is None:
        return None
    reference = found.candidate.profile
    return rehearse(found.candidate.model, found.records, reference, significance=settings.drift_significance)


def _open_declared(declaration: Declaration, folder: Path, sample: Sample | None, settings: Settings) -> OpenedModel:
    frame: Any = None
    if sample is not None and not (set(declaration.features) - set(sample.frame.columns)):
        frame = sample.frame[list(declaration.features)]
    if declaration.model.file:
        source = _absolute(declaration.model.file, folder)
        if "://" in source or ":/" in source or Path(source).exists():
            return open_model(source, frame)
    registry, name = Registry(settings.registry_dir), declaration.model.name
    if not (versions := registry.versions(name)):
        raise AdoptionRefused(
            f"model.file: {declaration.model.file or 'it is not set'}, and the registry has no version of `{name}`: "
            "write the path of the fitted model, relative to the declaration"
        )
    version = registry.alias(name, CHAMPION) or versions[-1]
    opened = registry.open(name, version, model_class=AdoptedModel)
    manifest = registry.manifest(name, version)
    return OpenedModel(
        opened.estimator,
        b"",
        (),
        str(manifest.params.get("adopted_from", "registry")),
        str(manifest.params.get("adopted_sha256", "")),
        manifest.scikit_learn_version,
        None,
        None,
    )


def _measured(
    declaration: Declaration, content: bytes, name: str, opened: OpenedModel, sample: Sample | None, settings: Settings
) -> Candidate:
    try:
        return measure(declaration, content, opened, sample, settings.seed)
    except DeclarationProblem as problem:
        raise located(problem, content, name) from problem


def _relative(source: str, folder: Path) -> str:
    """A file as the declaration names it; a URI as it is."""
    if not source or "://" in source or source.startswith(("mlflow:", "models:")):
        return source
    return Path(os.path.relpath(source, folder)).as_posix()


def _absolute(source: str, folder: Path) -> str:
    if not source or "://" in source or source.startswith(("mlflow:", "models:")):
        return source
    return str(folder / source)


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
